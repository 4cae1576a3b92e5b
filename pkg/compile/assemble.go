package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// assemble puts a gateway's routes into their hosts, in order, and finds the clusters they reach.
func (s *site) assemble(g *gateway) *model.Gateway {
	out := &model.Gateway{Name: g.Name, Listeners: g.listeners(), Attachments: s.gatewayAttachments(g), Defaults: s.ruleDefaults()}
	for _, l := range out.Listeners {
		l.Attachments = out.Attachments
	}
	hosts, clusters := gather(g.routes)
	out.Secrets = s.secrets(g, clusters, g.routes)
	s.challenged(g, out.Secrets, hosts)
	for _, domain := range slices.Sorted(maps.Keys(hosts)) {
		routes := hosts[domain]
		slices.SortStableFunc(routes, func(a, b *model.Route) int {
			return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
		})
		conflicts{domain, g.routes, s.problems}.find(routes)
		out.Hosts = append(out.Hosts, &model.VirtualHost{Domain: domain, Routes: append(routes, s.notAllowed(routes)...)})
	}
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		out.Clusters = append(out.Clusters, s.cluster(name, clusters[name]))
	}
	out.Table = tableDigest(out.Hosts)
	return out
}

// listeners are a gateway's, by name, without its blocks.
func (g *gateway) listeners() []*model.Listener {
	var out []*model.Listener
	for _, l := range g.gateway.Listeners {
		one := &model.Listener{
			Name: model.ListenerName(g.Name, l.Name), Gateway: g.Name, Address: l.Address, Port: l.Port,
			TLS: listenerTLS(l.TLS), RedirectPort: redirectPort(l, g.gateway.Listeners),
		}
		out = append(out, one)
		if l.TLS != nil && l.TLS.HTTP3.On {
			out = append(out, beside(one, l))
		}
	}
	slices.SortFunc(out, func(a, b *model.Listener) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// beside gives the UDP listener of HTTP/3 that belongs to a TCP listener, which then tells clients of it.
func beside(tcp *model.Listener, l policy.Listener) *model.Listener {
	tcp.AltSvcPort = cmp.Or(l.TLS.HTTP3.Port, l.Port)
	udp := *tcp
	udp.Name, udp.HTTP3 = model.ListenerName(tcp.Gateway, l.Name+"/h3"), true
	return &udp
}

// tableDigest is the content hash over all routes.
func tableDigest(hosts []*model.VirtualHost) string {
	h := sha256.New()
	var line []byte
	for _, v := range hosts {
		line = append(append(line[:0], v.Domain...), 0)
		h.Write(line)
		for _, r := range v.Routes {
			line = append(line[:0], r.Digest...)
			h.Write(line)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// ruleDefaults are the blocks that hold on rules where nobody wrote one, in the features' order.
func (s *site) ruleDefaults() []model.Attachment {
	var out []model.Attachment
	all := s.defaults(feature.Rule)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name].attachment(model.Default))
	}
	s.features.SortAttachments(out)
	return out
}

func gather(routes []*compiledRoute) (hosts map[string][]*model.Route, clusters map[string]*document) {
	hosts, clusters = map[string][]*model.Route{}, map[string]*document{}
	for _, c := range routes {
		for _, h := range c.hosts {
			hosts[h] = append(hosts[h], c.routes...)
		}
		maps.Copy(clusters, c.clusters)
	}
	return hosts, clusters
}

// gatewayAttachments are the blocks about the gateway itself; the nearer replaces the farther here too.
func (s *site) gatewayAttachments(g *gateway) []model.Attachment {
	all := s.defaults(feature.Gateway)
	for _, b := range g.layer.blocks {
		if f, _ := s.features.Get(b.name); f.Info().On&feature.Gateway != 0 {
			all[b.name] = nearer(b, "gateway", all)
		}
	}
	var out []model.Attachment
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if c, ok := all[name].spec.(feature.ListenerChecker); ok {
			c.CheckListeners(g.listeners(), all[name].at, s.problems)
		}
		out = append(out, all[name].attachment(all[name].level))
	}
	s.features.SortAttachments(out)
	return out
}

// defaults are the blocks that hold at a place where none is written.
func (s *site) defaults(on feature.Place) map[string]held {
	all := map[string]held{}
	for _, f := range s.features.All() {
		if d, ok := f.(feature.Defaulter); ok && f.Info().On&on != 0 {
			spec := d.Default()
			all[f.Info().Name] = held{block{name: f.Info().Name, spec: spec, digest: specDigest(spec)}, model.Default}
		}
	}
	return all
}

// cluster is a Service's compiled form.
func (s *site) cluster(name string, d *document) *model.Cluster {
	if d.cluster == nil {
		d.cluster = s.compileCluster(name, d)
	}
	return d.cluster
}

// registered says that a document stands for a registered service, which borrows its template's blocks.
func registered(d *document) bool { return d.template == nil && d.Kind == KindTemplate }

// serviceName is the Service's, or the name under which a template's service registered.
func serviceName(d *document) string {
	if registered(d) {
		return d.service.Consul.Service
	}
	return d.Name
}

func (s *site) compileCluster(name string, d *document) *model.Cluster {
	c := &model.Cluster{
		Name: name, Service: serviceName(d), Registered: registered(d), Protocol: cmp.Or(model.Protocol(d.service.Protocol), model.HTTP1),
	}
	blocks := s.defaults(feature.Service)
	for _, b := range d.blocks {
		blocks[b.name] = held{b, "service"}
	}
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		c.Attachments = append(c.Attachments, blocks[name].attachment(blocks[name].level))
	}
	s.features.SortAttachments(c.Attachments)
	if host, port, err := policy.SplitHostPort(d.service.DNS); err == nil {
		c.DNS = &model.HostPort{Host: host, Port: port}
	}
	if q := d.service.Consul; q != nil {
		c.Discovery = &model.Discovery{
			Service: q.Service, Tags: q.Tags, Datacenter: q.Datacenter, Filter: q.Filter, OnlyPassing: q.OnlyPassing,
			Near: q.Near, Namespace: q.Namespace, Partition: q.Partition,
		}
	}
	for _, e := range d.service.Endpoints {
		c.Endpoints = append(c.Endpoints, endpoint(e))
	}
	slices.SortFunc(c.Endpoints, func(a, b model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	var attached []string
	for _, a := range c.Attachments {
		attached = append(attached, a.Feature, a.Digest)
	}
	c.Digest = specDigest([]any{c.Name, c.Protocol, c.DNS, c.Discovery, attached})
	return c
}

func endpoint(e policy.Endpoint) model.Endpoint {
	ap, _ := netip.ParseAddrPort(e.Address) // held against the language already
	return model.Endpoint{Address: ap.Addr().String(), Port: uint32(ap.Port()), Weight: max(e.Weight, 1)}
}

func checkAddress(address string) error {
	if address == "" {
		return nil
	}
	_, err := netip.ParseAddr(address)
	return err
}

// notAllowed gives, for each path whose routes ask for methods, a route that answers 405 to all others. They come
// after every route that was written, so that a wider path may still take the request.
func (s *site) notAllowed(routes []*model.Route) []*model.Route {
	groups := byPath(routes)
	wider := map[string][]string{}
	for _, g := range groups {
		if g.first.Match.Path.Tail && len(g.methods) > 0 {
			wider[g.first.PathOrder()] = g.methods
		}
	}
	out := make([]*model.Route, 0, len(groups))
	for _, g := range groups {
		if len(g.methods) == 0 {
			continue
		}
		if len(wider) > 0 {
			g.methods = withWider(g.methods, g.first.Match.Path, wider)
		}
		out = append(out, s.refuseMethods(g))
	}
	return out
}

// pathGroup is the routes of one path.
type pathGroup struct {
	first   *model.Route
	methods []string // of all of them; nil when one takes any
	// conditional says that one asks for more than its method: a request that comes past it may have the right one.
	conditional bool
}

// byPath groups routes that are in order.
func byPath(routes []*model.Route) []pathGroup {
	groups := make([]pathGroup, 0, len(routes))
	for _, r := range routes {
		conditional := len(r.Match.Headers)+len(r.Match.Query) > 0
		if conditional && isExpansion(r) {
			continue // it takes some requests of a method, not the method
		}
		if n := len(groups); n > 0 && groups[n-1].first.PathOrder() == r.PathOrder() {
			groups[n-1].add(r, conditional)
			continue
		}
		groups = append(groups, pathGroup{r, r.Match.Methods, conditional})
	}
	return groups
}

func (g *pathGroup) add(r *model.Route, conditional bool) {
	g.conditional = g.conditional || conditional
	if g.methods == nil || len(r.Match.Methods) == 0 {
		g.methods = nil
		return
	}
	g.methods = append(slices.Clip(g.methods), r.Match.Methods...)
}

// withWider adds the methods of the /* patterns that cover a path: their routes would take those.
func withWider(methods []string, p model.Path, wider map[string][]string) []string {
	out := slices.Clip(methods)
	for n := range len(p.Segments) + 1 {
		covering := model.Path{Segments: p.Segments[:n], Tail: true}
		out = append(out, wider[covering.Order()]...)
	}
	return out
}

func sortedOnce(words []string) []string {
	if len(words) == 1 {
		return words
	}
	return slices.Compact(slices.Sorted(slices.Values(words)))
}

// refuseMethods is a path's 405. Where the path's routes ask for nothing but methods, whatever comes past them has
// another one, and Envoy need not look.
func (s *site) refuseMethods(g pathGroup) *model.Route {
	allow := sortedOnce(g.methods)
	key := g.first.PathOrder() + "\x00" + g.first.Origin + "\x00" + strings.Join(allow, ",") + strconv.FormatBool(g.conditional)
	out, _ := s.compiler.refusals.Get(key, func() (*model.Route, error) {
		match := model.Match{Path: g.first.Match.Path}
		if g.conditional {
			match.Except = allow
		}
		out := seal(&model.Route{
			Name: model.OwnPrefix + "405" + g.first.Match.Path.String(), Origin: g.first.Origin, Match: match, Allow: allow,
		})
		out.Order = "\xff\xff" + out.Order
		return out, nil
	})
	return out
}

// conflicts finds rules of one host that cannot both be meant.
type conflicts struct {
	domain   string
	routes   []*compiledRoute
	problems *policy.Problems
}

// at is the match of the rule that a route comes from.
func (c conflicts) at(r *model.Route) policy.At {
	for _, compiled := range c.routes {
		if i := slices.Index(compiled.routes, r); i >= 0 {
			return compiled.at[i].Field("match")
		}
	}
	return policy.At{}
}

func (c conflicts) find(routes []*model.Route) {
	for i := 0; i < len(routes); {
		end := i + 1
		for end < len(routes) && routes[end].Order == routes[i].Order {
			end++
		}
		c.equals(routes[i:end])
		i = end
	}
	c.expressions(routes)
}

// equals looks at routes with the same path and as many conditions.
func (c conflicts) equals(routes []*model.Route) {
	for i, a := range routes {
		for _, b := range routes[i+1:] {
			switch {
			case a.Match.Disjoint(b.Match), sameExpansion(a, b):
			case a.Match.Undecided(b.Match):
				c.problems.Warnf(c.at(b), policy.CodeAmbiguous, "give one of them another condition",
					"%s and %s (%s) may both match a request for host %s; the name decides: %s is tried first", b.Name, a.Name, a.Origin, c.domain, a.Name)
			default:
				c.problems.Suggestf(c.at(b), policy.CodeAmbiguous, "give one of them another path, method or condition",
					"%s and %s (%s) match the same requests for host %s", b.Name, a.Name, a.Origin, c.domain)
			}
		}
	}
}

func isExpansion(r *model.Route) bool { return strings.Contains(r.Name, expansionMark) }

// sameExpansion tells whether a feature added one and the same route for two rules: it does not matter which is tried.
func sameExpansion(a, b *model.Route) bool {
	sameBlock := func(x, y model.Attachment) bool { return x.Feature == y.Feature && x.Digest == y.Digest }
	x, y := a.Match, b.Match
	x.Path, y.Path = model.Path{}, model.Path{} // alike but for the names of their parameters
	return isExpansion(a) && isExpansion(b) && reflect.DeepEqual(x, y) && reflect.DeepEqual(a.Backends, b.Backends) &&
		slices.EqualFunc(a.Attachments, b.Attachments, sameBlock)
}

// expressions finds those behind a /* pattern that takes everything they could.
func (c conflicts) expressions(routes []*model.Route) {
	takesAll := map[string]*model.Route{}
	for _, r := range routes {
		if r.Match.Conditions() == 0 && r.Match.Path.Tail && !r.Match.Path.HasParams() {
			takesAll[r.Match.Path.Literal()] = r
		}
	}
	for _, r := range routes {
		if r.Match.Path.Regex == "" || len(takesAll) == 0 {
			continue
		}
		if by := covering(takesAll, r.Match.Path.Literal()); by != nil {
			c.problems.Suggestf(c.at(r), policy.CodeUnreachable, "expressions are tried after all other paths; narrow "+by.Name+", or write this one as a template",
				"%s can never be reached: %s (%s) takes %s before it", r.Name, by.Name, by.Origin, by.Match.Path)
		}
	}
}

// covering is the /* route that takes every path with this literal start.
func covering(takesAll map[string]*model.Route, literal string) *model.Route {
	if r, ok := takesAll["/"]; ok {
		return r
	}
	for i := 1; i < len(literal); i++ {
		if literal[i] == '/' && strings.HasPrefix(literal, "/") {
			if r, ok := takesAll[literal[:i]]; ok {
				return r
			}
		}
	}
	return nil
}
