package authorize

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// Check implements feature.Checker: an enforced requirement that is not met wins over one that is only tried out.
func (s *Spec) Check(ctx context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	var shadow feature.Decision
	in := &input{request: r, identity: id, pattern: s.Path}
	for _, one := range s.All {
		d := one.check(ctx, in)
		switch {
		case d.Status == 0:
		case one.Mode == modeShadow:
			d.Shadow = true
			shadow = d
		default:
			return d
		}
	}
	return shadow
}

func (r Requirement) check(ctx context.Context, in *input) feature.Decision {
	if r.needsIdentity() {
		if d := r.checkIdentity(in.identity); d.Status != 0 {
			return d
		}
	}
	for _, e := range r.CEL {
		if d := e.check(ctx, in); d.Status != 0 {
			return d
		}
	}
	return feature.Decision{}
}

func (r Requirement) checkIdentity(id *feature.Identity) feature.Decision {
	switch {
	case id.User == "":
		return feature.Decision{Status: http.StatusUnauthorized, Reason: "missing", Detail: "A token is needed.", Challenge: `Bearer realm="sluice"`}
	case !r.Permissions.metBy(id.Permissions):
		return refusal(reasonPermission)
	case !r.Scopes.metBy(id.Scopes):
		return refusal(reasonScope)
	case !r.Roles.metBy(id.Roles):
		return refusal(reasonRole)
	case !r.claimsMetBy(id.Claims):
		return refusal(reasonClaim)
	}
	return feature.Decision{}
}

func forbidden(reason, detail, challenge string) feature.Decision {
	return feature.Decision{Status: http.StatusForbidden, Reason: reason, Detail: detail, Challenge: challenge}
}

// refusal is what a caller is told who lacks something.
func refusal(reason string) feature.Decision {
	switch reason {
	case reasonPermission:
		return forbidden(reason, "The caller lacks a permission that is needed here.", "")
	case reasonScope:
		return forbidden(reason, "The token lacks a scope that is needed here.", `Bearer realm="sluice", error="insufficient_scope"`)
	case reasonRole:
		return forbidden(reason, "The caller lacks a role that is needed here.", "")
	}
	return forbidden(reason, "The token lacks a claim that is needed here.", "")
}

func (r Requirement) claimsMetBy(claims map[string]any) bool {
	for name, wanted := range r.Claims {
		if !holds(claim(claims, name), wanted) {
			return false
		}
	}
	return true
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

func holds(v any, wanted string) bool {
	switch v := v.(type) {
	case nil, map[string]any:
		return false
	case []any:
		return slices.ContainsFunc(v, func(one any) bool {
			_, list := one.([]any)
			return !list && holds(one, wanted)
		})
	}
	return fmt.Sprint(v) == wanted
}
