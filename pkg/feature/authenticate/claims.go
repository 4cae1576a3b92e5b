package authenticate

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

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
