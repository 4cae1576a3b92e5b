package translate

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-gateway/sluice/pkg/model"
)

func match(m model.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	setPath(m.Path, out)
	if len(m.Methods) > 0 {
		out.Headers = append(out.Headers, methods(m.Methods))
	}
	if len(m.Except) > 0 {
		except := methods(m.Except)
		except.InvertMatch = true
		out.Headers = append(out.Headers, except)
	}
	for _, c := range m.Headers {
		out.Headers = append(out.Headers, header(c))
	}
	for _, c := range m.Query {
		out.QueryParameters = append(out.QueryParameters, query(c))
	}
	return out
}

func setPath(p model.Path, out *routev3.RouteMatch) {
	switch {
	case p.Regex != "" || p.HasParams():
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: p.Expression()}}
	case p.Tail && len(p.Segments) == 0:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case p.Tail:
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: p.Literal()}
	default:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: p.Literal()}
	}
}

func methods(names []string) *routev3.HeaderMatcher {
	if len(names) == 1 {
		return header(model.Condition{Name: ":method", Op: model.Exact, Value: names[0]})
	}
	return header(model.Condition{Name: ":method", Op: model.Regex, Value: strings.Join(names, "|")})
}

func header(c model.Condition) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: c.Name}
	switch c.Op {
	case model.Present, model.Absent:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		out.InvertMatch = c.Op == model.Absent
	default:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: text(c)}
	}
	return out
}

func query(c model.Condition) *routev3.QueryParameterMatcher {
	out := &routev3.QueryParameterMatcher{Name: c.Name}
	if c.Op == model.Present {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
		return out
	}
	out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: text(c)}
	return out
}

func text(c model.Condition) *matcherv3.StringMatcher {
	switch c.Op {
	case model.Prefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: c.Value}}
	case model.Regex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: c.Value}}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: c.Value}}
}
