package authenticate

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// Limits of who is calling: the characters of a user's name, and numbers that have one form only.
const (
	maxUser   = 256
	maxNumber = 1e15
)

// identify reads who is calling off verified claims.
func (c Claims) identify(claims jwt.MapClaims, id *feature.Identity) *fault {
	user, ok := scalar(claim(claims, c.User))
	if !ok || user == "" || utf8.RuneCountInString(user) > maxUser || hasControl(user) {
		return &fault{"no_user", "The token does not say who is calling."}
	}
	plan, _ := scalar(claim(claims, c.Plan))
	if hasControl(plan) {
		return &fault{"claims", "The token lacks a claim, or has one that cannot be read."}
	}
	id.User, id.Plan, id.Claims = user, plan, claims
	id.Permissions = words(claim(claims, c.Permissions))
	id.Scopes = words(claim(claims, c.Scopes))
	id.Roles = words(claim(claims, c.Roles))
	return nil
}

// hasControl finds what no header can carry.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
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
func words(v any) []string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil
		}
		return strings.Fields(v)
	case []any:
		out := []string{}
		for _, one := range v {
			if s, ok := scalar(one); ok && s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
