package compile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Registration is what a service's registration in a catalog asks for: a route that a RouteTemplate allows. Its values
// are of a checked alphabet; whether they are within the template's bounds is decided here.
type Registration struct {
	Service  string
	Template string
	Path     string // a prefix; /SERVICE when empty
	Host     string // "" for all that the template names itself
	// Since orders registrations that ask for the same: the earliest has it.
	Since uint64
	// Empty says that no instance is left: the route answers 503 for a while before it goes.
	Empty bool
}

// RegistrationStatus is what became of a Registration.
type RegistrationStatus struct {
	Registration
	Route  string // the name of its route; "" when it was refused
	Reason string // why it was refused
}

// retryAfter goes with the 503 of a service that is gone, in seconds.
const retryAfter = 10

func checkTemplate(at policy.At, t *policy.RouteTemplate, p *policy.Problems) {
	checkHosts(at, t.Hosts, p)
	for i, path := range t.Paths {
		m, err := policy.ParseMatch(path)
		if err != nil || !strings.HasSuffix(path, "/*") || strings.ContainsAny(m.Path, "{}") || len(m.Methods) > 0 {
			p.Suggestf(at.Field("paths").Index(i), policy.CodeValue, "write for example /team-a/*", "%q is not a path prefix", path)
		}
	}
	if at.Node.Get("paths") != nil && len(t.Paths) == 0 {
		p.Errorf(at.Field("paths"), policy.CodeRequired, "a RouteTemplate allows at least one path prefix")
	}
}

// register makes routes of registrations. One that is refused disturbs nothing else.
func (s *site) register(registrations []Registration) []RegistrationStatus {
	sorted := slices.SortedFunc(slices.Values(registrations), func(a, b Registration) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Service, b.Service))
	})
	taken := s.takenPaths()
	s.registered = map[*document]map[Registration]*compiledRoute{}
	var out []RegistrationStatus
	for _, r := range sorted {
		status := RegistrationStatus{Registration: r}
		if err := s.registerOne(r, taken); err != nil {
			status.Reason = err.Error()
		} else {
			status.Route = model.RegisteredName(r.Template, r.Service)
		}
		out = append(out, status)
	}
	for d, kept := range s.registered {
		d.registered = kept
	}
	slices.SortFunc(out, func(a, b RegistrationStatus) int { return cmp.Compare(a.Service, b.Service) })
	return out
}

// place is a gateway's host and path that a route has.
type place struct{ gateway, host, path string }

// takenPaths are the paths that written routes have, whatever else they ask for: a written Route always wins.
func (s *site) takenPaths() map[place]string {
	taken := map[place]string{}
	for _, g := range s.gateways {
		for _, c := range g.routes {
			for _, h := range c.hosts {
				for _, r := range c.routes {
					taken[place{g.Name, h, r.PathOrder()}] = r.Name
				}
			}
		}
	}
	return taken
}

func (s *site) registerOne(r Registration, taken map[place]string) error {
	d := s.documents[policy.Ref{Kind: KindTemplate, Name: r.Template}]
	if d == nil || d.template == nil || d.problems.Failed() {
		return fmt.Errorf("there is no RouteTemplate %q", r.Template)
	}
	g := s.templateGateway(d)
	if g == nil {
		return fmt.Errorf("RouteTemplate %q hangs on no Gateway", r.Template)
	}
	if r.Path == "" {
		r.Path = "/" + r.Service
	}
	hosts, err := within(d.template, r)
	if err != nil {
		return err
	}
	c := s.remembered(d, g, r, hosts)
	if c.problems.Failed() {
		return fmt.Errorf("%s", c.problems.List()[0].Message)
	}
	for _, h := range hosts {
		if by := taken[place{g.Name, h, c.routes[0].PathOrder()}]; by != "" {
			return fmt.Errorf("%s already has %s%s", by, strings.TrimPrefix(h, "*"), r.Path)
		}
	}
	for _, h := range hosts {
		taken[place{g.Name, h, c.routes[0].PathOrder()}] = c.routes[0].Name
	}
	g.routes = append(g.routes, c)
	return nil
}

func (s *site) templateGateway(d *document) *gateway {
	for _, g := range s.gateways {
		if g.Name == d.template.Gateway || d.template.Gateway == "" && len(s.gateways) == 1 {
			return g
		}
	}
	return nil
}

// within holds a registration against its template's bounds, and gives the hosts of its route.
func within(t *policy.RouteTemplate, r Registration) ([]string, error) {
	wanted := compilePath(strings.TrimSuffix(r.Path, "/") + "/*")
	if !slices.ContainsFunc(t.Paths, func(allowed string) bool { return compilePath(allowed).Covers(wanted) }) {
		return nil, fmt.Errorf("path %q is not within %s", r.Path, join(t.Paths))
	}
	switch {
	case r.Host == "" && len(t.Hosts) == 0:
		return []string{"*"}, nil
	case r.Host == "":
		named := slices.DeleteFunc(slices.Clone(t.Hosts), func(h string) bool { return strings.HasPrefix(h, "*") })
		if len(named) == 0 {
			return nil, fmt.Errorf("the registration names no host, and RouteTemplate %q only allows %s", r.Template, join(t.Hosts))
		}
		return named, nil
	case slices.ContainsFunc(t.Hosts, func(allowed string) bool { return allows(allowed, r.Host) }):
		return []string{r.Host}, nil
	}
	return nil, fmt.Errorf("host %q is not within %s", r.Host, cmp.Or(join(t.Hosts), "the template, which names none"))
}

func allows(allowed, host string) bool {
	suffix, wild := strings.CutPrefix(allowed, "*")
	return allowed == host || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)
}

// remembered is a template's route for one registration, compiled once for as long as all of it is the same.
func (s *site) remembered(d *document, g *gateway, r Registration, hosts []string) *compiledRoute {
	c := d.registered[r]
	if c == nil || !s.current(c.reads) {
		c = s.compileRegistration(d, g, r, hosts)
	}
	if s.registered[d] == nil {
		s.registered[d] = map[Registration]*compiledRoute{}
	}
	s.registered[d][r] = c
	return c
}

func (s *site) compileRegistration(d *document, g *gateway, r Registration, hosts []string) *compiledRoute {
	name := model.RegisteredName(r.Template, r.Service)
	t := s.track()
	t.get(KindGateway, g.Name)
	maps.Copy(t.reads, g.layer.reads)
	c := &compiledRoute{hosts: hosts, clusters: map[string]*document{}}
	blocks := t.expand(d.template.Use, d.Spec().Field("use"), d.blocks, &c.problems)
	service := &document{
		Document: d.Document, blocks: s.holdingOn(blocks, feature.Service),
		service: &policy.Service{Consul: &policy.Consul{Service: r.Service}},
	}
	rc := ruleCompiler{tracker: t, gateway: g, doc: d, rule: &policy.Rule{Name: r.Service}, at: d.Spec(), problems: &c.problems}
	match := model.Match{Path: compilePath(strings.TrimSuffix(r.Path, "/") + "/*")}
	backends := []model.Backend{{Cluster: name, Service: r.Service, Weight: 1}}
	own := layer{level: "route", blocks: s.holdingOn(blocks, feature.Rule)}
	c.routes = rc.compile([]model.Match{match}, backends, []*document{service}, g.layer, own)
	if r.Empty {
		c.routes = []*model.Route{unavailable(c.routes[0])}
	}
	for range c.routes {
		c.at = append(c.at, d.Spec())
	}
	c.reads = t.reads
	maps.Copy(c.clusters, t.clusters)
	c.clusters[name] = service
	return c
}

func unavailable(r *model.Route) *model.Route {
	out := *r
	out.Unavailable, out.RetryAfter, out.Backends, out.Attachments = true, retryAfter, nil, nil
	return seal(&out)
}

// holdingOn are the blocks that may stand at a place.
func (s *site) holdingOn(blocks []block, on feature.Place) []block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b block) bool {
		f, _ := s.features.Get(b.name)
		return f.Info().On&on == 0
	})
}

// SampleService is the name of the registrations that stand in for those to come.
const SampleService = "sluice-sample"

// Samples are registrations that a site's templates allow, one each: what is proven in place of those to come.
func (c *Compiler) Samples() []Registration {
	var out []Registration
	for ref, d := range c.previous {
		if ref.Kind != KindTemplate || d.template == nil || len(d.template.Paths) == 0 {
			continue
		}
		r := Registration{Service: SampleService, Template: ref.Name, Path: strings.TrimSuffix(d.template.Paths[0], "/*") + "/" + SampleService}
		if len(d.template.Hosts) > 0 {
			r.Host = strings.Replace(d.template.Hosts[0], "*", "sample", 1)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Registration) int { return cmp.Compare(a.Template, b.Template) })
	return out
}
