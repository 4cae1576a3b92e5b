package translate

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

const (
	connectTimeout = 2 * time.Second
	// A cluster whose endpoints are not answered holds up every later cluster of its Envoy for this long.
	endpointsTimeout = 2 * time.Second
	httpOptionsKey   = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// packedCluster is a cluster and its endpoints as they are sent.
type packedCluster struct {
	cluster, endpoints []byte
	endpointsName      string // "" when Envoy looks them up itself
}

func (t *Translator) clusters(g *model.Gateway, out feature.Resources) error {
	out[resource.ClusterType] = make(map[string][]byte, len(g.Clusters))
	out[resource.EndpointType] = make(map[string][]byte, len(g.Clusters))
	for _, c := range g.Clusters {
		packed, err := t.packed.Get(c, func() (packedCluster, error) { return t.pack(c) })
		if err != nil {
			return fmt.Errorf("service %s: %w", c.Service, err)
		}
		out.AddReady(resource.ClusterType, c.Name, packed.cluster)
		if packed.endpointsName != "" {
			out.AddReady(resource.EndpointType, packed.endpointsName, packed.endpoints)
		}
	}
	return nil
}

func (t *Translator) pack(c *model.Cluster) (p packedCluster, err error) {
	if p.cluster, err = t.cluster(c); err != nil || c.DNS != nil {
		return p, err
	}
	p.endpointsName = model.EndpointsName(c.Name, c.Digest)
	p.endpoints, err = feature.Marshal(Endpoints(p.endpointsName, c.Endpoints))
	return p, err
}

func (t *Translator) cluster(c *model.Cluster) ([]byte, error) {
	out := &clusterv3.Cluster{
		Name:           c.Name,
		ConnectTimeout: durationpb.New(connectTimeout),
		// An endpoint that is gone from the catalog is gone, whatever its health check says.
		IgnoreHealthOnHostRemoval: true,
	}
	discover(c, out)
	if c.Discovery != nil {
		// The catalog says who is healthy. Even when it is one in ten, the others would not answer.
		out.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}}
	}
	options, err := httpOptions(c.Protocol)
	if err != nil {
		return nil, err
	}
	out.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: options}
	for _, a := range c.Attachments {
		if f, ok := a.Spec.(feature.ClusterConfigurer); ok {
			if err := f.ConfigureCluster(c, out); err != nil {
				return nil, &feature.HookError{Feature: a.Feature, From: a.From, Err: err}
			}
		}
	}
	return feature.Marshal(out)
}

// discover says where the endpoints come from.
func discover(c *model.Cluster, out *clusterv3.Cluster) {
	if c.DNS != nil {
		out.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		out.RespectDnsTtl = true
		out.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED // by default Envoy would take IPv6 alone where there is any
		out.LoadAssignment = Endpoints(c.Name, []model.Endpoint{{Address: c.DNS.Host, Port: c.DNS.Port, Weight: 1}})
		return
	}
	out.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	out.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{
		ServiceName: model.EndpointsName(c.Name, c.Digest),
		EdsConfig:   ads(endpointsTimeout),
	}
}

func httpOptions(p model.Protocol) (*anypb.Any, error) {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}
	if p == model.HTTP2 || p == model.GRPC {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(5 * time.Second)},
		}}
	}
	return feature.Pack(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	})
}

// Endpoints is a cluster's endpoints under the name that Envoy asks for, a group for each priority.
func Endpoints(name string, endpoints []model.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	groups := map[uint32]*endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		group := groups[e.Priority]
		if group == nil {
			group = &endpointv3.LocalityLbEndpoints{Priority: e.Priority}
			groups[e.Priority] = group
			out.Endpoints = append(out.Endpoints, group)
		}
		one := &endpointv3.LbEndpoint{
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(e.Address, e.Port)}},
			LoadBalancingWeight: wrapperspb.UInt32(e.Weight),
		}
		if e.Unhealthy {
			one.HealthStatus = corev3.HealthStatus_UNHEALTHY
		}
		group.LbEndpoints = append(group.LbEndpoints, one)
	}
	slices.SortFunc(out.Endpoints, func(a, b *endpointv3.LocalityLbEndpoints) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// DiscoveredEndpoints is the EDS resource of a cluster whose endpoints come from a catalog, in place of the empty one
// that Translate gives.
func DiscoveredEndpoints(c *model.Cluster, endpoints []model.Endpoint) (name string, body []byte, err error) {
	name = model.EndpointsName(c.Name, c.Digest)
	body, err = feature.Marshal(Endpoints(name, endpoints))
	return name, body, err
}

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// ads is the one stream everything comes by.
func ads(initialFetch time.Duration) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(initialFetch),
	}
}
