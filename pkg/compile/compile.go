// Package compile turns documents into the model: every reference resolved, blocks merged, matches in their final
// order, and every Problem of one run gathered. It is pure but for what it remembers of the run before: a document's
// decoded and compiled form, for as long as what they were made from is the same.
package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/memo"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// MaxObjects is how many objects one site may have.
const MaxObjects = 200_000

// Compiler compiles again and again, remembering what has not changed. Not safe for concurrent use.
type Compiler struct {
	reader   reader
	previous map[policy.Ref]*document
	refusals memo.Table[string, *model.Route] // the 405s, by path and methods
}

// New is a Compiler for a set of features.
func New(features feature.Set) *Compiler {
	return &Compiler{reader: reader{features}}
}

// Compile gives the model of a site's objects, and what is wrong with them. When the Problems have errors, the model
// is what could be made of the rest: good for explaining, not for serving.
func (c *Compiler) Compile(objects []policy.Object) (*model.Config, *policy.Problems) {
	config, p, _ := c.CompileWith(objects, Further{})
	return config, p
}

// Further is what routes are made of beside a site's objects.
type Further struct {
	Registrations []Registration
	Challenges    []Challenge
}

// CompileWith is Compile with further routes, and what became of each registration.
func (c *Compiler) CompileWith(objects []policy.Object, more Further) (*model.Config, *policy.Problems, []RegistrationStatus) {
	p := &policy.Problems{}
	s := &site{compiler: c, features: c.reader.features, documents: make(map[policy.Ref]*document, len(objects)), problems: p, challenges: more.Challenges}
	if len(objects) > MaxObjects {
		p.Add(policy.Problem{Severity: policy.Error, Code: policy.CodeTooMany, Message: fmt.Sprintf("%d objects; a site may have %d", len(objects), MaxObjects)})
		return &model.Config{}, p, nil
	}
	s.read(objects)
	s.layers()
	s.checkSecrets()
	s.compileRoutes()
	statuses := s.register(more.Registrations)
	out := s.config()
	c.previous = s.documents
	c.refusals.EndRun()
	return out, p, statuses
}

// site is one run.
type site struct {
	compiler   *Compiler
	features   feature.Set
	documents  map[policy.Ref]*document
	gateways   []*gateway // by name
	routes     []*document
	problems   *policy.Problems
	challenges []Challenge
	// registered is what is remembered of this run's registrations, by template.
	registered map[*document]map[Registration]*compiledRoute
}

// gateway gathers what hangs on one Gateway.
type gateway struct {
	*document
	layer  layer
	routes []*compiledRoute
}

// read decodes what is new, and finds objects of one name.
func (s *site) read(objects []policy.Object) {
	for _, o := range objects {
		d := s.compiler.previous[o.Ref]
		if d == nil || !d.same(o) {
			d = s.compiler.reader.read(o)
		}
		s.problems.Join(d.problems)
		if first, twice := s.documents[o.Ref]; twice {
			s.problems.Errorf(d.At(), policy.CodeDuplicate, "%s is already defined at %s:%d", o.Ref, first.File, first.Line)
			continue
		}
		s.documents[o.Ref] = d
		switch {
		case d.gateway != nil:
			s.gateways = append(s.gateways, &gateway{document: d})
		case d.route != nil:
			s.routes = append(s.routes, d)
		}
	}
	slices.SortFunc(s.gateways, func(a, b *gateway) int { return cmp.Compare(a.Name, b.Name) })
}

// layers expands each Gateway's own blocks, and checks every Policy, used or not.
func (s *site) layers() {
	for _, g := range s.gateways {
		t := s.track()
		g.layer = layer{level: "gateway", blocks: t.expand(g.gateway.Use, g.Spec().Field("use"), g.blocks, s.problems), reads: t.reads}
	}
	for _, d := range s.documents {
		if d.bundle != nil {
			s.track().expand([]string{d.Name}, d.Spec().Field("use"), nil, s.problems)
		}
	}
}

func (s *site) compileRoutes() {
	for _, d := range s.routes {
		g := s.gatewayOf(d)
		if g == nil {
			continue
		}
		if d.compiled == nil || !s.current(d.compiled.reads) {
			d.compiled = s.compileRoute(d, g)
		}
		s.problems.Join(d.compiled.problems)
		if !d.problems.Failed() { // else more would be found that is only a consequence
			g.routes = append(g.routes, d.compiled)
		}
	}
}

// gatewayOf is the Gateway a Route hangs on.
func (s *site) gatewayOf(d *document) *gateway {
	name := d.route.Gateway
	if name == "" && len(s.gateways) == 1 {
		return s.gateways[0]
	}
	var names []string
	for _, g := range s.gateways {
		if g.Name == name {
			return g
		}
		names = append(names, g.Name)
	}
	switch {
	case name != "":
		s.problems.Suggestf(d.Spec().Field("gateway"), policy.CodeReference, hint(name, names, "Gateway"), "there is no Gateway %q", name)
	case len(names) == 0:
		s.problems.Suggestf(d.At(), policy.CodeReference, "add a Gateway, with a listener", "there is no Gateway for %s to hang on", d.Ref)
	default:
		s.problems.Suggestf(d.At(), policy.CodeRequired, "add gateway: to the spec, one of: "+join(names), "%s does not say which Gateway it hangs on", d.Ref)
	}
	return nil
}

// current tells whether everything that was read is still the same.
func (s *site) current(reads map[policy.Ref]*document) bool {
	for ref, d := range reads {
		if s.documents[ref] != d {
			return false
		}
	}
	return true
}

// config puts the pieces together.
func (s *site) config() *model.Config {
	out := &model.Config{}
	for _, g := range s.gateways {
		out.Gateways = append(out.Gateways, s.assemble(g))
	}
	out.StoreSecrets = s.storeSecrets()
	return out
}
