package authenticate

import (
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// KindIssuer is the kind of documents that say who signs tokens.
const KindIssuer = "Issuer"

// Issuer is who signs tokens, by which keys, and what their claims mean.
type Issuer struct {
	Issuer        string          `json:"issuer" jsonschema:"required" jsonschema_description:"The value of the claim iss, exactly."`
	Audiences     []string        `json:"audiences,omitempty" jsonschema_description:"Required, but beside introspection. A token is taken that names one of these in its claim aud."`
	JWKS          *Keys           `json:"jwks,omitempty" jsonschema_description:"Where its keys are."`
	Discovery     string          `json:"discovery,omitempty" jsonschema_description:"The issuer's URL, below which its OpenID Connect discovery document names its keys; it must equal issuer."`
	Introspection *Introspection  `json:"introspection,omitempty" jsonschema_description:"Asks the issuer about each token (RFC 7662), for tokens that only it can read. audiences may then be left out."`
	Claims        Claims          `json:"claims,omitzero" jsonschema_description:"Which claims say who is calling."`
	Algorithms    []string        `json:"algorithms,omitempty" jsonschema_description:"The signatures that are taken, of RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA; all of them when left out."`
	Skew          policy.Duration `json:"skew,omitempty" jsonschema_description:"How far clocks may differ; 60s when left out, at most 5m."`
	RequireExpiry bool            `json:"requireExpiry" jsonschema_description:"Refuses tokens without the claim exp; true when left out."`
}

// Keys is where a key set (JWKS) is; one field is set.
type Keys struct {
	URL  string `json:"url,omitempty" jsonschema_description:"https, or http to loopback. Asked every 30 seconds; the last good answer is kept."`
	File string `json:"file,omitempty" jsonschema_description:"A file on the control plane's machine, read again when it changes."`
	Env  string `json:"env,omitempty" jsonschema_description:"A variable of the control plane."`
	// Secret names a secret of the store.
	Secret policy.SecretName `json:"secret,omitempty" jsonschema_description:"A secret of the store, by the name that sluice secrets set gave it."`
	Inline string            `json:"inline,omitempty" jsonschema_description:"The key set itself, as JSON. Public keys only."`
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
	if len(i.Audiences) == 0 && i.Introspection == nil || slices.Contains(i.Audiences, "") {
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
	for _, s := range []string{k.URL, k.File, k.Env, string(k.Secret), k.Inline, i.Discovery} {
		if s != "" {
			said++
		}
	}
	if i.Introspection != nil {
		said++
		i.Introspection.validate(at.Field("introspection"), p)
	}
	switch {
	case said != 1:
		p.Suggestf(at, policy.CodeRequired, "write jwks: {url: …}, {file: …}, {env: …}, {secret: …} or {inline: …}, or discovery: …, or introspection: …", "an Issuer says in one way where its keys are")
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

// issuerData is what the names of issuers' key sets start with.
const issuerData = "authenticate/issuer/"

func (i *Issuer) named(name string) NamedIssuer {
	d := model.Data{Name: issuerData + name, Discovery: i.Discovery}
	if i.JWKS != nil {
		d.URL, d.File, d.Env, d.Secret, d.Inline = i.JWKS.URL, i.JWKS.File, i.JWKS.Env, string(i.JWKS.Secret), i.JWKS.Inline
	}
	if n := i.Introspection; n != nil {
		d.Name, d.File, d.Env, d.Secret = introspectionData+name, n.Secret.File, n.Secret.Env, string(n.Secret.Secret)
	}
	out := NamedIssuer{Data: d.Name, Issuer: *i, data: d}
	out.JWKS, out.Discovery = nil, ""
	return out
}
