package proof

import (
	"maps"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/envoy"
)

// config is what one run of Envoy looks at.
type config struct {
	secrets   []*tlsv3.Secret
	clusters  []*clusterv3.Cluster
	listeners []*listenerv3.Listener
	// filters are the configs that arrive by ECDS. A filter without one falls back to its default, or is left out.
	filters map[string]*anypb.Any
	// routes are the route configurations that listeners name. One without becomes an empty one.
	routes map[string]*routev3.RouteConfiguration
	// alone are route configurations that need no listener of the snapshot.
	alone []*routev3.RouteConfiguration
}

// bootstrap is the config as a file that needs no server: nothing in it is asked for, opened or bound.
func (c *config) bootstrap() *bootstrapv3.Bootstrap {
	r := &rewriter{filters: c.filters, routes: maps.Clone(c.routes), secrets: c.secrets, placeholder: newPlaceholder()}
	static := &bootstrapv3.Bootstrap_StaticResources{Secrets: c.secrets}
	for _, cluster := range slices.Concat(c.clusters, fixedClusters(c.clusters)) {
		static.Clusters = append(static.Clusters, rewritten(r, cluster))
	}
	for _, l := range c.listeners {
		static.Listeners = append(static.Listeners, rewritten(r, l))
	}
	for _, rc := range c.alone {
		static.Listeners = append(static.Listeners, bareListener(rc))
	}
	return &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "proof", Cluster: "proof"},
		StaticResources: static,
		LayeredRuntime:  &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{runtimeLayer()}},
		BootstrapExtensions: []*corev3.TypedExtensionConfig{
			{Name: "envoy.bootstrap.internal_listener", TypedConfig: pack(&internalv3.InternalListener{})},
		},
	}
}

// fixedClusters are those that every Envoy has from its bootstrap, as far as the snapshot does not define them.
func fixedClusters(have []*clusterv3.Cluster) []*clusterv3.Cluster {
	var out []*clusterv3.Cluster
	for _, name := range fixedNames() {
		if !slices.ContainsFunc(have, func(c *clusterv3.Cluster) bool { return c.GetName() == name }) {
			out = append(out, emptyCluster(name))
		}
	}
	return out
}

func fixedNames() []string {
	return []string{envoy.ClusterAgent, envoy.ClusterXDS, envoy.ClusterReports}
}

func emptyCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}}
}

// secretUser makes Envoy read a secret, which it does not before something names it.
func secretUser(s *tlsv3.Secret) *clusterv3.Cluster {
	c := emptyCluster("proof " + s.GetName())
	reference := &tlsv3.SdsSecretConfig{Name: s.GetName()}
	common := &tlsv3.CommonTlsContext{}
	switch s.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{reference}
	case *tlsv3.Secret_ValidationContext:
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: reference}
	default:
		return c // read by the filter that names it only
	}
	c.TransportSocket = &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&tlsv3.UpstreamTlsContext{CommonTlsContext: common})},
	}
	return c
}

// runtimeLayer is the lowest of every Envoy, so that both judge by the same flags.
func runtimeLayer() *bootstrapv3.RuntimeLayer {
	values, err := structpb.NewStruct(envoy.Runtime())
	if err != nil {
		panic("proof: the fixed runtime is no struct: " + err.Error())
	}
	return &bootstrapv3.RuntimeLayer{Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: values}}
}

// bareListener is the least that makes Envoy read a route configuration.
func bareListener(rc *routev3.RouteConfiguration) *listenerv3.Listener {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix:     "proof",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
		}},
	}
	return &listenerv3.Listener{
		Name:              "proof " + rc.GetName(),
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
		}}}},
	}
}

// pack fails only for text that is no UTF-8, which no decoded message holds.
func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic("proof: " + err.Error())
	}
	return a
}
