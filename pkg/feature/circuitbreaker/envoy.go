package circuitbreaker

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// ConfigureCluster implements feature.ClusterConfigurer.
func (s *Spec) ConfigureCluster(_ *model.Cluster, out *clusterv3.Cluster) error {
	if s.MaxConnections != nil || s.MaxPending != nil || s.MaxRequests != nil || s.MaxRetries != nil {
		out.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     optional(s.MaxConnections),
			MaxPendingRequests: optional(s.MaxPending),
			MaxRequests:        optional(s.MaxRequests),
			MaxRetries:         optional(s.MaxRetries),
		}}}
	}
	if s.Eject != nil {
		s.Eject.configure(out)
	}
	return nil
}

// onlyWhenNoneIsIn is the share of instances in use below which Envoy uses all of them, in percent: without it half
// of them being out would bring them all back. healthCheck.panicBelow has the last word.
const onlyWhenNoneIsIn = 1

func (e *Eject) configure(out *clusterv3.Cluster) {
	full := e.withDefaults()
	out.OutlierDetection = &clusterv3.OutlierDetection{
		Consecutive_5Xx:                    count(full.ConsecutiveErrors),
		EnforcingConsecutive_5Xx:           enforced(full.ConsecutiveErrors),
		ConsecutiveGatewayFailure:          count(full.ConsecutiveGatewayErrors),
		EnforcingConsecutiveGatewayFailure: enforced(full.ConsecutiveGatewayErrors),
		BaseEjectionTime:                   durationpb.New(full.For.D()),
		MaxEjectionTime:                    durationpb.New(full.UpTo.D()),
		MaxEjectionPercent:                 wrapperspb.UInt32(uint32(full.AtMost)),
		Interval:                           durationpb.New(full.Interval.D()),
		// Only what the block says ejects: Envoy would also compare the instances' rates of success.
		EnforcingSuccessRate: wrapperspb.UInt32(0),
		// An instance that fails requests but passes its health check stays out for as long as the block says.
		SuccessfulActiveHealthCheckUnejectHost: wrapperspb.Bool(false),
	}
	if out.CommonLbConfig.GetHealthyPanicThreshold() == nil {
		out.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: onlyWhenNoneIsIn}}
	}
}

func optional(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}

func count(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(*n)
}

// enforced is the share of ejections that are carried out.
func enforced(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(100)
}

var _ feature.ClusterConfigurer = (*Spec)(nil)
