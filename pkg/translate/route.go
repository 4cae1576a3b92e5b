package translate

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// routes is the gateway's one routing table.
func (t *Translator) routes(g *model.Gateway, out feature.Resources) error {
	table := &routev3.RouteConfiguration{
		Name:             model.RouteTableName(g.Name),
		ValidateClusters: wrapperspb.Bool(false), // Envoy does not look inside the index; compile has followed every name
		// How long a service took is in the log, and nobody else's business.
		ResponseHeadersToRemove: []string{"x-envoy-upstream-service-time"},
	}
	config := metadata("config", g.Table)
	for _, v := range g.Hosts {
		host, err := t.host(v)
		if err != nil {
			return err
		}
		host.Metadata = config
		if err := configureHost(g.Defaults, host); err != nil {
			return fmt.Errorf("host %s: %w", v.Domain, err)
		}
		table.VirtualHosts = append(table.VirtualHosts, host)
	}
	return out.Add(resource.RouteType, table.Name, table)
}

// runtimePolicies are the policies that the gateway's agents decide by.
func (t *Translator) runtimePolicies(g *model.Gateway, out feature.Resources) error {
	for _, v := range g.Hosts {
		for _, r := range v.Routes {
			if r.Runtime == nil || out[feature.PolicyType][r.Runtime.Digest] != nil {
				continue
			}
			body, err := feature.Wrap(r.Runtime.Body)
			if err != nil {
				return fmt.Errorf("%s (%s): %w", r.Name, r.Origin, err)
			}
			out.AddReady(feature.PolicyType, r.Runtime.Digest, body)
		}
	}
	return nil
}

// configureHost says once for a host what holds on every route that has nothing of its own.
func configureHost(defaults []model.Attachment, out *routev3.VirtualHost) error {
	for _, a := range defaults {
		if f, ok := a.Spec.(feature.HostConfigurer); ok {
			if err := f.ConfigureHost(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// onHost tells whether the host says it already.
func onHost(a model.Attachment) bool {
	_, ok := a.Spec.(feature.HostConfigurer)
	return ok && a.Level == model.Default
}

func (t *Translator) host(v *model.VirtualHost) (*routev3.VirtualHost, error) {
	out := &routev3.VirtualHost{Name: v.Domain, Domains: []string{v.Domain}}
	matcher := &xdsmatcherv3.Matcher{}
	keys := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	for _, l := range index(v.Routes) {
		action, err := t.leaf(l.routes)
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", v.Domain, err)
		}
		if l.prefix == "" {
			matcher.OnNoMatch = action
			continue
		}
		keys[l.prefix] = action
	}
	if len(keys) > 0 {
		matcher.MatcherType = byPath(keys)
	}
	out.Matcher = matcher
	return out, nil
}

func byPath(keys map[string]*xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher_MatcherTree_ {
	return &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input:    pathInput(),
		TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: keys}},
	}}
}

func pathInput() *xdscorev3.TypedExtensionConfig {
	input, err := feature.Pack(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: ":path"})
	if err != nil {
		panic("translate: " + err.Error()) // a constant
	}
	return &xdscorev3.TypedExtensionConfig{Name: "path", TypedConfig: input}
}

// leaf packs a list of routes, once for as long as none of them changes.
func (t *Translator) leaf(routes []*model.Route) (*xdsmatcherv3.Matcher_OnMatch, error) {
	h := sha256.New()
	var line []byte
	for _, r := range routes {
		line = append(line[:0], r.Digest...)
		h.Write(line)
	}
	packed, err := t.leaves.Get([sha256.Size]byte(h.Sum(nil)), func() (*anypb.Any, error) {
		list := &routev3.RouteList{}
		for _, r := range routes {
			some, err := t.Routes(r)
			if err != nil {
				return nil, fmt.Errorf("%s (%s): %w", r.Name, r.Origin, err)
			}
			list.Routes = append(list.Routes, some...)
		}
		return feature.Pack(list)
	})
	if err != nil {
		return nil, err
	}
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
		Action: &xdscorev3.TypedExtensionConfig{Name: "routes", TypedConfig: packed},
	}}, nil
}

// Routes is one route as Envoy has it: several where a feature treats some of its requests otherwise, in the order in
// which they are tried.
func (t *Translator) Routes(r *model.Route) ([]*routev3.Route, error) {
	out, err := t.route(r)
	if err != nil {
		return nil, err
	}
	routes := []*routev3.Route{out}
	for _, a := range r.Attachments {
		f, ok := a.Spec.(feature.RouteVarier)
		if !ok || onHost(a) {
			continue
		}
		before, err := f.VaryRoute(r, out)
		if err != nil {
			return nil, &feature.HookError{Feature: a.Feature, From: a.From, Err: err}
		}
		routes = append(before, routes...)
	}
	return routes, nil
}

func (t *Translator) route(r *model.Route) (*routev3.Route, error) {
	out := &routev3.Route{Name: r.Name, Match: match(r.Match)}
	if len(r.Allow) == 0 {
		out.Metadata = metadata(about(r)...)
	}
	switch {
	case r.Unavailable:
		out.Action = answer(http.StatusServiceUnavailable)
		if r.RetryAfter > 0 {
			setHeader(out, "retry-after", strconv.Itoa(r.RetryAfter))
		}
	case len(r.Allow) > 0:
		refuse(out, r.Allow)
	case r.Text != "":
		out.Action = say(r.Text)
	case len(r.Backends) > 0:
		out.Action = &routev3.Route_Route{Route: forward(r.Backends)}
	}
	if r.Runtime != nil {
		if err := feature.AskAgent(out, r.Runtime); err != nil {
			return nil, err
		}
	}
	for _, a := range r.Attachments {
		if f, ok := a.Spec.(feature.RouteConfigurer); ok && !onHost(a) {
			if err := f.ConfigureRoute(r, out); err != nil {
				return nil, &feature.HookError{Feature: a.Feature, From: a.From, Err: err}
			}
		}
	}
	if out.Action == nil {
		return nil, fmt.Errorf("nothing answers: no feature and no service")
	}
	return out, t.checkFilters(out)
}

// about is what a route's metadata says of it.
func about(r *model.Route) []string {
	out := []string{"policy", r.Origin}
	if r.Decider != "" {
		out = append(out, "decider", string(r.Decider))
	}
	return out
}

// checkFilters holds per-route configs against the chain: Envoy silently ignores one for a filter that is not there,
// and one of another message type.
func (t *Translator) checkFilters(r *routev3.Route) error {
	for name, config := range r.TypedPerFilterConfig {
		f, ok := t.filters[name]
		if !ok {
			return fmt.Errorf("per-route config for %q, which is not in the filter chain", name)
		}
		if config.MessageIs((*routev3.FilterConfig)(nil)) {
			continue
		}
		if f.PerRoute == nil || !config.MessageIs(f.PerRoute) {
			return fmt.Errorf("per-route config for %q has type %s", name, config.GetTypeUrl())
		}
	}
	return nil
}

func refuse(out *routev3.Route, allow []string) {
	out.Action = answer(http.StatusMethodNotAllowed)
	setHeader(out, "allow", strings.Join(allow, ", "))
}

func setHeader(out *routev3.Route, name, value string) {
	out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	})
}

func answer(status uint32) *routev3.Route_DirectResponse {
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}
}

func say(text string) *routev3.Route_DirectResponse {
	out := answer(http.StatusOK)
	out.DirectResponse.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
	return out
}

func forward(backends []model.Backend) *routev3.RouteAction {
	if len(backends) == 1 {
		return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: backends[0].Cluster}}
	}
	weighted := &routev3.WeightedCluster{}
	for _, b := range backends {
		weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: b.Cluster, Weight: wrapperspb.UInt32(b.Weight)})
	}
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}}
}

func metadata(pairs ...string) *corev3.Metadata {
	fields := map[string]*structpb.Value{}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = structpb.NewStringValue(pairs[i+1])
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{feature.MetadataKey: {Fields: fields}}}
}
