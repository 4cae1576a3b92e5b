package authorize

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// WhyAgent implements feature.NativeChecker: Envoy can compare what tokens say. Of expressions it knows a dialect of its
// own.
func (s *Spec) WhyAgent() string {
	for _, r := range s.All {
		if len(r.CEL) > 0 {
			return "authorize has an expression"
		}
	}
	return ""
}

// addCaller adds what a requirement refuses because of who is calling, where Envoy decides that.
func (f refusals) addCaller(r Requirement, id *model.Identity) {
	for _, part := range []struct {
		reason string
		words  Words
		paths  []model.MetadataPath
	}{
		{reasonPermission, r.Permissions, id.Permissions}, {reasonScope, r.Scopes, id.Scopes}, {reasonRole, r.Roles, id.Roles},
	} {
		if !part.words.IsZero() {
			f.unlessCaller(part.reason, hasWords(id.Namespace, part.paths, part.words))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Claims)) {
		f.unlessCaller(reasonClaim, hasClaim(id, name, r.Claims[name]))
	}
}

// hasWords holds for callers who have the words that are needed.
func hasWords(namespace string, paths []model.MetadataPath, needed Words) *rbacv3.Principal {
	var all, any []*rbacv3.Principal
	for _, word := range needed.All {
		all = append(all, feature.FirstInMetadata(namespace, paths, wordIn(word)...))
	}
	for _, word := range needed.AnyOf {
		any = append(any, feature.FirstInMetadata(namespace, paths, wordIn(word)...))
	}
	if len(any) > 0 {
		all = append(all, feature.AnyOf(any...))
	}
	return feature.AllOf(all...)
}

// wordIn are the forms of values that hold a word: a list, or a text with spaces between words. A word with a space is in
// no such text.
func wordIn(word string) []*matcherv3.ValueMatcher {
	var out []*matcherv3.ValueMatcher
	for _, v := range scalars(word) {
		out = append(out, feature.OneIs(v))
	}
	if len(strings.Fields(word)) == 1 {
		for _, m := range []*matcherv3.StringMatcher{
			{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: word}}, {MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: word + " "}},
			{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: " " + word}}, {MatchPattern: &matcherv3.StringMatcher_Contains{Contains: " " + word + " "}},
		} {
			out = append(out, feature.Text(m))
		}
	}
	return out
}

// hasClaim holds for callers whose token has the claim with this value, or with a list that holds it.
func hasClaim(id *model.Identity, name, value string) *rbacv3.Principal {
	ways := scalars(value)
	for _, v := range scalars(value) {
		ways = append(ways, feature.OneIs(v))
	}
	return feature.FirstInMetadata(id.Namespace, feature.ClaimPaths(id.Claims, name), ways...)
}

// scalars are the values that are written so.
func scalars(text string) []*matcherv3.ValueMatcher {
	out := []*matcherv3.ValueMatcher{feature.Exactly(text)}
	if n, err := strconv.ParseFloat(text, 64); err == nil && fmt.Sprint(n) == text {
		out = append(out, feature.Number(n))
	}
	if b, err := strconv.ParseBool(text); err == nil && fmt.Sprint(b) == text {
		out = append(out, feature.Truth(b))
	}
	return out
}

// replies give what Envoy refuses the form that the agent's refusals have.
func replies() []*hcmv3.ResponseMapper {
	var out []*hcmv3.ResponseMapper
	for _, reason := range []string{reasonPermission, reasonScope, reasonRole, reasonClaim} {
		d := refusal(reason)
		out = append(out, feature.Refusal{
			When:   "response.code_details == 'rbac_access_denied_matched_policy[" + reason + "]'",
			Status: http.StatusForbidden, Detail: feature.CEL(d.Detail), Challenge: d.Challenge,
		}.Mappers()...)
	}
	return out
}
