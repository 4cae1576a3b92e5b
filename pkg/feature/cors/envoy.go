package cors

import (
	"strconv"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

const (
	corsFilter = "cors"
	// answersFilter passes answers before the cors filter does.
	answersFilter = "cors-answers"
	// refuseFilter ends the preflights that the cors filter does not answer.
	refuseFilter = "cors-refuse"
)

// HTTPFilters implements feature.HTTPFilterer.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{
		{Name: corsFilter, Config: &corsv3.Cors{}, PerRoute: &corsv3.CorsPolicy{}},
		{Name: answersFilter, Config: &headermutationv3.HeaderMutation{}, PerRoute: &headermutationv3.HeaderMutationPerRoute{}},
		{Name: refuseFilter, Config: &httprbacv3.RBAC{}, PerRoute: &httprbacv3.RBACPerRoute{}},
	}
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	if err := feature.Enable(out, corsFilter, s.policy(s.methods(r.Match.Methods))); err != nil {
		return err
	}
	return feature.Enable(out, answersFilter, clean())
}

func (s *Spec) policy(methods []string) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:     strings.Join(methods, ", "),
		AllowHeaders:     strings.Join(s.Headers, ", "),
		ExposeHeaders:    strings.Join(s.ExposeHeaders, ", "),
		AllowCredentials: wrapperspb.Bool(s.Credentials),
		// Where a rule itself takes OPTIONS, a foreign page's question still ends here.
		ForwardNotMatchingPreflights: wrapperspb.Bool(false),
	}
	if s.MaxAge != nil {
		out.MaxAge = strconv.Itoa(int(s.MaxAge.D().Seconds()))
	}
	if s.PrivateNetwork {
		out.AllowPrivateNetworkAccess = wrapperspb.Bool(true)
	}
	for _, o := range s.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, o.matcher())
	}
	return out
}

func (o Origin) matcher() *matcherv3.StringMatcher {
	if e := o.expression(); e != "" {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: e}}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: string(o)}}
}

// clean takes away what the service says by itself: who may call is said in one place.
func clean() *headermutationv3.HeaderMutationPerRoute {
	var out []*mutationv3.HeaderMutation
	for _, h := range []string{"access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"} {
		out = append(out, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: h}})
	}
	return answers(append(out, vary()))
}

// vary tells caches that the answer depends on who asks, and whether anybody does.
func vary() *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: "vary", Value: originHeader}, AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}}}
}

func answers(edits []*mutationv3.HeaderMutation) *headermutationv3.HeaderMutationPerRoute {
	return &headermutationv3.HeaderMutationPerRoute{Mutations: &headermutationv3.Mutations{ResponseMutations: edits}}
}

var (
	_ feature.HTTPFilterer    = Feature{}
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.Expander        = (*Spec)(nil)
)
