package authenticate

import (
	"context"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Tokens is the method `jwt`: JSON Web Tokens of known issuers.
type Tokens struct {
	// Names are the Issuers' as written, Issuers the documents once resolved.
	Names   []string      `json:"names"`
	Issuers []NamedIssuer `json:"issuers,omitempty"`
}

// UnmarshalNode reads one name or a list.
func (t *Tokens) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		t.Names = []string{at.Node.Value}
		return
	}
	policy.Decode(at, &t.Names, p)
}

// JSONSchema describes both forms.
func (Tokens) JSONSchema() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}}}
}

func (t *Tokens) resolve(at policy.At, l feature.Lookup, p *policy.Problems) *Tokens {
	out := &Tokens{Names: t.Names}
	seen := map[string]string{}
	for i, name := range t.Names {
		here := at
		if len(t.Names) > 1 {
			here = at.Index(i)
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
		if issuer.Introspection != nil && out.introspecting(nil) != nil {
			p.Errorf(here, policy.CodeConflict, "a second Issuer with introspection: which one an opaque token belongs to could not be told")
		}
		out.Issuers = append(out.Issuers, issuer.named(name))
	}
	return out
}

// tokensFrom is the method with the place of its token.
type tokensFrom struct {
	*Tokens
	from From
}

func (t tokensFrom) validate(at policy.At, p *policy.Problems) {
	if len(t.Names) == 0 {
		p.Suggestf(at.Field("jwt"), policy.CodeRequired, "name an Issuer", "jwt names no Issuer")
	}
	t.from.validate(at.Field("from"), p)
}

func (t tokensFrom) data() []model.Data {
	var out []model.Data
	for _, i := range t.Issuers {
		out = append(out, i.data)
	}
	return out
}

func (t tokensFrom) waits() time.Duration {
	if i := t.introspecting(nil); i != nil {
		return i.Introspection.asking()
	}
	return 0
}

func (t tokensFrom) check(ctx context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	raw, f := t.from.find(r)
	if f != nil {
		return refused(f)
	}
	issuer, claims, d := t.verify(ctx, r, raw)
	if !d.Allowed() {
		return d
	}
	if issuer.Introspection != nil {
		f = issuer.introspectedClaims(claims, r.Now)
	} else {
		f = issuer.valid(claims, r.Now)
	}
	if f == nil {
		f = issuer.Claims.identify(claims, id)
	}
	if f != nil {
		return refused(f)
	}
	id.Issuer = issuer.Issuer.Issuer
	return feature.Decision{}
}

// verify gives the claims of a token whose signature is right, and whose it is. One that was verified not long ago is
// not taken apart again.
func (t *Tokens) verify(ctx context.Context, r *feature.Request, raw string) (*NamedIssuer, jwt.MapClaims, feature.Decision) {
	sum := sumOf(raw)
	for i := range t.Issuers {
		set, _ := r.Data(t.Issuers[i].Data).(*KeySet)
		if set == nil {
			continue
		}
		if v, ok := set.verified.get(sum, r.Now); ok && t.Issuers[i].takes(v.algorithm) {
			return &t.Issuers[i], v.claims, feature.Decision{}
		}
	}
	u, f := parseToken(raw)
	if asked := t.introspecting(u); asked != nil {
		claims, d := asked.introspect(ctx, r, raw)
		return asked, claims, d
	}
	if f != nil {
		return nil, nil, refused(f)
	}
	issuer := t.issuerOf(u)
	if issuer == nil {
		return nil, nil, refused(&fault{"issuer", "The token's issuer is not one that is taken here."})
	}
	set, ok := r.Data(issuer.Data).(*KeySet)
	if !ok {
		return nil, nil, feature.Unavailable("no_keys", "The keys that the token could be checked by are not known now.")
	}
	claims, f := issuer.signed(set, u)
	if f != nil {
		return nil, nil, refused(f)
	}
	set.verified.put(sum, verified{algorithm: u.header.alg, claims: claims}, r.Now)
	return issuer, claims, feature.Decision{}
}

func (t *Tokens) issuerOf(u *unverified) *NamedIssuer {
	for i := range t.Issuers {
		if t.Issuers[i].Issuer.Issuer == u.issuer {
			return &t.Issuers[i]
		}
	}
	return nil
}
