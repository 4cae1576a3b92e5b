// Package authenticate finds out who is calling, by JSON Web Tokens of known issuers.
package authenticate

import (
	"regexp"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `authenticate`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "authenticate", Stage: feature.StageExtAuthz, On: feature.Rule,
		Summary: "Who may call at all: callers without valid credentials are answered 401."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Kinds implements feature.Kinds.
func (Feature) Kinds() []feature.Kind {
	return []feature.Kind{{Name: KindIssuer, Summary: "Who signs tokens, by which keys, and what their claims mean.", New: newIssuer}}
}

// ParseData implements feature.DataParser: the data of an issuer is its key set.
func (Feature) ParseData(body []byte) (any, error) { return ParseKeySet(body) }

// Spec is the block: `none`, or the methods that all must succeed.
type Spec struct {
	None        bool  `json:"none,omitempty"`
	JWT         Names `json:"jwt,omitempty" jsonschema_description:"The Issuer whose tokens are taken, or several of which the token's own is chosen."`
	From        From  `json:"from,omitzero" jsonschema_description:"Where the token is; the header Authorization, after the word Bearer, when left out."`
	Overridable bool  `json:"overridable,omitempty" jsonschema_description:"Lets a nearer block be none."`

	// Issuers are the documents that JWT names, once resolved.
	Issuers []NamedIssuer `json:"issuers,omitempty"`

	locked bool // a farther block does not let this one be none
}

// From is where a token is; at most one field is set.
type From struct {
	Header string `json:"header,omitempty" jsonschema_description:"A header that holds the token and nothing else."`
	Cookie string `json:"cookie,omitempty" jsonschema_description:"A cookie."`
	Query  string `json:"query,omitempty" jsonschema_description:"A parameter of the query. It ends up in logs and histories: prefer the others."`
}

// Names is one name or a list.
type Names []string

// UnmarshalNode reads either form.
func (n *Names) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		*n = Names{at.Node.Value}
		return
	}
	policy.Decode(at, (*[]string)(n), p)
}

// JSONSchema describes both forms.
func (Names) JSONSchema() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}}}
}

// written is the block's long form.
type written struct {
	JWT         Names `json:"jwt,omitempty" jsonschema_description:"The Issuer whose tokens are taken, or several of which the token's own is chosen."`
	From        From  `json:"from,omitzero" jsonschema_description:"Where the token is; the header Authorization, after the word Bearer, when left out."`
	Overridable bool  `json:"overridable,omitempty" jsonschema_description:"Lets a nearer block be none."`
}

// UnmarshalNode reads `none` or the long form.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		if s.None = at.Node.Value == "none"; !s.None {
			p.Suggestf(at, policy.CodeValue, "write authenticate: {jwt: "+at.Node.Value+"}", "authenticate is %q; none, or a mapping is wanted", at.Node.Value)
		}
		return
	}
	for _, method := range []string{"anyOf", "apiKey", "certificate", "basic", "oauth", "introspection"} {
		if f := at.Node.Get(method); f != nil {
			p.Suggestf(at.Field(method), policy.CodeNotSupported, "write jwt: and the name of an Issuer", "authenticate.%s is not in this version", method)
			return
		}
	}
	w := written{}
	policy.Decode(at, &w, p)
	s.JWT, s.From, s.Overridable = w.JWT, w.From, w.Overridable
}

// JSONSchema describes both forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Const: "none"}, policy.TypeSchema(written{})}}
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if !s.None && len(s.JWT) == 0 {
		p.Suggestf(at, policy.CodeRequired, "write jwt: and the name of an Issuer, or authenticate: none", "the block names no way to authenticate")
	}
	s.From.validate(at.Field("from"), p)
}

func (f From) validate(at policy.At, p *policy.Problems) {
	said := 0
	for _, name := range []string{f.Header, f.Cookie, f.Query} {
		if name != "" {
			said++
		}
	}
	token := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	switch {
	case said > 1:
		p.Errorf(at, policy.CodeConflict, "the token is in one of header, cookie and query")
	case said == 1 && !token.MatchString(f.Header+f.Cookie+f.Query):
		p.Errorf(at, policy.CodeValue, "%q is not a name of letters, digits, dots, dashes and underscores", f.Header+f.Cookie+f.Query)
	case strings.Contains(f.Header, "_"):
		p.Errorf(at.Field("header"), policy.CodeValue, "headers with underscores are refused by the gateway")
	case strings.HasPrefix(strings.ToLower(f.Header), "x-sluice-") || strings.HasPrefix(strings.ToLower(f.Header), "x-envoy-"):
		p.Errorf(at.Field("header"), policy.CodeValue, "no client can send the header %s", f.Header)
	}
}

// Join implements feature.Joiner: the nearer replaces the farther, but none only where that is allowed.
func (s *Spec) Join(farther feature.Spec) feature.Spec {
	far := farther.(*Spec)
	if !s.None || far.None && !far.locked || far.Overridable {
		return s
	}
	out := *s
	out.locked = true
	return &out
}

// Resolve implements feature.Resolver: names become what the Issuers say.
func (s *Spec) Resolve(at policy.At, l feature.Lookup, p *policy.Problems) feature.Spec {
	if s.locked {
		p.Suggestf(at, policy.CodeConflict, "write overridable: true beside the farther authenticate, if that is meant",
			"authenticate: none would take away what a Gateway, Route or Policy farther away asks for")
	}
	out := *s
	seen := map[string]string{}
	for i, name := range s.JWT {
		here := at.Field("jwt")
		if len(s.JWT) > 1 {
			here = here.Index(i)
		}
		found, ok := l.Document(KindIssuer, name)
		issuer, is := found.(*Issuer)
		if !ok || !is {
			p.Suggestf(here, policy.CodeReference, l.Hint(KindIssuer, name), "there is no Issuer %q", name)
			continue
		}
		if other, twice := seen[issuer.Issuer]; twice {
			p.Errorf(here, policy.CodeConflict, "the Issuers %s and %s have the same issuer %q: a token's own could not be told", other, name, issuer.Issuer)
		}
		seen[issuer.Issuer] = name
		out.Issuers = append(out.Issuers, issuer.named(name))
	}
	return &out
}

// Data implements feature.DataUser.
func (s *Spec) Data() []model.Data {
	var out []model.Data
	for _, i := range s.Issuers {
		out = append(out, i.data)
	}
	return out
}

// AtRuntime implements feature.RuntimeDecider: none asks nobody.
func (s *Spec) AtRuntime() bool { return !s.None }

// Authenticates implements feature.Authenticator.
func (s *Spec) Authenticates() bool { return !s.None && len(s.JWT) > 0 }

// KindIssuer is the kind of documents that say who signs tokens.
const KindIssuer = "Issuer"

// Issuer is who signs tokens, by which keys, and what their claims mean.
type Issuer struct {
	Issuer        string          `json:"issuer" jsonschema:"required" jsonschema_description:"The value of the claim iss, exactly."`
	Audiences     []string        `json:"audiences" jsonschema:"required" jsonschema_description:"A token is taken that names one of these in its claim aud."`
	JWKS          *Keys           `json:"jwks,omitempty" jsonschema_description:"Where its keys are."`
	Discovery     string          `json:"discovery,omitempty" jsonschema_description:"The issuer's URL, below which its OpenID Connect discovery document names its keys; it must equal issuer."`
	Claims        Claims          `json:"claims,omitzero" jsonschema_description:"Which claims say who is calling."`
	Algorithms    []string        `json:"algorithms,omitempty" jsonschema_description:"The signatures that are taken, of RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA; all of them when left out."`
	Skew          policy.Duration `json:"skew,omitempty" jsonschema_description:"How far clocks may differ; 60s when left out, at most 5m."`
	RequireExpiry bool            `json:"requireExpiry" jsonschema_description:"Refuses tokens without the claim exp; true when left out."`
}

// Keys is where a key set (JWKS) is; one field is set.
type Keys struct {
	URL    string `json:"url,omitempty" jsonschema_description:"https, or http to loopback. Asked every 30 seconds; the last good answer is kept."`
	File   string `json:"file,omitempty" jsonschema_description:"A file on the control plane's machine, read again when it changes."`
	Env    string `json:"env,omitempty" jsonschema_description:"A variable of the control plane."`
	Inline string `json:"inline,omitempty" jsonschema_description:"The key set itself, as JSON. Public keys only."`
}

// Claims names the claims that say who is calling. A dot leads into an object, where no claim has the whole name.
type Claims struct {
	User        string `json:"user,omitempty" jsonschema_description:"sub when left out."`
	Plan        string `json:"plan,omitempty" jsonschema_description:"plan when left out."`
	Permissions string `json:"permissions,omitempty" jsonschema_description:"permissions when left out. A list, or words with spaces between."`
	Scopes      string `json:"scopes,omitempty" jsonschema_description:"scope when left out. A list, or words with spaces between."`
	Roles       string `json:"roles,omitempty" jsonschema_description:"roles when left out. A list, or words with spaces between."`
}

func newIssuer() feature.Spec {
	return &Issuer{
		Claims: Claims{User: "sub", Plan: "plan", Permissions: "permissions", Scopes: "scope", Roles: "roles"},
		Skew:   60e9, RequireExpiry: true,
	}
}

// maxSkew is how far clocks may be said to differ.
const maxSkew = 300e9

// Validate implements feature.Spec.
func (i *Issuer) Validate(at policy.At, p *policy.Problems) {
	if len(i.Audiences) == 0 && at.Node.Get("audiences") != nil || slices.Contains(i.Audiences, "") {
		p.Suggestf(at.Field("audiences"), policy.CodeRequired, "name what tokens for this gateway carry in aud", "without an audience any token of the issuer would be taken, whoever it was made for")
	}
	if i.Issuer == "" && at.Node.Get("issuer") != nil {
		p.Errorf(at.Field("issuer"), policy.CodeRequired, "the issuer is empty")
	}
	if i.Skew > maxSkew {
		p.Errorf(at.Field("skew"), policy.CodeValue, "clocks that differ by more than 5m should be set instead")
	}
	for n, alg := range i.Algorithms {
		if !slices.Contains(algorithms(), alg) {
			p.Suggestf(at.Field("algorithms").Index(n), policy.CodeValue, "use "+strings.Join(algorithms(), ", "), "%q is not an algorithm that is taken: its key would have to be secret, or there is none", alg)
		}
	}
	i.validateKeys(at, p)
}

func (i *Issuer) validateKeys(at policy.At, p *policy.Problems) {
	k := Keys{}
	if i.JWKS != nil {
		k = *i.JWKS
	}
	said := 0
	for _, s := range []string{k.URL, k.File, k.Env, k.Inline, i.Discovery} {
		if s != "" {
			said++
		}
	}
	switch {
	case said != 1:
		p.Suggestf(at, policy.CodeRequired, "write jwks: {url: …}, {file: …}, {env: …} or {inline: …}, or discovery: …", "an Issuer says in one way where its keys are")
	case k.URL != "":
		checkURL(at.Field("jwks").Field("url"), k.URL, p)
	case i.Discovery != "":
		checkURL(at.Field("discovery"), i.Discovery, p)
		if i.Discovery != i.Issuer {
			p.Errorf(at.Field("discovery"), policy.CodeConflict, "the discovery document of %s would be that of another issuer than %s", i.Discovery, i.Issuer)
		}
	case k.Inline != "":
		if _, err := ParseKeySet([]byte(k.Inline)); err != nil {
			p.Errorf(at.Field("jwks").Field("inline"), policy.CodeValue, "%v", err)
		}
	}
}

func checkURL(at policy.At, raw string, p *policy.Problems) {
	if err := policy.CheckURL(raw); err != nil {
		p.Suggestf(at, policy.CodeValue, "write an https URL, or http to 127.0.0.1 or localhost", "%v", err)
	}
}

// NamedIssuer is an Issuer where it holds. Where its keys are is not part of it: agents are given the keys, and a
// change of them touches no route.
type NamedIssuer struct {
	// Data is the name of its key set.
	Data string `json:"data"`
	Issuer

	data model.Data
}

func (i *Issuer) named(name string) NamedIssuer {
	d := model.Data{Name: "authenticate/" + name, Discovery: i.Discovery}
	if i.JWKS != nil {
		d.URL, d.File, d.Env, d.Inline = i.JWKS.URL, i.JWKS.File, i.JWKS.Env, i.JWKS.Inline
	}
	out := NamedIssuer{Data: d.Name, Issuer: *i, data: d}
	out.JWKS, out.Discovery = nil, ""
	return out
}

var (
	_ feature.Kinds          = Feature{}
	_ feature.DataParser     = Feature{}
	_ feature.Joiner         = (*Spec)(nil)
	_ feature.Resolver       = (*Spec)(nil)
	_ feature.Checker        = (*Spec)(nil)
	_ feature.DataUser       = (*Spec)(nil)
	_ feature.RuntimeDecider = (*Spec)(nil)
	_ feature.Authenticator  = (*Spec)(nil)
	_ policy.Unmarshaler     = (*Spec)(nil)
)
