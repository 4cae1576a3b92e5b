package rewrite

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// ConfigureRoute implements feature.RouteConfigurer. A route that is answered at the gateway stays as it is.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	action := out.GetRoute()
	if action == nil {
		return nil
	}
	s.path(r.Match.Path, action)
	switch {
	case s.Host != "":
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: s.Host}
	case s.HostFrom != "":
		action.HostRewriteSpecifier = &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)}
	}
	return nil
}

func (s *Spec) path(p model.Path, action *routev3.RouteAction) {
	t := s.template()
	switch {
	case s.Regex != nil:
		action.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
			Pattern: &matcherv3.RegexMatcher{Regex: s.Regex.Pattern}, Substitution: s.Regex.Substitution,
		}
	case t == "":
	case t.Prefix(p) != "":
		action.PrefixRewrite = t.Prefix(p)
	default:
		action.RegexRewrite = t.Expression(p)
	}
}

var (
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.MatchChecker    = (*Spec)(nil)
)
