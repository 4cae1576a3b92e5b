// Package login sends browsers to an OpenID Connect provider, and gives what they bring back to authenticate.
package login

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `login`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "login", Stage: feature.StageOAuth, On: feature.Rule,
		Summary: "Sends browsers without a token to an OpenID Connect provider, to log in."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec {
	return &Spec{Scopes: []string{"openid"}, Callback: "/oauth2/callback", SignOut: "/oauth2/sign-out", Token: tokenAccess}
}

// The tokens of which one goes on with the request.
const (
	tokenAccess = "access"
	tokenID     = "id"
)

// Spec is the block.
type Spec struct {
	Off                   bool          `json:"off,omitempty"`
	Service               string        `json:"service" jsonschema:"required" jsonschema_description:"The Service by which Envoy reaches the provider's token endpoint."`
	AuthorizationEndpoint string        `json:"authorizationEndpoint" jsonschema:"required" jsonschema_description:"Where browsers are sent: https, or http to loopback."`
	TokenEndpoint         string        `json:"tokenEndpoint" jsonschema:"required" jsonschema_description:"Where Envoy exchanges what they bring back for a token: https, or http to loopback."`
	EndSessionEndpoint    string        `json:"endSessionEndpoint,omitempty" jsonschema_description:"Where browsers are sent that sign out; nowhere when left out: only their cookies go."`
	Client                string        `json:"client" jsonschema:"required" jsonschema_description:"The client's name at the provider."`
	Secret                policy.Secret `json:"secret" jsonschema:"required" jsonschema_description:"The client's secret. The key that signs cookies is derived from it: a new one logs everybody out."`
	Scopes                []string      `json:"scopes,omitempty" jsonschema_description:"What is asked for; openid when left out."`
	Callback              string        `json:"callback,omitempty" jsonschema_description:"The path that browsers come back to; /oauth2/callback when left out. The provider must know it."`
	SignOut               string        `json:"signOut,omitempty" jsonschema_description:"The path that signs out; /oauth2/sign-out when left out."`
	Token                 string        `json:"token,omitempty" jsonschema:"enum=access,enum=id" jsonschema_description:"Which token authenticate is given: access when left out."`
	URL                   string        `json:"url,omitempty" jsonschema_description:"How browsers reach the gateway, such as https://shop.example or http://localhost:8080; when left out, by the scheme and host of each request, on the scheme's own port."`
	Hosts                 []string      `json:"hosts,omitempty" jsonschema_description:"The only hosts that browsers are sent back to; *. takes all below. Any when left out."`

	// Cluster is the Service's, once resolved.
	Cluster string `json:"cluster,omitempty"`

	from string // where it was written: file:line
}

// UnmarshalNode reads off or the block.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if s.Off = policy.IsOff(at, p); s.Off {
		return
	}
	type plain Spec
	policy.Decode(at, (*plain)(s), p)
}

// JSONSchema describes both forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	type plain Spec
	long := policy.TypeSchema(plain{})
	long.Properties.Delete("off")
	long.Properties.Delete("cluster")
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Const: "off"}, long}}
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.Off {
		return
	}
	for field, raw := range map[string]string{"authorizationEndpoint": s.AuthorizationEndpoint, "tokenEndpoint": s.TokenEndpoint, "endSessionEndpoint": s.EndSessionEndpoint} {
		if raw == "" && (field == "endSessionEndpoint" || at.Node.Get(field) == nil) {
			continue
		}
		if err := policy.CheckURL(raw); err != nil {
			p.Suggestf(at.Field(field), policy.CodeValue, "write an https URL, or http to 127.0.0.1 or localhost", "%v", err)
		} else if strings.Contains(raw, "?") && field != "authorizationEndpoint" {
			p.Errorf(at.Field(field), policy.CodeValue, "%s has a query", field)
		}
	}
	if s.Client == "" && at.Node.Get("client") != nil {
		p.Errorf(at.Field("client"), policy.CodeRequired, "the client's name is empty")
	}
	if u, err := url.Parse(s.URL); s.URL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || s.URL != u.Scheme+"://"+u.Host) {
		p.Suggestf(at.Field("url"), policy.CodeValue, "write https://shop.example", "%q is not a scheme and a host alone", s.URL)
	}
	s.validatePaths(at, p)
	for i, h := range s.Hosts {
		if err := policy.CheckHost(h); err != nil {
			p.Errorf(at.Field("hosts").Index(i), policy.CodeValue, "%v", err)
		}
	}
	if s.EndSessionEndpoint != "" && !slices.Contains(s.Scopes, "openid") {
		p.Suggestf(at.Field("endSessionEndpoint"), policy.CodeConflict, "add openid to scopes", "only OpenID Connect has an end of session")
	}
}

func (s *Spec) validatePaths(at policy.At, p *policy.Problems) {
	for field, path := range map[string]string{"callback": s.Callback, "signOut": s.SignOut} {
		if len(path) < 2 || path[0] != '/' || strings.ContainsAny(path, "?#*{}% \\") || strings.Contains(path, "//") {
			p.Suggestf(at.Field(field), policy.CodeValue, "write a path such as /oauth2/"+field, "%q is not a plain path", path)
		}
	}
	if s.Callback == s.SignOut {
		p.Errorf(at.Field("signOut"), policy.CodeConflict, "one path cannot both come back and sign out")
	}
}

// Resolve implements feature.Resolver.
func (s *Spec) Resolve(at policy.At, l feature.Lookup, p *policy.Problems) feature.Spec {
	if s.Off {
		return s
	}
	out := *s
	out.from = at.String()
	cluster, ok := l.Cluster(s.Service)
	if !ok {
		p.Suggestf(at.Field("service"), policy.CodeReference, l.Hint("Service", s.Service), "there is no Service %q", s.Service)
	}
	out.Cluster = cluster
	return &out
}

// CheckCompanions implements feature.CompanionChecker: a login alone lets in whoever says that it has a token.
func (s *Spec) CheckCompanions(all []feature.Spec, at policy.At, p *policy.Problems) {
	for _, other := range all {
		if a, ok := other.(feature.Authenticator); s.Off || ok && a.Authenticates() {
			return
		}
	}
	p.Suggestf(at, policy.CodeRequired, "add authenticate: {jwt: NAME}, of the Issuer that the provider is", "login fetches a token, but nothing here checks it")
}

// names are those of its secrets: the same client has the same.
func (s *Spec) names() (client, cookies string) {
	sum := sha256.Sum256([]byte(s.Secret.String() + "\x00" + s.Client + "\x00" + s.TokenEndpoint))
	name := "login/" + hex.EncodeToString(sum[:8])
	return name, name + "/cookies"
}

// HeldSecrets implements feature.SecretHolder.
func (s *Spec) HeldSecrets() []model.Secret {
	if s.Off {
		return nil
	}
	client, cookies := s.names()
	at := feature.SecretPlace(s.Secret)
	return []model.Secret{{Name: client, Text: at, From: s.from}, {Name: cookies, Text: at, Derive: "login cookies of " + s.Client, From: s.from}}
}

var (
	_ feature.HTTPFilterer     = Feature{}
	_ feature.Resolver         = (*Spec)(nil)
	_ feature.CompanionChecker = (*Spec)(nil)
	_ feature.RouteConfigurer  = (*Spec)(nil)
	_ feature.Expander         = (*Spec)(nil)
	_ feature.SecretHolder     = (*Spec)(nil)
	_ policy.Unmarshaler       = (*Spec)(nil)
)
