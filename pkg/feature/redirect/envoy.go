package redirect

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	to := &routev3.RedirectAction{HostRedirect: s.Host, PortRedirect: s.Port, StripQuery: s.StripQuery, ResponseCode: s.code()}
	if s.Scheme != "" {
		to.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: s.Scheme}
	}
	switch t, p := s.template(), r.Match.Path; {
	case t == "":
	case t.Prefix(p) != "":
		to.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: t.Prefix(p)}
	default:
		to.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: t.Expression(p)}
	}
	out.Action = &routev3.Route_Redirect{Redirect: to}
	return nil
}

func (s *Spec) code() routev3.RedirectAction_RedirectResponseCode {
	switch s.Status {
	case 301:
		return routev3.RedirectAction_MOVED_PERMANENTLY
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_FOUND
}

var (
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.Answerer        = (*Spec)(nil)
	_ feature.MatchChecker    = (*Spec)(nil)
)
