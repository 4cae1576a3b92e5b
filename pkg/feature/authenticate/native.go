package authenticate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// Where Envoy decides, it takes no token that the agent would refuse: jwt_authn holds tokens against the issuers' keys,
// tokenRules against what it does not look at, and what is verified then becomes the headers of the identity.

// Decide implements feature.DeciderChooser.
func (s *Spec) Decide() model.Decider { return model.Decider(s.Decider) }

// WhyAgent implements feature.NativeChecker.
func (s *Spec) WhyAgent() string {
	if s.Revocation == nil || *s.Revocation {
		return "revoked tokens are to be refused (revocation: false does without)"
	}
	claims, skew := s.first()
	for _, w := range s.AnyOf {
		if why := w.whyAgent(); why != "" {
			return why
		}
		for _, i := range w.JWT.Issuers {
			if i.Claims != claims || i.Skew.D() != skew {
				return "the Issuers differ in claims or skew"
			}
		}
	}
	return whyAgentClaims(claims)
}

// first is what all issuers of a block must have in common, for Envoy to know where the identity is.
func (s *Spec) first() (Claims, time.Duration) {
	for _, w := range s.AnyOf {
		if w.JWT != nil && len(w.JWT.Issuers) > 0 {
			return w.JWT.Issuers[0].Claims, w.JWT.Issuers[0].Skew.D()
		}
	}
	return Claims{}, 0
}

func (w *Way) whyAgent() string {
	if w.JWT == nil || len(w.methods()) != 1 {
		return "callers may carry more than tokens"
	}
	if w.From.Cookie != "" || w.From.Query != "" {
		return "the token is in a cookie or the query"
	}
	for _, i := range w.JWT.Issuers {
		switch {
		case i.Introspection != nil:
			return "the issuer is asked about each token"
		case i.Skew.D() < time.Second:
			return "an Issuer has a skew below 1s"
		}
	}
	return ""
}

// whyAgentClaims: names of claims become parts of formats and expressions.
func whyAgentClaims(c Claims) string {
	for _, name := range []string{c.User, c.Plan, c.Permissions, c.Scopes, c.Roles} {
		if strings.ContainsAny(name, `:()%'"\`) || !isPrintable(name) {
			return fmt.Sprintf("the claim %q has a name that its formats cannot hold", name)
		}
	}
	return ""
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// The metadata of jwt_authn.
const (
	jwtNamespace = "envoy.filters.http.jwt_authn"
	payloadKey   = "claims"
	headerKey    = "header/" // and the provider
)

// NativeIdentity implements feature.NativeAuthenticator.
func (s *Spec) NativeIdentity() *model.Identity {
	claims, _ := s.first()
	return identityOf(claims)
}

func identityOf(claims Claims) *model.Identity {
	at := func(name string) []model.MetadataPath {
		return feature.ClaimPaths(model.MetadataPath{payloadKey}, name)
	}
	return &model.Identity{
		Namespace: jwtNamespace,
		User:      at(claims.User), Plan: at(claims.Plan), Issuer: at("iss"),
		Permissions: at(claims.Permissions), Scopes: at(claims.Scopes), Roles: at(claims.Roles),
		Claims: model.MetadataPath{payloadKey},
	}
}

// tokens are those that a block takes, by issuer and place.
func (s *Spec) tokens() []tokenRules {
	var out []tokenRules
	for _, w := range s.AnyOf {
		if w.JWT == nil {
			continue
		}
		for i := range w.JWT.Issuers {
			out = append(out, tokenRules{&w.JWT.Issuers[i], w.From})
		}
	}
	return out
}

// requirement names what a block asks of tokens, by its content: the same name never asks for anything else.
func (s *Spec) requirement() string {
	var names []string
	for _, t := range s.tokens() {
		names = append(names, t.provider())
	}
	return strings.Join(names, ",")
}

// provider names the same for one issuer and place.
func (t tokenRules) provider() string {
	return strings.TrimPrefix(t.Data, issuerData) + "@" + digest(t.NamedIssuer, t.from)
}

func digest(parts ...any) string {
	text, _ := json.Marshal(parts) // documents that were decoded always marshal
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// ConfigureRoute implements feature.RouteConfigurer: where Envoy decides, the route names what it asks of tokens.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	if r.Decider != model.Native || s.None {
		return nil
	}
	err := feature.Enable(out, jwtFilter, &jwtv3.PerRouteConfig{
		RequirementSpecifier: &jwtv3.PerRouteConfig_RequirementName{RequirementName: s.requirement()},
	})
	if err == nil {
		err = feature.Switch(out, tokenFilter)
	}
	if err == nil {
		err = s.enableIdentity(out)
	}
	return err
}

// enableIdentity tells the service: by the listener's config where claims have their usual names.
func (s *Spec) enableIdentity(out *routev3.Route) error {
	claims, _ := s.first()
	if claims == defaultClaims() {
		return feature.Switch(out, identityFilter)
	}
	return feature.Enable(out, identityFilter, identityPerRoute(s.NativeIdentity()))
}

var (
	_ feature.HTTPFilterer        = Feature{}
	_ feature.FilterDiscoverer    = Feature{}
	_ feature.DeciderChooser      = (*Spec)(nil)
	_ feature.NativeChecker       = (*Spec)(nil)
	_ feature.NativeAuthenticator = (*Spec)(nil)
	_ feature.RouteConfigurer     = (*Spec)(nil)
)
