package proof

import (
	"fmt"
	"net/netip"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// input is a snapshot read as far as it must be changed. Route configurations stay bytes: they are nearly all of a
// snapshot, and go into the bootstrap as they are.
type input struct {
	listeners []*listenerv3.Listener
	clusters  []*clusterv3.Cluster
	secrets   []*tlsv3.Secret
	filters   map[string]*anypb.Any
	routes    *snapshot.Table
	// referring are the route configurations whose references are followed, known the clusters that they may name.
	referring *snapshot.Table
	known     []string
}

func read(s *snapshot.Snapshot) (*input, error) {
	routes := s.Table(resourcev3.RouteType)
	in := &input{filters: map[string]*anypb.Any{}, routes: routes, referring: routes, known: s.Table(resourcev3.ClusterType).Names()}
	var err error
	if in.listeners, err = decode[listenerv3.Listener](s, resourcev3.ListenerType); err != nil {
		return nil, err
	}
	if in.secrets, err = decode[tlsv3.Secret](s, resourcev3.SecretType); err != nil {
		return nil, err
	}
	if in.clusters, err = decode[clusterv3.Cluster](s, resourcev3.ClusterType); err != nil {
		return nil, err
	}
	for _, c := range in.clusters {
		makeStatic(c, s.Table(resourcev3.EndpointType))
	}
	configs, err := decode[corev3.TypedExtensionConfig](s, resourcev3.ExtensionConfigType)
	for _, c := range configs {
		in.filters[c.GetName()] = c.GetTypedConfig()
	}
	return in, err
}

// decode gives a table's resources in the order of their names.
func decode[T any, M interface {
	*T
	proto.Message
}](s *snapshot.Snapshot, typeURL string) ([]*T, error) {
	table := s.Table(typeURL)
	out := make([]*T, 0, table.Len())
	for _, name := range table.Names() {
		m := M(new(T))
		if err := proto.Unmarshal(table.Body(name), m); err != nil {
			return nil, fmt.Errorf("proof: %s %q: %w", typeURL, name, err)
		}
		out = append(out, (*T)(m))
	}
	return out, nil
}

// makeStatic leaves a cluster nothing to ask for: it gets its endpoints, or none that need a name server.
func makeStatic(c *clusterv3.Cluster, endpoints *snapshot.Table) {
	if c.GetType() != clusterv3.Cluster_EDS {
		withoutNames(c)
		return
	}
	name := c.GetEdsClusterConfig().GetServiceName()
	if name == "" {
		name = c.GetName()
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.EdsClusterConfig = nil
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if body := endpoints.Body(name); body != nil {
		c.LoadAssignment = ready(&endpointv3.ClusterLoadAssignment{}, body)
	}
}

// withoutNames puts an address in the place of every name that Envoy would look up: it does so even to validate, though
// it does not wait for the answer. A static cluster must not have names, and keeps them to be refused.
func withoutNames(c *clusterv3.Cluster) {
	if c.GetClusterType() == nil && c.GetType() == clusterv3.Cluster_STATIC {
		return
	}
	for _, locality := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			a := e.GetEndpoint().GetAddress().GetSocketAddress()
			if _, err := netip.ParseAddr(a.GetAddress()); a.GetAddress() != "" && err != nil {
				a.Address = "127.0.0.1"
			}
		}
	}
}

// whole is the bootstrap with everything in it.
func (in *input) whole() *bootstrapv3.Bootstrap {
	c := config{secrets: in.secrets, clusters: in.clusters, listeners: in.listeners, filters: in.filters, routes: map[string]*routev3.RouteConfiguration{}}
	for _, name := range in.routes.Names() {
		rc := unchecked(in.routes.Body(name))
		if len(in.listeners) == 0 {
			c.alone = append(c.alone, rc)
		}
		c.routes[name] = rc
	}
	return c.bootstrap()
}

// unchecked is a route configuration whose references Envoy does not look at: it sees them in lists only, we in
// trees too. Joining two encodings merges them.
func unchecked(body []byte) *routev3.RouteConfiguration {
	// A message of one constant field always marshals.
	off, _ := proto.Marshal(&routev3.RouteConfiguration{ValidateClusters: wrapperspb.Bool(false)})
	return ready(&routev3.RouteConfiguration{}, slices.Concat(body, off))
}

// ready makes an empty message marshal to these bytes.
func ready[M proto.Message](empty M, body []byte) M {
	empty.ProtoReflect().SetUnknown(body)
	return empty
}
