package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// compiledRoute is one Route document's compiled form, and what it was made from beside the document itself.
type compiledRoute struct {
	hosts    []string
	routes   []*model.Route
	at       []policy.At // of the rule, by route
	clusters map[string]*document
	reads    map[policy.Ref]*document
	problems policy.Problems
}

// layer is the blocks of one level, those of its Policies first.
type layer struct {
	level  string
	blocks []block
	reads  map[policy.Ref]*document
}

func (s *site) compileRoute(d *document, g *gateway) *compiledRoute {
	t := s.track()
	c := &compiledRoute{hosts: d.route.Hosts}
	if len(c.hosts) == 0 {
		c.hosts = []string{"*"}
	}
	t.get(KindGateway, g.Name)
	maps.Copy(t.reads, g.layer.reads)
	own := layer{level: "route", blocks: t.expand(d.route.Use, d.Spec().Field("use"), d.blocks, &c.problems)}
	for i := range d.route.Rules {
		r := ruleCompiler{tracker: t, gateway: g, doc: d, rule: &d.route.Rules[i], at: ruleAt(d, i), problems: &c.problems}
		rule := layer{level: "rule", blocks: t.expand(r.rule.Use, r.at.Field("use"), d.rules[i], &c.problems)}
		backends, services := r.backends()
		for _, route := range r.compile(r.matches(), backends, services, g.layer, own, rule) {
			c.routes, c.at = append(c.routes, route), append(c.at, r.at)
		}
	}
	c.reads, c.clusters = t.reads, t.clusters
	return c
}

// ruleAt is the place of a rule, which may be the spec itself.
func ruleAt(d *document, i int) policy.At {
	if d.Spec().Node.Get("rules") == nil {
		return d.Spec()
	}
	return d.Spec().Field("rules").Index(i)
}

// ruleCompiler compiles one rule.
type ruleCompiler struct {
	*tracker
	gateway  *gateway
	doc      *document
	rule     *policy.Rule
	at       policy.At
	problems *policy.Problems
}

// compile gives a route for each match; the layers are from far to near.
func (r *ruleCompiler) compile(matches []model.Match, backends []model.Backend, services []*document, gateway layer, near ...layer) []*model.Route {
	held := r.merge(gateway, services, near...)
	held = r.answer(held, len(backends)+len(r.rule.To) > 0)
	attachments := r.resolve(held)
	for _, s := range services {
		attachments = append(attachments, r.serviceOnly(s)...)
	}
	r.site.features.SortAttachments(attachments)
	r.checkMatches(held, matches)
	r.checkCompanions(held)
	r.checkListeners(held)
	r.checkDecider(held, attachments)
	var out []*model.Route
	for i, m := range matches {
		one := &model.Route{Name: r.name(i), Route: r.doc.Name, Origin: r.at.String(), Match: m, Backends: backends, Attachments: forMatch(attachments, m)}
		out = append(out, seal(one))
		out = append(out, r.expandRoute(one)...)
	}
	return out
}

// forMatch lets blocks mean something else on each match.
func forMatch(all []model.Attachment, m model.Match) []model.Attachment {
	out := all
	for i, a := range all {
		f, ok := a.Spec.(feature.MatchResolver)
		if !ok {
			continue
		}
		spec := f.ForMatch(m)
		if spec == a.Spec {
			continue
		}
		if &out[0] == &all[0] {
			out = slices.Clone(all)
		}
		out[i].Spec, out[i].Digest = spec, specDigest(spec)
	}
	return out
}

func (r *ruleCompiler) name(i int) string {
	name := model.RouteName(r.doc.Name, r.rule.Name)
	if i > 0 {
		name += "#" + strconv.Itoa(i+1)
	}
	return name
}

// backends follows `to`.
func (r *ruleCompiler) backends() (backends []model.Backend, services []*document) {
	to := r.at.Field("to")
	for i, target := range r.rule.To {
		at := to
		if len(r.rule.To) > 1 || to.Node.Kind == policy.List {
			at = to.Index(i).Field("service")
		}
		cluster, ok := r.Cluster(target.Service)
		if !ok {
			r.problems.Suggestf(at, policy.CodeReference, hint(target.Service, r.site.names(KindService), KindService), "there is no Service %q", target.Service)
			continue
		}
		weight := uint32(1)
		if target.Weight != nil {
			weight = *target.Weight
		}
		backends = append(backends, model.Backend{Cluster: cluster, Service: target.Service, Weight: weight})
		services = append(services, r.get(KindService, target.Service))
	}
	return backends, services
}

// held is one feature's block as it holds after the merge.
type held struct {
	block
	level string
}

// merge lets the nearer replace the farther, or join it: Gateway, Service, Route, rule. Of several services the first
// one's blocks are nearest. Defaults are the farthest.
func (r *ruleCompiler) merge(gateway layer, services []*document, near ...layer) map[string]held {
	layers := []layer{gateway}
	for _, s := range slices.Backward(services) {
		layers = append(layers, layer{level: "service", blocks: s.blocks})
	}
	out := r.site.defaults(feature.Rule)
	for _, l := range append(layers, near...) {
		for _, b := range l.blocks {
			if r.holdsOnRoutes(b, l) {
				out[b.name] = nearer(b, l.level, out)
			}
		}
	}
	return out
}

// holdsOnRoutes leaves out a Gateway's blocks about listeners and a Service's blocks about its cluster.
func (r *ruleCompiler) holdsOnRoutes(b block, l layer) bool {
	f, _ := r.site.features.Get(b.name)
	if f.Info().On&feature.Rule != 0 {
		return true
	}
	if l.level == "route" || l.level == "rule" {
		r.problems.Suggestf(b.at, policy.CodePlace, "use that Policy on a Gateway", "%s has no effect on a %s: it may stand on %s", b.name, l.level, places(f.Info().On))
	}
	return false
}

func nearer(b block, level string, farther map[string]held) held {
	if f, ok := farther[b.name]; ok {
		if j, ok := b.spec.(feature.Joiner); ok {
			b.spec = j.Join(f.spec)
			b.digest = specDigest(b.spec)
		}
	}
	return held{b, level}
}

// serviceOnly are a Service's blocks that change routes to it but can stand nowhere else.
func (r *ruleCompiler) serviceOnly(s *document) []model.Attachment {
	var out []model.Attachment
	for _, b := range s.blocks {
		f, _ := r.site.features.Get(b.name)
		if _, ok := b.spec.(feature.RouteConfigurer); ok && f.Info().On == feature.Service {
			out = append(out, b.attachment("service"))
		}
	}
	return out
}

// nearness orders levels from far to near.
func nearness(level string) int {
	return slices.Index([]string{"gateway", "service", "route", "rule"}, level)
}

// answer decides who answers: the services that requests are sent to, or the nearest block that answers itself.
func (r *ruleCompiler) answer(all map[string]held, sent bool) map[string]held {
	var answering []held
	for _, h := range all {
		if a, ok := h.spec.(feature.Answerer); ok && a.Answers() {
			answering = append(answering, h)
		}
	}
	slices.SortFunc(answering, func(a, b held) int {
		return cmp.Or(cmp.Compare(nearness(b.level), nearness(a.level)), strings.Compare(a.name, b.name))
	})
	switch {
	case len(answering) == 0:
		if !sent {
			r.problems.Suggestf(r.at, policy.CodeRequired, "add to: with the name of a Service", "the rule does not say where its requests go")
		}
		return all
	case sent:
		r.refuseBoth(answering)
	case len(answering) > 1 && answering[0].level == answering[1].level:
		r.problems.Errorf(answering[1].at, policy.CodeConflict, "%s and %s both answer the request", answering[0].name, answering[1].name)
	}
	for i, h := range answering {
		if i > 0 || sent {
			delete(all, h.name)
		}
	}
	return all
}

func (r *ruleCompiler) refuseBoth(answering []held) {
	for _, h := range answering {
		if h.level == "rule" || h.level == "route" && len(r.doc.route.Match)+len(r.doc.route.To) > 0 {
			r.problems.Errorf(h.at, policy.CodeConflict, "a rule has either to or %s", h.name)
		}
	}
}

func (r *ruleCompiler) resolve(all map[string]held) []model.Attachment {
	out := make([]model.Attachment, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		h := all[name]
		if res, ok := h.spec.(feature.Resolver); ok {
			h.spec = res.Resolve(h.at, r.tracker, r.problems)
			h.digest = specDigest(h.spec)
		}
		out = append(out, h.attachment(h.level))
	}
	return out
}

// checkMatches asks the blocks that do not suit every match.
func (r *ruleCompiler) checkMatches(all map[string]held, matches []model.Match) {
	for _, h := range all {
		c, ok := h.spec.(feature.MatchChecker)
		if !ok {
			continue
		}
		for _, m := range matches {
			c.CheckMatch(m, h.at, r.problems)
		}
	}
}

// checkCompanions asks the blocks that need others beside them.
func (r *ruleCompiler) checkCompanions(all map[string]held) {
	var specs []feature.Spec
	for _, name := range slices.Sorted(maps.Keys(all)) {
		specs = append(specs, all[name].spec)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if c, ok := all[name].spec.(feature.CompanionChecker); ok {
			c.CheckCompanions(specs, all[name].at, r.problems)
		}
	}
}

// checkListeners asks the blocks that do not suit every gateway.
func (r *ruleCompiler) checkListeners(all map[string]held) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if c, ok := all[name].spec.(feature.ListenerChecker); ok {
			c.CheckListeners(r.gateway.listeners(), all[name].at, r.problems)
		}
	}
}

// checkDecider asks the block that wants Envoy to decide whether it can.
func (r *ruleCompiler) checkDecider(all map[string]held, attachments []model.Attachment) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if _, ok := all[name].spec.(feature.DeciderChooser); !ok {
			continue
		}
		if err := feature.CheckDecider(attachments); err != nil {
			r.problems.Suggestf(all[name].at.Field("decide"), policy.CodeConflict, "leave decide out: then the agent decides", "%s: %v", r.name(0), err)
		}
	}
}

// expansionMark stands in the name of every route that a feature adds to a rule, and in no other.
const expansionMark = "~"

// expandRoute adds the further routes that features ask for.
func (r *ruleCompiler) expandRoute(route *model.Route) []*model.Route {
	var out []*model.Route
	for _, a := range route.Attachments {
		e, ok := a.Spec.(feature.Expander)
		if !ok {
			continue
		}
		for _, more := range e.Expand(route, a) {
			more.Name, more.Origin = route.Name+expansionMark+a.Feature, route.Origin
			out = append(out, seal(more))
		}
	}
	return out
}

func (r *ruleCompiler) matches() []model.Match {
	if len(r.rule.Match) == 0 {
		return []model.Match{{Path: model.Path{Tail: true}}}
	}
	var out []model.Match
	for _, m := range r.rule.Match {
		out = append(out, compileMatch(m))
	}
	return out
}

// compileMatch gives the one form that the model has for all of the language's.
func compileMatch(m policy.Match) model.Match {
	out := model.Match{Methods: slices.Compact(slices.Sorted(slices.Values(m.Methods)))}
	switch {
	case m.Regex != "":
		out.Path.Regex = m.Regex
	case m.Prefix != "":
		out.Path = compilePath(strings.TrimSuffix(m.Prefix, "/") + "/*")
	default:
		out.Path = compilePath(cmp.Or(m.Path, m.Template, "/*"))
	}
	for name, v := range m.Headers {
		out.Headers = append(out.Headers, compileCondition(strings.ToLower(textproto.TrimString(name)), v))
	}
	for name, v := range m.Query {
		out.Query = append(out.Query, compileCondition(name, v))
	}
	slices.SortFunc(out.Headers, model.Condition.Compare)
	slices.SortFunc(out.Query, model.Condition.Compare)
	return out
}

func compilePath(path string) model.Path {
	rest, tail := strings.CutSuffix(path, "/*")
	p := model.Path{Tail: tail}
	if rest == "" && tail {
		return p
	}
	for _, s := range strings.Split(strings.TrimPrefix(rest, "/"), "/") {
		if name, ok := strings.CutPrefix(s, "{"); ok {
			p.Segments = append(p.Segments, model.Segment{Param: strings.TrimSuffix(name, "}")})
			continue
		}
		p.Segments = append(p.Segments, model.Segment{Literal: escape(s)})
	}
	return p
}

// escape writes a literal segment as it stands in a request: other than ASCII percent-encoded.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>^`{|}", c) >= 0 {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func compileCondition(name string, v policy.ValueMatch) model.Condition {
	switch {
	case v.Exact != nil:
		return model.Condition{Name: name, Op: model.Exact, Value: *v.Exact}
	case v.Prefix != "":
		return model.Condition{Name: name, Op: model.Prefix, Value: v.Prefix}
	case v.Regex != "":
		return model.Condition{Name: name, Op: model.Regex, Value: v.Regex}
	case v.Present != nil && !*v.Present:
		return model.Condition{Name: name, Op: model.Absent}
	}
	return model.Condition{Name: name, Op: model.Present}
}

// seal sets what follows from the rest of a route: who decides, its order and its digest.
func seal(r *model.Route) *model.Route {
	if err := feature.Decide(r); err != nil {
		panic("compile: a feature's block does not marshal: " + err.Error()) // a mistake in the program
	}
	r.Order, r.Literal = r.Match.Order(), r.Match.Path.Literal()
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode([]any{r.Name, r.Origin, r.Match, r.Backends, r.Allow, r.Text, r.Unavailable}) // a hash takes every write
	for _, a := range r.Attachments {
		h.Write([]byte(a.Feature + "\x00" + a.Digest + "\x00"))
	}
	r.Digest = hex.EncodeToString(h.Sum(nil))
	return r
}
