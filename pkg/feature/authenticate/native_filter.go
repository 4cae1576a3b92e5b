package authenticate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// The filters' names in the chain. The first is also the name of its config.
const (
	jwtFilter      = "jwt_authn"
	tokenFilter    = "token"
	identityFilter = "identity"
)

// rememberedTokens is how many verified tokens each of Envoy's threads remembers of an issuer.
const rememberedTokens = 1000

// HTTPFilters implements feature.HTTPFilterer: who is calling, decided by Envoy, and told to the service.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{
		{Name: jwtFilter, Config: &jwtv3.JwtAuthentication{}, PerRoute: &jwtv3.PerRouteConfig{}, Discovered: true, Replies: replies()},
		{Name: tokenFilter, Config: &rbacfilterv3.RBAC{Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW}}, Discovered: true},
		{
			Name:     identityFilter,
			Config:   &headermutationv3.HeaderMutation{Mutations: identityHeaders(identityOf(defaultClaims()))},
			PerRoute: &headermutationv3.HeaderMutationPerRoute{},
		},
	}
}

// DiscoverFilters implements feature.FilterDiscoverer. An issuer without keys is left out, and so is what needs no
// other: Envoy refuses requests that ask for something it does not know.
func (Feature) DiscoverFilters(specs []any, data func(name string) []byte) (map[string]proto.Message, error) {
	verify := &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{}, RequirementMap: map[string]*jwtv3.JwtRequirement{}}
	rules := map[string]tokenRules{}
	for _, one := range specs {
		s, ok := one.(*Spec)
		if !ok {
			return nil, fmt.Errorf("%T is no block of authenticate", one)
		}
		var any []*jwtv3.JwtRequirement
		for _, t := range s.tokens() {
			name := t.provider()
			rules[name] = t
			if p := t.verifier(name, data(t.Data)); p != nil {
				verify.Providers[name] = p
				any = append(any, &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: name}})
			}
		}
		if len(any) > 0 {
			verify.RequirementMap[s.requirement()] = oneOf(any)
		}
	}
	comply, err := rbac(rules)
	return map[string]proto.Message{jwtFilter: verify, tokenFilter: comply}, err
}

func oneOf(any []*jwtv3.JwtRequirement) *jwtv3.JwtRequirement {
	if len(any) == 1 {
		return any[0]
	}
	return &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_RequiresAny{RequiresAny: &jwtv3.JwtRequirementOrList{Requirements: any}}}
}

// verifier is an issuer as Envoy holds it against tokens, nil without keys.
func (t tokenRules) verifier(name string, keySet []byte) *jwtv3.JwtProvider {
	keys := nativeKeys(keySet, t.takes)
	if keys == "" {
		return nil
	}
	lists := []string{t.Claims.Permissions, t.Claims.Scopes, t.Claims.Roles}
	slices.Sort(lists)
	return &jwtv3.JwtProvider{
		Issuer: t.Issuer.Issuer, Audiences: t.Audiences, RequireExpiration: t.RequireExpiry,
		ClockSkewSeconds: uint32(t.Skew.D().Seconds()),
		JwksSourceSpecifier: &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: keys},
		}},
		FromHeaders: t.from.headers(), Forward: true,
		PayloadInMetadata: payloadKey, HeaderInMetadata: headerAt(name)[0],
		NormalizePayloadInMetadata: &jwtv3.JwtProvider_NormalizePayload{SpaceDelimitedClaims: slices.Compact(lists)},
		JwtCacheConfig:             &jwtv3.JwtCacheConfig{JwtCacheSize: rememberedTokens},
	}
}

// headerName is the header that the token is in, in lower case.
func (f From) headerName() string {
	if f.Header == "" {
		return "authorization"
	}
	return strings.ToLower(f.Header)
}

// headers are those that Envoy looks for a token in: it tells upper from lower case in what precedes the token.
func (f From) headers() []*jwtv3.JwtHeader {
	if f.Header != "" {
		return []*jwtv3.JwtHeader{{Name: f.headerName()}}
	}
	var out []*jwtv3.JwtHeader
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER "} {
		out = append(out, &jwtv3.JwtHeader{Name: f.headerName(), ValuePrefix: scheme})
	}
	return out
}

// nativeKeys are the keys that Envoy may use, "" when there are none: each only with the algorithms that belong to it,
// and none without an id, for tokens must name theirs.
func nativeKeys(keySet []byte, takes func(algorithm string) bool) string {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(keySet, &set) != nil {
		return ""
	}
	var out []map[string]string
	for _, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil || k == nil || k.id == "" {
			continue
		}
		for _, algorithm := range k.algorithms {
			if takes(algorithm) {
				out = append(out, nativeKey(raw, algorithm))
			}
		}
	}
	if out == nil {
		return ""
	}
	text, _ := json.Marshal(map[string]any{"keys": out}) // texts always marshal
	return string(text)
}

// nativeKey is a key with one algorithm, and nothing that is not needed.
func nativeKey(raw []byte, algorithm string) map[string]string {
	var j jwk
	_ = json.Unmarshal(raw, &j) // it was read before
	out := map[string]string{"use": "sig", "alg": algorithm}
	for name, v := range map[string]string{"kty": j.Kty, "kid": j.Kid, "n": j.N, "e": j.E, "crv": j.Crv, "x": j.X, "y": j.Y} {
		if v != "" {
			out[name] = v
		}
	}
	return out
}

func defaultClaims() Claims { return newIssuer().(*Issuer).Claims }

// identityHeaders tell the service who is calling, and nothing that anybody else has written.
func identityHeaders(id *model.Identity) *headermutationv3.Mutations {
	out := &headermutationv3.Mutations{}
	for _, h := range []struct {
		name  string
		paths []model.MetadataPath
	}{
		{feature.HeaderUser, id.User}, {feature.HeaderPlan, id.Plan}, {feature.HeaderIssuer, id.Issuer},
		{feature.HeaderPermissions, id.Permissions}, {feature.HeaderScopes, id.Scopes}, {feature.HeaderRoles, id.Roles},
	} {
		out.RequestMutations = append(out.RequestMutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: h.name}})
		for _, path := range slices.Backward(h.paths) { // the first that is there overwrites the others
			out.RequestMutations = append(out.RequestMutations, setFromMetadata(h.name, id.Namespace, path))
		}
	}
	return out
}

func setFromMetadata(header, namespace string, path model.MetadataPath) *mutationv3.HeaderMutation {
	value := "%DYNAMIC_METADATA(" + strings.Join(append([]string{namespace}, path...), ":") + ")%"
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: header, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}

func identityPerRoute(id *model.Identity) *headermutationv3.HeaderMutationPerRoute {
	return &headermutationv3.HeaderMutationPerRoute{Mutations: identityHeaders(id)}
}

// replies give what Envoy refuses the form that the agent's refusals have.
func replies() []*hcmv3.ResponseMapper {
	verified := "response.code_details.startsWith('jwt_authn_access_denied')"
	undecided := verified + " && response.code_details.contains('requirement_name')"
	absent := verified + " && response.code_details.contains('Jwt_is_missing')"
	invalid := verified + " || response.code_details == 'rbac_access_denied_matched_policy[none]'"
	challenge := `Bearer realm="sluice"`
	return slices.Concat(
		feature.Refusal{When: undecided, Status: http.StatusServiceUnavailable, Detail: feature.CEL("Whether this request is allowed could not be decided.")}.Mappers(),
		feature.Refusal{When: absent, Status: http.StatusUnauthorized, Detail: feature.CEL(missing().detail), Challenge: challenge}.Mappers(),
		feature.Refusal{
			When: invalid, Status: http.StatusUnauthorized, Detail: nativeDetail(),
			Challenge: challenge + `, error="invalid_token", error_description="%CEL(` + nativeDetail() + `)%"`,
		}.Mappers(),
	)
}

// nativeDetail is the CEL expression for what is wrong with a token.
func nativeDetail() string {
	var b strings.Builder
	for _, known := range []struct{ words, detail string }{
		{"expired", "The token has expired."},
		{"not_yet_valid", "The token is not valid yet."},
		{"Audiences", "The token is for another audience."},
		{"issuer_is_not_configured", "The token's issuer is not one that is taken here."},
		{"match_kid_or_alg", "The token names no key that is known."},
		{"verification_fails", "The token's signature is not valid."},
	} {
		fmt.Fprintf(&b, "response.code_details.contains('%s') ? %s : ", known.words, feature.CEL(known.detail))
	}
	return b.String() + feature.CEL(malformed().detail)
}
