package loadbalancing

import (
	"cmp"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringhashv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// ConfigureCluster implements feature.ClusterConfigurer. What is hashed stands at the cluster too, not at its routes:
// so each service of a weighted split has its own key, and every way to the service obeys it.
func (s *Spec) ConfigureCluster(_ *model.Cluster, out *clusterv3.Cluster) error {
	name, config := s.extension()
	packed, err := feature.Pack(config)
	if err != nil {
		return err
	}
	out.LoadBalancingPolicy = &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "envoy.load_balancing_policies." + name, TypedConfig: packed},
	}}}
	return nil
}

func (s *Spec) extension() (name string, config proto.Message) {
	switch s.policy() {
	case RoundRobin:
		return "round_robin", &roundrobinv3.RoundRobin{SlowStartConfig: s.slowStart()}
	case Random:
		return "random", &randomv3.Random{}
	case RingHash:
		return "ring_hash", &ringhashv3.RingHash{ConsistentHashingLbConfig: s.HashOn.consistent()}
	case Maglev:
		return "maglev", &maglevv3.Maglev{ConsistentHashingLbConfig: s.HashOn.consistent()}
	}
	least := &leastrequestv3.LeastRequest{SlowStartConfig: s.slowStart()}
	if s.ChoiceCount > 0 {
		least.ChoiceCount = wrapperspb.UInt32(s.ChoiceCount)
	}
	return "least_request", least
}

func (s *Spec) slowStart() *commonv3.SlowStartConfig {
	if s.SlowStart == 0 {
		return nil
	}
	return &commonv3.SlowStartConfig{SlowStartWindow: durationpb.New(s.SlowStart.D())}
}

func (h *HashOn) consistent() *commonv3.ConsistentHashingLbConfig {
	return &commonv3.ConsistentHashingLbConfig{HashPolicy: []*routev3.RouteAction_HashPolicy{h.hashPolicy()}}
}

func (h *HashOn) hashPolicy() *routev3.RouteAction_HashPolicy {
	switch {
	case h.Header != "":
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: strings.ToLower(h.Header)},
		}}
	case h.Query != "":
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: h.Query},
		}}
	case h.Cookie != nil:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: h.Cookie.envoy()}}
	}
	return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
		ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
	}}
}

func (c *Cookie) envoy() *routev3.RouteAction_HashPolicy_Cookie {
	out := &routev3.RouteAction_HashPolicy_Cookie{Name: c.Name}
	if c.TTL != nil {
		out.Ttl = durationpb.New(c.TTL.D())
		out.Path = cmp.Or(c.Path, "/")
	}
	return out
}

var (
	_ feature.ClusterConfigurer = (*Spec)(nil)
	_ feature.Defaulter         = Feature{}
)
