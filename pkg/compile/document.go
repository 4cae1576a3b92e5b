package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// The kinds that the core owns.
const (
	KindGateway = "Gateway"
	KindService = "Service"
	KindRoute   = "Route"
	KindPolicy  = "Policy"
	// KindTemplate is a route that registrations may opt in to.
	KindTemplate = "RouteTemplate"
	// KindCertificate says where a certificate with its key, or authorities, are.
	KindCertificate = "Certificate"
)

// CoreKinds are the kinds that the core owns, each with its spec.
func CoreKinds() map[string]any {
	return map[string]any{
		KindGateway: policy.Gateway{}, KindService: policy.Service{}, KindRoute: policy.Route{}, KindPolicy: policy.Bundle{},
		KindTemplate: policy.RouteTemplate{}, KindCertificate: policy.Certificate{},
	}
}

// document is one object, decoded as far as it can be without any other.
type document struct {
	*policy.Document
	problems policy.Problems

	gateway  *policy.Gateway
	service  *policy.Service
	route    *policy.Route
	bundle   *policy.Bundle
	template *policy.RouteTemplate
	secret   *policy.Certificate
	owned    feature.Spec // of a kind that a feature owns

	blocks []block   // those in the spec itself
	rules  [][]block // a Route's, by rule

	stored []policy.NamedSecret // where it names secrets of the store

	// What was compiled from it, for as long as it and all that was read for it stay the same.
	compiled *compiledRoute
	cluster  *model.Cluster
	// registered is what registrations made of a RouteTemplate, under the same condition.
	registered map[Registration]*compiledRoute
}

// same tells whether the document was read from an object like this one. Strings that are shared compare at once.
func (d *document) same(o policy.Object) bool {
	return d.Text == o.Text && d.File == o.File && d.Line == o.Line && maps.Equal(d.Content, o.Content)
}

// block is one feature's block, decoded and validated.
type block struct {
	name   string
	spec   feature.Spec
	at     policy.At
	via    string // the Policy it came through
	digest string
}

// reader decodes objects.
type reader struct {
	features feature.Set
}

// read decodes one object. What is wrong with it by itself is kept with it.
func (r reader) read(o policy.Object) *document {
	d := &document{}
	parsed := policy.Parse(o, &d.problems)
	if parsed == nil {
		d.Document = &policy.Document{Object: o}
		return d
	}
	d.Document = parsed
	r.decode(d, &d.problems)
	if strings.Contains(o.Text, "secret") { // few do
		d.stored = d.secretNames()
	}
	return d
}

// Wanted are the files that an object's fields take their text from, as it names them: what whoever sends the object
// must send along.
func Wanted(features feature.Set, o policy.Object) []string {
	return reader{features}.read(o).Wanted()
}

func (r reader) decode(d *document, p *policy.Problems) {
	at := d.Spec()
	switch d.Kind {
	case KindGateway:
		d.gateway = &policy.Gateway{}
		policy.Decode(at, d.gateway, p)
		checkListeners(at, d.gateway.Listeners, p)
		d.blocks = r.blocks(d.gateway.Blocks, feature.Gateway|feature.Rule, at, *d.gateway, p)
	case KindService:
		d.service = &policy.Service{}
		policy.Decode(at, d.service, p)
		checkService(at, d.service, p)
		d.blocks = r.blocks(d.service.Blocks, feature.Service, at, *d.service, p)
	case KindPolicy:
		d.bundle = &policy.Bundle{}
		policy.Decode(at, d.bundle, p)
		d.blocks = r.blocks(d.bundle.Blocks, feature.Gateway|feature.Rule, at, *d.bundle, p)
	case KindRoute:
		r.decodeRoute(d, at, p)
	case KindTemplate:
		d.template = &policy.RouteTemplate{}
		policy.Decode(at, d.template, p)
		checkTemplate(at, d.template, p)
		d.blocks = r.blocks(d.template.Blocks, feature.Rule|feature.Service, at, *d.template, p)
	case KindCertificate:
		d.secret = &policy.Certificate{}
		before := p.Errors()
		policy.Decode(at, d.secret, p)
		if p.Errors() == before {
			checkCertificate(at, d.secret, p)
		}
	default:
		r.decodeOwned(d, at, p)
	}
}

func (r reader) decodeRoute(d *document, at policy.At, p *policy.Problems) {
	d.route = &policy.Route{}
	policy.Decode(at, d.route, p)
	d.blocks = r.blocks(d.route.Blocks, feature.Rule, at, *d.route, p)
	checkHosts(at, d.route.Hosts, p)
	if len(d.route.Match) > 0 || len(d.route.To) > 0 || len(d.route.Rules) == 0 {
		if len(d.route.Rules) > 0 {
			p.Suggestf(at.Field("rules"), policy.CodeConflict, "move match and to into a rule of their own", "a Route has either rules, or one rule in the spec itself")
		}
		d.route.Rules = []policy.Rule{{Name: d.Name, Match: d.route.Match, To: d.route.To}}
		d.rules = [][]block{nil}
		return
	}
	for i, rule := range d.route.Rules {
		d.rules = append(d.rules, r.blocks(rule.Blocks, feature.Rule, at.Field("rules").Index(i), rule, p))
	}
	nameRules(d.route.Rules, at.Field("rules"), p)
}

func (r reader) decodeOwned(d *document, at policy.At, p *policy.Problems) {
	known := []string{KindGateway, KindService, KindRoute, KindPolicy, KindTemplate, KindCertificate}
	for _, k := range r.features.Kinds() {
		known = append(known, k.Name)
		if k.Name == d.Kind {
			d.owned = k.New()
			policy.Decode(at, d.owned, p)
			d.owned.Validate(at, p)
			return
		}
	}
	hint := "one of: " + join(known)
	if near := policy.Nearest(d.Kind, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	p.Suggestf(d.At().Field("kind"), policy.CodeKind, hint, "there is no kind %q", d.Kind)
}

func checkHosts(at policy.At, hosts []string, p *policy.Problems) {
	for i, h := range hosts {
		if err := policy.CheckHost(h); err != nil {
			p.Errorf(at.Field("hosts").Index(i), policy.CodeValue, "%v", err)
		}
	}
}

// blocks decodes the feature blocks of one struct; on is where they stand.
func (r reader) blocks(raw policy.Blocks, on feature.Place, parent policy.At, owner any, p *policy.Problems) []block {
	var out []block
	for _, b := range raw {
		f, ok := r.features.Get(b.Name)
		if !ok {
			b.Unknown(parent.Path, append(policy.FieldNames(owner), r.features.NamesOn(on)...), p)
			continue
		}
		if f.Info().On&on == 0 {
			p.Suggestf(b.Key(), policy.CodePlace, b.Name+" may stand on "+places(f.Info().On), "%s has no effect here", b.Name)
			continue
		}
		spec := f.New()
		before := p.Errors()
		policy.Decode(b.At, spec, p)
		if p.Errors() == before {
			spec.Validate(b.At, p)
		}
		out = append(out, block{name: b.Name, spec: spec, at: b.At, digest: specDigest(spec)})
	}
	return out
}

func places(on feature.Place) string {
	var names []string
	if on&feature.Gateway != 0 {
		names = append(names, "a Gateway")
	}
	if on&feature.Service != 0 {
		names = append(names, "a Service")
	}
	if on&feature.Rule != 0 {
		names = append(names, "a Gateway, a Route, a rule or a Policy")
	}
	return join(names)
}

// specDigest is the content hash of a block as canonical JSON. The same bytes are what an agent is sent.
func specDigest(spec any) string {
	b, err := json.Marshal(spec)
	if err != nil {
		panic("compile: a feature's block does not marshal: " + err.Error()) // a mistake in the program
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func checkListeners(at policy.At, listeners []policy.Listener, p *policy.Problems) {
	names, ports := map[string]bool{}, map[uint32]bool{}
	if len(listeners) == 0 && at.Node.Get("listeners") != nil {
		p.Errorf(at.Field("listeners"), policy.CodeRequired, "a Gateway needs at least one listener")
	}
	for i, l := range listeners {
		here := at.Field("listeners").Index(i)
		if !policy.ValidName(l.Name) && l.Name != "" {
			p.Errorf(here.Field("name"), policy.CodeValue, "%q is not a name: lower-case letters, digits and dashes", l.Name)
		}
		if names[l.Name] && l.Name != "" {
			p.Errorf(here.Field("name"), policy.CodeDuplicate, "two listeners are named %q", l.Name)
		}
		if ports[l.Port] && l.Port != 0 {
			p.Errorf(here.Field("port"), policy.CodeDuplicate, "two listeners have port %d", l.Port)
		}
		names[l.Name], ports[l.Port] = true, true
		if err := checkAddress(l.Address); err != nil {
			p.Errorf(here.Field("address"), policy.CodeValue, "%v", err)
		}
		checkTLS(here, l, listeners, p)
	}
}

func checkService(at policy.At, s *policy.Service, p *policy.Problems) {
	said := 0
	for _, field := range []string{"endpoints", "dns", "consul"} {
		if at.Node.Get(field) != nil {
			said++
		}
	}
	switch {
	case said > 1:
		p.Errorf(at, policy.CodeConflict, "a Service has one of endpoints, dns and consul")
	case said == 0:
		p.Suggestf(at, policy.CodeRequired, "add endpoints: [127.0.0.1:9001], dns: orders.internal:8080, or consul: orders", "the Service says nowhere where it is")
	case s.DNS != "":
		if _, _, err := policy.SplitHostPort(s.DNS); err != nil {
			p.Suggestf(at.Field("dns"), policy.CodeValue, "write for example orders.internal:8080", "%v", err)
		}
	}
	seen := map[string]bool{}
	for i, e := range s.Endpoints {
		if seen[e.Address] {
			p.Errorf(at.Field("endpoints").Index(i), policy.CodeDuplicate, "%s is listed twice; give it a weight instead", e.Address)
		}
		seen[e.Address] = true
	}
}

// nameRules gives rules without a name their number, and refuses two of one name.
func nameRules(rules []policy.Rule, at policy.At, p *policy.Problems) {
	seen := map[string]bool{}
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = ruleNumber(i)
		} else if !policy.ValidName(rules[i].Name) {
			p.Errorf(at.Index(i).Field("name"), policy.CodeValue, "%q is not a name: lower-case letters, digits and dashes", rules[i].Name)
		}
		if seen[rules[i].Name] {
			p.Errorf(at.Index(i), policy.CodeDuplicate, "two rules are named %q", rules[i].Name)
		}
		seen[rules[i].Name] = true
	}
}

// attachment is a block where it holds.
func (b block) attachment(level string) model.Attachment {
	return model.Attachment{Feature: b.name, Spec: b.spec, From: b.at.String(), Level: level, Via: b.via, Digest: b.digest}
}

func through(blocks []block, policyName string) []block {
	out := slices.Clone(blocks)
	for i := range out {
		if out[i].via == "" {
			out[i].via = policyName
		}
	}
	return out
}
