// Package compile turns documents into the model: every reference resolved, blocks merged, matches in their final
// order, and every Problem of one run gathered. It is pure but for what it remembers: a document's decoded form and a
// route's compiled form, by the digest of what they were made from.
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
	reader    reader
	documents memo.Table[*document]
	routes    memo.Table[*compiledRoute]
	clusters  memo.Table[*model.Cluster]
}

// New is a Compiler for a set of features.
func New(features feature.Set) *Compiler {
	return &Compiler{reader: reader{features}}
}

// Compile gives the model of a site's objects, and what is wrong with them. When the Problems have errors, the model
// is what could be made of the rest: good for explaining, not for serving.
func (c *Compiler) Compile(objects []policy.Object) (*model.Config, *policy.Problems) {
	p := &policy.Problems{}
	s := &site{compiler: c, features: c.reader.features, documents: map[policy.Ref]*document{}, problems: p}
	defer c.endRun()
	if len(objects) > MaxObjects {
		p.Add(policy.Problem{Severity: policy.Error, Code: policy.CodeTooMany, Message: fmt.Sprintf("%d objects; a site may have %d", len(objects), MaxObjects)})
		return &model.Config{}, p
	}
	s.read(objects)
	s.layers()
	s.compileRoutes()
	return s.config(), p
}

func (c *Compiler) endRun() {
	c.documents.EndRun()
	c.routes.EndRun()
	c.clusters.EndRun()
}

// site is one run.
type site struct {
	compiler  *Compiler
	features  feature.Set
	documents map[policy.Ref]*document
	gateways  []*gateway // by name
	routes    []*document
	problems  *policy.Problems
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
		digest := o.Digest()
		d, ok := s.compiler.documents.Peek(digest)
		if !ok {
			d = s.compiler.reader.read(o)
			s.compiler.documents.Put(digest, d)
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
	byName := func(a, b string) int { return cmp.Compare(a, b) }
	slices.SortFunc(s.gateways, func(a, b *gateway) int { return byName(a.Name, b.Name) })
	slices.SortFunc(s.routes, func(a, b *document) int { return byName(a.Name, b.Name) })
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
		c, ok := s.compiler.routes.Peek(d.digest)
		if !ok || !s.current(c.reads) {
			c = s.compileRoute(d, g)
			s.compiler.routes.Put(d.digest, c)
		}
		s.problems.Join(c.problems)
		g.routes = append(g.routes, c)
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
func (s *site) current(reads map[policy.Ref]string) bool {
	for ref, digest := range reads {
		if s.digestOf(ref) != digest {
			return false
		}
	}
	return true
}

func (s *site) digestOf(ref policy.Ref) string {
	if d, ok := s.documents[ref]; ok {
		return d.digest
	}
	return ""
}

// config puts the pieces together.
func (s *site) config() *model.Config {
	out := &model.Config{}
	for _, g := range s.gateways {
		out.Gateways = append(out.Gateways, s.assemble(g))
	}
	return out
}
