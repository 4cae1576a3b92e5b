package authenticate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// Check implements feature.Checker.
func (s *Spec) Check(_ context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	if s.None {
		return feature.Decision{}
	}
	raw, f := s.From.find(r)
	if f != nil {
		return refused(f)
	}
	issuer, claims, d := s.verify(r, raw)
	if !d.Allowed() {
		return d
	}
	f = issuer.valid(claims, r.Now)
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
func (s *Spec) verify(r *feature.Request, raw string) (*NamedIssuer, jwt.MapClaims, feature.Decision) {
	sum := sumOf(raw)
	for i := range s.Issuers {
		set, _ := r.Data(s.Issuers[i].Data).(*KeySet)
		if set == nil {
			continue
		}
		if v, ok := set.verified.get(sum, r.Now); ok && s.Issuers[i].takes(v.algorithm) {
			return &s.Issuers[i], v.claims, feature.Decision{}
		}
	}
	u, f := parseToken(raw)
	if f != nil {
		return nil, nil, refused(f)
	}
	issuer := s.issuerOf(u)
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

func (s *Spec) issuerOf(u *unverified) *NamedIssuer {
	for i := range s.Issuers {
		if s.Issuers[i].Issuer.Issuer == u.issuer {
			return &s.Issuers[i]
		}
	}
	return nil
}

// missing is the fault of a request that carries no token.
func missing() *fault { return &fault{"missing", "A token is needed."} }

func refused(f *fault) feature.Decision {
	challenge := `Bearer realm="sluice"`
	if f.reason != missing().reason {
		challenge += `, error="invalid_token", error_description="` + f.detail + `"`
	}
	return feature.Decision{Status: http.StatusUnauthorized, Reason: f.reason, Detail: f.detail, Challenge: challenge}
}

// find is the one token of a request.
func (f From) find(r *feature.Request) (string, *fault) {
	switch {
	case f.Query != "":
		return one(queryValues(r.Query(), f.Query))
	case f.Cookie != "":
		return one(cookieValues(r.Headers["cookie"], f.Cookie))
	case f.Header != "":
		v, ok := r.Headers[strings.ToLower(f.Header)]
		if !ok {
			return "", missing()
		}
		return single(v)
	}
	v, ok := r.Headers["authorization"]
	if !ok {
		return "", missing()
	}
	if len(v) > maxTokenBytes+len("Bearer ") {
		return "", &fault{"too_large", "The token is larger than allowed."}
	}
	scheme, token, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", missing()
	}
	return single(strings.TrimLeft(token, " "))
}

// single refuses what was sent several times: Envoy joins such headers with commas, which no token has.
func single(v string) (string, *fault) {
	switch {
	case strings.Contains(v, ","):
		return "", &fault{"several", "The request carries more than one token."}
	case v == "":
		return "", missing()
	}
	return v, nil
}

func one(values []string) (string, *fault) {
	switch len(values) {
	case 0:
		return "", missing()
	case 1:
		return single(values[0])
	}
	return "", &fault{"several", "The request carries more than one token."}
}

func queryValues(query, name string) (out []string) {
	if len(query) > 2*maxTokenBytes {
		return nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err != nil || k != name {
			continue
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			v = "%"
		}
		out = append(out, v)
	}
	return out
}

func cookieValues(header, name string) (out []string) {
	for pair := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok && key == name {
			out = append(out, value)
		}
	}
	return out
}

// maxUser bounds a user's name, in bytes.
const maxUser = 256

// identify reads who is calling off verified claims.
func (c Claims) identify(claims jwt.MapClaims, id *feature.Identity) *fault {
	user, ok := scalar(claim(claims, c.User))
	if !ok || user == "" || len(user) > maxUser {
		return &fault{"no_user", "The token does not say who is calling."}
	}
	id.User, id.Claims = user, claims
	id.Plan, _ = scalar(claim(claims, c.Plan))
	id.Permissions = words(claim(claims, c.Permissions))
	id.Scopes = words(claim(claims, c.Scopes))
	id.Roles = words(claim(claims, c.Roles))
	return nil
}

// claim is the claim of a name; where there is none, a dot leads into an object.
func claim(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	first, rest, ok := strings.Cut(name, ".")
	inner, is := claims[first].(map[string]any)
	if !ok || !is {
		return nil
	}
	return claim(inner, rest)
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

// words are those of a list, or of a text with spaces between.
func words(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		for _, one := range v {
			if s, ok := scalar(one); ok && s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}
