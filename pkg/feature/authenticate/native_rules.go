package authenticate

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	exprv1alpha1 "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// tokenRules are what a token of one issuer, in one place, must comply with after jwt_authn has verified it, so that Envoy
// takes none that the agent would refuse. All must hold, and what cannot be evaluated does not.
type tokenRules struct {
	*NamedIssuer
	from From
}

// rbac takes tokens that comply with one of these, by the name of their provider.
func rbac(providers map[string]tokenRules) (*rbacfilterv3.RBAC, error) {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	for name, rules := range providers {
		condition, err := parseCondition(rules.condition(name))
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", rules.Issuer.Issuer, err)
		}
		out.Policies[name] = &rbacv3.Policy{
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
			Principals:  []*rbacv3.Principal{feature.AllOf(append(headerRules(headerAt(name)), rules.from.single(), rules.user(), rules.plan())...)},
			Condition:   condition,
			CelConfig:   &corev3.CelExpressionConfig{EnableStringConversion: true},
		}
	}
	return &rbacfilterv3.RBAC{Rules: out}, nil
}

// headerAt is where the header of a token is that a provider has verified: there is none where another has.
func headerAt(provider string) model.MetadataPath { return model.MetadataPath{headerKey + provider} }

// headerRules are the same as readHeader's.
func headerRules(at model.MetadataPath) []*rbacv3.Principal {
	field := func(name string) model.MetadataPath { return append(slices.Clone(at), name) }
	has := func(name string, v *matcherv3.ValueMatcher) *rbacv3.Principal {
		return feature.InMetadata(jwtNamespace, field(name), v)
	}
	out := []*rbacv3.Principal{has("kid", feature.TextLike("(?s).+"))}
	types := []*rbacv3.Principal{feature.Not(has("typ", feature.Present()))}
	for _, t := range tokenTypes() {
		types = append(types, has("typ", feature.Text(&matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t}, IgnoreCase: true,
		})))
	}
	out = append(out, feature.AnyOf(types...))
	for _, name := range refusedFields() {
		out = append(out, feature.Not(has(name, feature.Present())))
	}
	return out
}

// single takes a header that holds one token and nothing else: Envoy joins several of one name with commas. Of the two
// and more ways to write a signature that does not fill its last letter, one is taken.
func (f From) single() *rbacv3.Principal {
	token := `[\w-]+\.[\w-]+\.(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?`
	if f.Header == "" {
		token = "(?i:bearer) " + token
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Header{Header: &routev3.HeaderMatcher{
		Name: f.headerName(), HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: token}},
		}},
	}}}
}

// user is somebody, by a name that a header can carry.
func (t tokenRules) user() *rbacv3.Principal {
	return feature.FirstInMetadata(jwtNamespace, feature.ClaimPaths(model.MetadataPath{payloadKey}, t.Claims.User),
		feature.TextLike(`[^\x00-\x1f\x7f]+`), feature.NumberUpTo(maxNumber), feature.Truth(true), feature.Truth(false))
}

// plan, if any, is one that a header can carry.
func (t tokenRules) plan() *rbacv3.Principal {
	var out []*rbacv3.Principal
	for _, path := range feature.ClaimPaths(model.MetadataPath{payloadKey}, t.Claims.Plan) {
		out = append(out, feature.Not(feature.InMetadata(jwtNamespace, path, feature.TextLike(`(?s).*[\x00-\x1f\x7f].*`))))
	}
	return feature.AllOf(out...)
}

// condition is what only an expression can say: how large the token, its key's id and the user's name are, and that the
// token was not made in the future.
func (t tokenRules) condition(provider string) string {
	jwt := "metadata.filter_metadata['" + jwtNamespace + "']"
	claims := jwt + "['" + payloadKey + "']"
	return strings.Join([]string{
		fmt.Sprintf("size(request.headers['%s']) <= %d", t.from.headerName(), maxTokenBytes+len("Bearer ")),
		fmt.Sprintf("size(%s['%s']['kid']) <= %d", jwt, headerAt(provider)[0], maxKeyID),
		shorterThan(maxUser, jwt, feature.ClaimPaths(model.MetadataPath{payloadKey}, t.Claims.User)),
		fmt.Sprintf("(!('iat' in %s) || int(%s['iat']) <= int(request.time) + %d)", claims, claims, int(t.Skew.D().Seconds())),
	}, " && ")
}

// shorterThan bounds the first value that is there, in characters.
func shorterThan(most int, root string, paths []model.MetadataPath) string {
	out := "false"
	for _, path := range slices.Backward(paths) {
		object := root
		for _, key := range path[:len(path)-1] {
			object += "['" + key + "']"
		}
		last := path[len(path)-1]
		out = fmt.Sprintf("('%s' in %s ? size(string(%s['%s'])) <= %d : %s)", last, object, object, last, most, out)
	}
	return out
}

// parseCondition gives Envoy an expression in the form in which it takes one.
func parseCondition(text string) (*exprv1alpha1.Expr, error) {
	env, err := cel.NewEnv()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	parsed, err := cel.AstToParsedExpr(ast)
	if err != nil {
		return nil, err
	}
	return parsed.GetExpr(), nil
}
