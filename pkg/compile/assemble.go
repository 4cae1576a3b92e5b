package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// assemble puts a gateway's routes into their hosts, in order, and finds the clusters they reach.
func (s *site) assemble(g *gateway) *model.Gateway {
	out := &model.Gateway{Name: g.Name, Attachments: s.gatewayAttachments(g)}
	for _, l := range g.gateway.Listeners {
		out.Listeners = append(out.Listeners, &model.Listener{
			Name: model.ListenerName(g.Name, l.Name), Gateway: g.Name, Address: l.Address, Port: l.Port, Attachments: out.Attachments,
		})
	}
	slices.SortFunc(out.Listeners, func(a, b *model.Listener) int { return cmp.Compare(a.Name, b.Name) })
	hosts, at, clusters := gather(g.routes)
	for _, domain := range slices.Sorted(maps.Keys(hosts)) {
		routes := hosts[domain]
		slices.SortStableFunc(routes, func(a, b *model.Route) int {
			return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
		})
		conflicts{domain, at, s.problems}.find(routes)
		out.Hosts = append(out.Hosts, &model.VirtualHost{Domain: domain, Routes: append(routes, notAllowed(routes)...)})
	}
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		out.Clusters = append(out.Clusters, s.cluster(name, clusters[name]))
	}
	return out
}

func gather(routes []*compiledRoute) (hosts map[string][]*model.Route, at map[*model.Route]policy.At, clusters map[string]string) {
	hosts, at, clusters = map[string][]*model.Route{}, map[*model.Route]policy.At{}, map[string]string{}
	for _, c := range routes {
		for _, h := range c.hosts {
			hosts[h] = append(hosts[h], c.routes...)
		}
		maps.Copy(at, c.at)
		maps.Copy(clusters, c.clusters)
	}
	return hosts, at, clusters
}

// gatewayAttachments are the blocks about the gateway itself; the nearer replaces the farther here too.
func (s *site) gatewayAttachments(g *gateway) []model.Attachment {
	all := map[string]held{}
	for _, f := range s.features.All() {
		if d, ok := f.(feature.Defaulter); ok {
			spec := d.Default()
			all[f.Info().Name] = held{block{name: f.Info().Name, spec: spec, digest: specDigest(spec)}, "default"}
		}
	}
	for _, b := range g.layer.blocks {
		if f, _ := s.features.Get(b.name); f.Info().On&feature.Gateway != 0 {
			all[b.name] = nearer(b, "gateway", all)
		}
	}
	var out []model.Attachment
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name].attachment(all[name].level))
	}
	s.features.SortAttachments(out)
	return out
}

// cluster is a Service's compiled form.
func (s *site) cluster(name, service string) *model.Cluster {
	d := s.documents[policy.Ref{Kind: KindService, Name: service}]
	c, _ := s.compiler.clusters.Get(d.digest, func() (*model.Cluster, error) { return s.compileCluster(name, d), nil })
	return c
}

func (s *site) compileCluster(name string, d *document) *model.Cluster {
	c := &model.Cluster{Name: name, Service: d.Name, Protocol: cmp.Or(model.Protocol(d.service.Protocol), model.HTTP1)}
	for _, b := range d.blocks {
		c.Attachments = append(c.Attachments, b.attachment("service"))
	}
	s.features.SortAttachments(c.Attachments)
	if host, port, err := policy.SplitHostPort(d.service.DNS); err == nil {
		c.DNS = &model.HostPort{Host: host, Port: port}
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
	c.Digest = specDigest([]any{c.Name, c.Protocol, c.DNS, attached})
	c.EndpointsDigest = specDigest(c.Endpoints)
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
func notAllowed(routes []*model.Route) []*model.Route {
	allowed := map[string][]string{} // nil: any method
	var paths []*model.Route         // the first of each path
	for _, r := range routes {
		key := r.Match.Path.Order()
		methods, seen := allowed[key]
		switch {
		case !seen:
			paths = append(paths, r)
			allowed[key] = r.Match.Methods
		case methods != nil && len(r.Match.Methods) > 0:
			allowed[key] = append(slices.Clip(methods), r.Match.Methods...)
		default:
			allowed[key] = nil
		}
	}
	var out []*model.Route
	for _, r := range paths {
		if methods := allowed[r.Match.Path.Order()]; len(methods) > 0 {
			out = append(out, refuseMethods(r, withWider(methods, r.Match.Path, allowed)))
		}
	}
	return out
}

// withWider adds the methods of the /* patterns that cover a path: their routes would take those.
func withWider(methods []string, p model.Path, allowed map[string][]string) []string {
	out := slices.Clone(methods)
	for n := range len(p.Segments) + 1 {
		if wider := (model.Path{Segments: p.Segments[:n], Tail: true}); p.Regex == "" {
			out = append(out, allowed[wider.Order()]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func refuseMethods(r *model.Route, allow []string) *model.Route {
	out := seal(&model.Route{
		Name:   model.OwnPrefix + "405" + r.Match.Path.String(),
		Origin: r.Origin,
		Match:  model.Match{Path: r.Match.Path, Except: allow},
		Allow:  allow,
	})
	out.Order = "\xff\xff" + out.Order
	return out
}

// conflicts finds rules of one host that cannot both be meant.
type conflicts struct {
	domain   string
	at       map[*model.Route]policy.At
	problems *policy.Problems
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
			case a.Match.Disjoint(b.Match):
			case a.Match.Undecided(b.Match):
				c.problems.Warnf(c.at[b].Field("match"), policy.CodeAmbiguous, "give one of them another condition",
					"%s and %s (%s) may both match a request for host %s; the name decides: %s is tried first", b.Name, a.Name, a.Origin, c.domain, a.Name)
			default:
				c.problems.Suggestf(c.at[b].Field("match"), policy.CodeAmbiguous, "give one of them another path, method or condition",
					"%s and %s (%s) match the same requests for host %s", b.Name, a.Name, a.Origin, c.domain)
			}
		}
	}
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
			c.problems.Suggestf(c.at[r].Field("match"), policy.CodeUnreachable, "expressions are tried after all other paths; narrow "+by.Name+", or write this one as a template",
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
