package healthcheck

import (
	"errors"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

const (
	// initialJitter spreads the first checks of many clusters; every new cluster waits for it.
	initialJitter = 50 * time.Millisecond
	// intervalJitter spreads the checks of many Envoys, in percent of the interval.
	intervalJitter = 10
)

// ConfigureCluster implements feature.ClusterConfigurer.
func (s *Spec) ConfigureCluster(c *model.Cluster, out *clusterv3.Cluster) error {
	http2 := c.Protocol == model.HTTP2 || c.Protocol == model.GRPC
	if s.GRPC != nil && !http2 {
		return errors.New("healthCheck.grpc needs protocol: grpc or http2 on the Service")
	}
	check := &corev3.HealthCheck{
		Interval:              durationpb.New(s.Interval.D()),
		Timeout:               durationpb.New(s.Timeout.D()),
		UnhealthyThreshold:    wrapperspb.UInt32(s.UnhealthyAfter),
		HealthyThreshold:      wrapperspb.UInt32(s.HealthyAfter),
		InitialJitter:         durationpb.New(initialJitter),
		IntervalJitterPercent: intervalJitter,
		// Envoy asks a service without requests once a minute, and would know too late when the first one comes.
		NoTrafficInterval: durationpb.New(s.Interval.D()),
	}
	s.ask(check, http2)
	out.HealthChecks = []*corev3.HealthCheck{check}
	s.lastResort(out)
	return nil
}

// lastResort says when all instances are used. What the core knows better about a catalog's instances stays, unless the
// author has written something.
func (s *Spec) lastResort(out *clusterv3.Cluster) {
	if out.CommonLbConfig == nil {
		out.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
	}
	switch {
	case s.PanicBelow != nil:
		out.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: float64(*s.PanicBelow)}
	case out.CommonLbConfig.HealthyPanicThreshold == nil:
		out.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: lastResort}
	}
}

func (s *Spec) ask(check *corev3.HealthCheck, http2 bool) {
	switch {
	case s.HTTP != nil:
		check.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: s.HTTP.envoy(http2)}
	case s.GRPC != nil:
		check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: s.GRPC.Service}}
	default:
		check.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	}
}

func (h *HTTP) envoy(http2 bool) *corev3.HealthCheck_HttpHealthCheck {
	out := &corev3.HealthCheck_HttpHealthCheck{
		Path: h.Path, Host: h.Host,
		// Without it one wrong status takes an instance out, whatever unhealthyAfter says.
		RetriableStatuses: []*typev3.Int64Range{{Start: 100, End: 600}},
	}
	for _, r := range h.ExpectedStatuses {
		out.ExpectedStatuses = append(out.ExpectedStatuses, &typev3.Int64Range{Start: r.First, End: r.Last + 1})
	}
	if http2 {
		out.CodecClientType = typev3.CodecClientType_HTTP2
	}
	return out
}

var _ feature.ClusterConfigurer = (*Spec)(nil)
