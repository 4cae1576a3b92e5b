package proof

import (
	"fmt"
	"maps"
	"slices"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// decodeRoutes reads route configurations in the order of their names.
func decodeRoutes(routes *snapshot.Table) ([]*routev3.RouteConfiguration, error) {
	var out []*routev3.RouteConfiguration
	for _, name := range routes.Names() {
		rc := &routev3.RouteConfiguration{}
		if err := proto.Unmarshal(routes.Body(name), rc); err != nil {
			return nil, fmt.Errorf("proof: route configuration %q: %w", name, err)
		}
		out = append(out, rc)
	}
	return out, nil
}

// routesOf are the routes of a virtual host, from its list or its tree. A leaf repeats routes of its ancestors, so
// the same route may come several times.
func routesOf(vh *routev3.VirtualHost) ([]*routev3.Route, error) {
	leaves, err := leaves(vh.GetMatcher(), nil)
	if err != nil {
		return nil, fmt.Errorf("proof: virtual host %q: %w", vh.GetName(), err)
	}
	out := slices.Clone(vh.GetRoutes())
	for _, leaf := range leaves {
		out = append(out, leaf.GetRoutes()...)
	}
	return out, nil
}

// leaves appends the route lists of a tree.
func leaves(m *xdsmatcherv3.Matcher, out []*routev3.RouteList) ([]*routev3.RouteList, error) {
	if m == nil {
		return out, nil
	}
	var err error
	for _, next := range branches(m) {
		if out, err = leaves(next.GetMatcher(), out); err != nil {
			return nil, err
		}
		if action := next.GetAction().GetTypedConfig(); action != nil {
			list, err := routeList(action)
			if err != nil {
				return nil, err
			}
			out = append(out, list)
		}
	}
	return out, nil
}

func branches(m *xdsmatcherv3.Matcher) []*xdsmatcherv3.Matcher_OnMatch {
	var out []*xdsmatcherv3.Matcher_OnMatch
	for _, field := range m.GetMatcherList().GetMatchers() {
		out = append(out, field.GetOnMatch())
	}
	for _, matches := range []*xdsmatcherv3.Matcher_MatcherTree_MatchMap{
		m.GetMatcherTree().GetExactMatchMap(), m.GetMatcherTree().GetPrefixMatchMap(),
	} {
		for _, key := range slices.Sorted(maps.Keys(matches.GetMap())) {
			out = append(out, matches.GetMap()[key])
		}
	}
	return append(out, m.GetOnNoMatch())
}

// routeList is an action's routes; an action of another type has none.
func routeList(action *anypb.Any) (*routev3.RouteList, error) {
	list := &routev3.RouteList{}
	if action.MessageIs(list) {
		return list, action.UnmarshalTo(list)
	}
	r := &routev3.Route{}
	if action.MessageIs(r) {
		err := action.UnmarshalTo(r)
		list.Routes = append(list.Routes, r)
		return list, err
	}
	return list, nil
}

// dangling are the routes that name a cluster which is not there.
func (in *input) dangling() ([]Fault, error) {
	known := in.clusterNames()
	configs, err := decodeRoutes(in.referring)
	if err != nil {
		return nil, err
	}
	var faults []Fault
	seen := map[Fault]bool{}
	for _, rc := range configs {
		for _, vh := range rc.GetVirtualHosts() {
			routes, err := routesOf(vh)
			if err != nil {
				return nil, err
			}
			for _, r := range routes {
				if f, ok := unknownCluster(r, known); ok && !seen[f] && len(faults) < maxFaults {
					seen[f] = true
					faults = append(faults, f)
				}
			}
		}
	}
	return faults, nil
}

func (in *input) clusterNames() map[string]bool {
	known := map[string]bool{}
	for _, name := range fixedNames() {
		known[name] = true
	}
	for _, name := range in.known {
		known[name] = true
	}
	return known
}

func unknownCluster(r *routev3.Route, known map[string]bool) (Fault, bool) {
	for _, name := range references(r.GetRoute()) {
		if name != "" && !known[name] {
			f := routeFault(r)
			f.Reason = fmt.Sprintf("unknown cluster %q", name)
			return f, true
		}
	}
	return Fault{}, false
}

// references are the clusters that an action names; "" stands for one chosen at run time.
func references(a *routev3.RouteAction) []string {
	out := []string{a.GetCluster()}
	for _, w := range a.GetWeightedClusters().GetClusters() {
		out = append(out, w.GetName())
	}
	for _, m := range a.GetRequestMirrorPolicies() {
		out = append(out, m.GetCluster())
	}
	return out
}

// routeFault names a route and where it was written, its reason yet to come.
func routeFault(r *routev3.Route) Fault {
	origin := r.GetMetadata().GetFilterMetadata()["sluice"].GetFields()["policy"].GetStringValue()
	return Fault{Resource: resourcev3.RouteType, Name: r.GetName(), Origin: origin}
}
