package proof_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// prover runs the real Envoy; a test without one is skipped by name, but not where everything must be there.
func prover(t testing.TB) *proof.Prover {
	t.Helper()
	binary, err := envoy.Find("")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return &proof.Prover{Binary: binary, Dir: t.TempDir(), Timeout: time.Minute}
}

// gateway is a snapshot in the making, of the shape that a gateway has: two listeners that share a route table in a
// tree, services by EDS, a filter's config by ECDS and a certificate by SDS.
type gateway struct {
	routes    []*routev3.Route
	clusters  []*clusterv3.Cluster
	filters   []*hcmv3.HttpFilter
	providers *jwtv3.JwtAuthentication
	secret    *tlsv3.Secret
	domains   []string
	accessLog string
	perLeaf   int
	input     proto.Message // what the tree looks at
	plain     bool          // a list, no tree
}

func newGateway(routes int) *gateway {
	g := &gateway{
		providers: &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{"idp": {
			Issuer: "https://idp.example", JwksSourceSpecifier: inlineKeys(publicKeys)}}},
		secret:    secret(selfSigned()),
		domains:   []string{"api.example"},
		accessLog: "/nowhere/access.log",
		perLeaf:   64,
		input:     &matcherv3.HttpRequestHeaderMatchInput{HeaderName: ":path"},
	}
	for i := range max(routes/10, 1) {
		g.clusters = append(g.clusters, service(i))
	}
	for i := range routes {
		g.routes = append(g.routes, route(i, i%len(g.clusters)))
	}
	return g
}

func service(i int) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: fmt.Sprintf("service-%d", i), ConnectTimeout: durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: fmt.Sprintf("service-%d@1", i)},
	}
}

func route(i, cluster int) *routev3.Route {
	origin, err := structpb.NewStruct(map[string]any{"policy": fmt.Sprintf("routes.yaml:%d", 10*i+1)})
	if err != nil {
		panic(err)
	}
	return &routev3.Route{
		Name:     fmt.Sprintf("route-%d", i),
		Match:    &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: fmt.Sprintf("/team%d/svc%d/api", i%20, i)}},
		Action:   &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: fmt.Sprintf("service-%d", cluster)}}},
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"sluice": origin}},
	}
}

func regex(expression string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: expression}}}
}

func lua(name, code string) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, Disabled: true, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: code}}})}}
}

// publicKeys is the example of RFC 7517, appendix A.1.
const publicKeys = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"}]}`

func inlineKeys(keys string) *jwtv3.JwtProvider_LocalJwks {
	return &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: keys}}}
}

func secret(pem string) *tlsv3.Secret {
	inline := &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: pem}}
	return &tlsv3.Secret{Name: "edge-cert", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline, PrivateKey: inline}}}
}

// snapshot packs the gateway as it would be published.
func (g *gateway) snapshot() *snapshot.Snapshot {
	s := snapshot.New(map[string]*snapshot.Table{})
	endpoints := map[string]proto.Message{}
	clusters := map[string]proto.Message{}
	for _, c := range g.clusters {
		clusters[c.GetName()] = c
		if eds := c.GetEdsClusterConfig(); eds != nil {
			endpoints[eds.GetServiceName()] = assignment(eds.GetServiceName(), socket(9001))
		}
	}
	s = s.With(resourcev3.ClusterType, table(clusters)).With(resourcev3.EndpointType, table(endpoints))
	s = s.With(resourcev3.RouteType, table(map[string]proto.Message{"edge": g.table()}))
	s = s.With(resourcev3.ListenerType, table(map[string]proto.Message{"http": g.listener("http", 80, nil), "https": g.listener("https", 443, downstreamTLS())}))
	s = s.With(resourcev3.ExtensionConfigType, table(map[string]proto.Message{"jwt": &corev3.TypedExtensionConfig{Name: "jwt", TypedConfig: pack(g.providers)}}))
	return s.With(resourcev3.SecretType, table(map[string]proto.Message{g.secret.GetName(): g.secret}))
}

func assignment(name string, address *corev3.Address) *endpointv3.ClusterLoadAssignment {
	host := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{host}}}}
}

// table is a route table in a tree, each leaf ending with the route that takes all else.
func (g *gateway) table() *routev3.RouteConfiguration {
	rest := &routev3.Route{Name: "rest", Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}}}
	leaves := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	for i := 0; i < len(g.routes); i += g.perLeaf {
		list := append(append([]*routev3.Route{}, g.routes[i:min(i+g.perLeaf, len(g.routes))]...), rest)
		leaves[fmt.Sprintf("/leaf%d", i)] = leaf(list)
	}
	input := &xdscorev3.TypedExtensionConfig{Name: "path", TypedConfig: pack(g.input)}
	tree := &xdsmatcherv3.Matcher_MatcherTree{Input: input, TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{
		PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: leaves}}}
	if g.plain {
		return &routev3.RouteConfiguration{Name: "edge", VirtualHosts: []*routev3.VirtualHost{{Name: "api", Domains: g.domains, Routes: g.routes}}}
	}
	return &routev3.RouteConfiguration{Name: "edge", VirtualHosts: []*routev3.VirtualHost{
		{Name: "api", Domains: g.domains, Matcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: tree}, OnNoMatch: leaf([]*routev3.Route{rest})}},
		{Name: "any", Domains: []string{"*"}, Routes: []*routev3.Route{rest}},
	}}
}

func leaf(routes []*routev3.Route) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
		Action: &xdscorev3.TypedExtensionConfig{Name: "routes", TypedConfig: pack(&routev3.RouteList{Routes: routes})}}}
}

func (g *gateway) listener(name string, port uint32, tls *corev3.TransportSocket) *listenerv3.Listener {
	jwt := &hcmv3.HttpFilter{Name: "jwt", Disabled: true, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
		ConfigSource: ads(), TypeUrls: []string{"type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"},
		DefaultConfig: pack(&jwtv3.JwtAuthentication{}), ApplyDefaultConfigWithoutWarming: true}}}
	router := &hcmv3.HttpFilter{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})}}
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix:     name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: "edge"}},
		HttpFilters:    append(append([]*hcmv3.HttpFilter{jwt}, g.filters...), router),
		AccessLog: []*accesslogv3.AccessLog{{Name: "file", ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: pack(&filelogv3.FileAccessLog{Path: g.accessLog})}}},
	}
	return &listenerv3.Listener{Name: name, Address: socket(port), FilterChains: []*listenerv3.FilterChain{{
		TransportSocket: tls,
		Filters: []*listenerv3.Filter{{Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)}}}}}}
}

func downstreamTLS() *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "edge-cert", SdsConfig: ads()}}}})}}
}

func socket(port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func table(messages map[string]proto.Message) *snapshot.Table {
	bodies := map[string][]byte{}
	for name, m := range messages {
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		bodies[name] = body
	}
	return snapshot.NewTable(bodies)
}

func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}
