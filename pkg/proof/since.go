package proof

import (
	"bytes"
	"fmt"
	"maps"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// since is what of a snapshot is not proven by another one with the same frame. Envoy judges clusters one by one, and
// the leaves of a tree too; so those that are the same need no second look. Nil means that all of it does.
func since(proven, s *snapshot.Snapshot) (*input, error) {
	gone := removedClusters(proven, s)
	if named(s, gone) {
		return nil, nil
	}
	routes, err := changedRoutes(proven.Table(resourcev3.RouteType), s.Table(resourcev3.RouteType))
	if err != nil {
		return nil, err
	}
	in, err := read(snapshot.New(map[string]*snapshot.Table{
		resourcev3.SecretType:   s.Table(resourcev3.SecretType),
		resourcev3.ClusterType:  changedBodies(proven, s, resourcev3.ClusterType),
		resourcev3.EndpointType: s.Table(resourcev3.EndpointType),
		resourcev3.RouteType:    routes,
	}))
	if err != nil {
		return nil, err
	}
	in.known = s.Table(resourcev3.ClusterType).Names()
	if len(gone) > 0 {
		in.referring = s.Table(resourcev3.RouteType)
	}
	for _, name := range changedBodies(proven, s, resourcev3.EndpointType).Names() {
		c := emptyCluster("proof " + name)
		c.LoadAssignment = ready(&endpointv3.ClusterLoadAssignment{}, s.Table(resourcev3.EndpointType).Body(name))
		in.clusters = append(in.clusters, c)
	}
	return in, nil
}

// removedClusters are the clusters that are gone.
func removedClusters(proven, s *snapshot.Snapshot) []string {
	var gone []string
	had, has := proven.Table(resourcev3.ClusterType), s.Table(resourcev3.ClusterType)
	for _, name := range snapshot.Diff(had, has) {
		if has.Version(name) == "" {
			gone = append(gone, name)
		}
	}
	return gone
}

// changedBodies is a type's resources that are new or changed.
func changedBodies(proven, s *snapshot.Snapshot, typeURL string) *snapshot.Table {
	table, bodies := s.Table(typeURL), map[string][]byte{}
	for _, name := range snapshot.Diff(proven.Table(typeURL), table) {
		if body := table.Body(name); body != nil {
			bodies[name] = body
		}
	}
	return snapshot.NewTable(bodies)
}

// changedRoutes are the changed route configurations, without the leaves that they had before.
func changedRoutes(proven, table *snapshot.Table) (*snapshot.Table, error) {
	bodies := map[string][]byte{}
	for _, name := range snapshot.Diff(proven, table) {
		if table.Body(name) == nil {
			continue
		}
		had, has := &routev3.RouteConfiguration{}, &routev3.RouteConfiguration{}
		if err := proto.Unmarshal(proven.Body(name), had); err != nil {
			return nil, fmt.Errorf("proof: route configuration %q: %w", name, err)
		}
		if err := proto.Unmarshal(table.Body(name), has); err != nil {
			return nil, fmt.Errorf("proof: route configuration %q: %w", name, err)
		}
		prune(had, has)
		body, err := proto.Marshal(has)
		if err != nil {
			return nil, fmt.Errorf("proof: route configuration %q: %w", name, err)
		}
		bodies[name] = body
	}
	return snapshot.NewTable(bodies), nil
}

// prune takes out of a route configuration the leaves that another one has. Virtual hosts stay, if only as a name: no
// two may claim a domain. One that is new, or whose tree looks at something else, is judged whole.
func prune(had, has *routev3.RouteConfiguration) {
	known, hosts := map[string]bool{}, map[string]*routev3.VirtualHost{}
	for _, vh := range had.GetVirtualHosts() {
		hosts[vh.GetName()] = vh
		for _, branch := range branches(vh.GetMatcher()) {
			known[leafBytes(branch)] = true
		}
	}
	delete(known, "")
	for i, vh := range has.GetVirtualHosts() {
		before := hosts[vh.GetName()]
		switch {
		case before == nil:
		case proto.Equal(before, vh):
			has.VirtualHosts[i] = &routev3.VirtualHost{Name: vh.GetName(), Domains: vh.GetDomains()}
		case proto.Equal(before.GetMatcher().GetMatcherTree().GetInput(), vh.GetMatcher().GetMatcherTree().GetInput()):
			pruneTree(vh, known)
		}
	}
}

// pruneTree leaves the parts of a tree that are not known. An empty map is refused, so it goes with its last key.
func pruneTree(vh *routev3.VirtualHost, known map[string]bool) {
	m := vh.GetMatcher()
	if m.GetMatcherList() != nil || m.GetMatcherTree().GetExactMatchMap() != nil || m.GetMatcherTree().GetCustomMatch() != nil {
		return // a shape that no gateway has
	}
	keys := m.GetMatcherTree().GetPrefixMatchMap().GetMap()
	maps.DeleteFunc(keys, func(_ string, leaf *xdsmatcherv3.Matcher_OnMatch) bool { return known[leafBytes(leaf)] })
	if len(keys) > 0 {
		return
	}
	m.MatcherType = nil
	if known[leafBytes(m.GetOnNoMatch())] {
		vh.Matcher = nil
	}
}

// leafBytes are a leaf's routes, "" for a branch of another shape.
func leafBytes(m *xdsmatcherv3.Matcher_OnMatch) string {
	action := m.GetAction().GetTypedConfig()
	if action == nil {
		return ""
	}
	return action.GetTypeUrl() + " " + string(action.GetValue())
}

// frame names what a proof of the rest depends on.
func frame(s *snapshot.Snapshot) string {
	return s.Table(resourcev3.ListenerType).Digest() + " " + s.Table(resourcev3.ExtensionConfigType).Digest() + " " + s.Table(resourcev3.SecretType).Digest()
}

// named tells whether anything but a route might name one of these clusters.
func named(s *snapshot.Snapshot, clusters []string) bool {
	if len(clusters) == 0 {
		return false
	}
	for _, url := range []string{resourcev3.ListenerType, resourcev3.ExtensionConfigType, resourcev3.ClusterType} {
		table := s.Table(url)
		for _, name := range table.Names() {
			for _, cluster := range clusters {
				if bytes.Contains(table.Body(name), []byte(cluster)) {
					return true
				}
			}
		}
	}
	return false
}
