package authorize

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// filter is the filter's name in the chain, and the start of its statistics' names.
const filter = "authorize"

// HTTPFilters implements feature.HTTPFilterer: what the request itself shows, Envoy decides.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{
		Name: filter, Config: &httprbacv3.RBAC{RulesStatPrefix: filter + "_", ShadowRulesStatPrefix: filter + "_"}, PerRoute: &httprbacv3.RBACPerRoute{},
		Replies: replies(),
	}}
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(route *model.Route, out *routev3.Route) error {
	enforced, shadow := refusals{}, refusals{}
	for _, r := range s.All {
		into := enforced
		if r.Mode == modeShadow {
			into = shadow
		}
		into.add(r)
		if route.Decider == model.Native {
			into.addCaller(r, route.Identity)
		}
	}
	if len(enforced)+len(shadow) == 0 {
		return nil
	}
	return feature.Enable(out, filter, &httprbacv3.RBACPerRoute{Rbac: &httprbacv3.RBAC{
		Rules: enforced.rules(), ShadowRules: shadow.rules(), ShadowRulesStatPrefix: filter + "_",
	}})
}

// refusals are what is refused, by reason: any one that holds refuses the request, so that more of them never let more
// pass. The reason stands in the answer's details and in the log.
type refusals map[string]*rbacv3.Policy

// add adds what a requirement refuses that Envoy can see by itself.
func (f refusals) add(r Requirement) {
	if len(r.Sources) > 0 {
		f.unlessCaller(reasonSource, anyCaller(from(r.Sources)))
	}
	if len(r.Methods) > 0 {
		f.unlessRequest(reasonMethod, anyRequest(methods(r.Methods)))
	}
}

// rules are nil where nothing is refused.
func (f refusals) rules() *rbacv3.RBAC {
	if len(f) == 0 {
		return nil
	}
	return &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: f}
}

// unlessCaller refuses every request whose caller is not that one.
func (f refusals) unlessCaller(reason string, caller *rbacv3.Principal) {
	if f[reason] == nil {
		f[reason] = &rbacv3.Policy{Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}}
	}
	f[reason].Principals = append(f[reason].Principals, &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: caller}})
}

// unlessRequest refuses every request that is not that one.
func (f refusals) unlessRequest(reason string, request *rbacv3.Permission) {
	if f[reason] == nil {
		f[reason] = &rbacv3.Policy{Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}}
	}
	f[reason].Permissions = append(f[reason].Permissions, &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: request}})
}

func anyCaller(of []*rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: of}}}
}

func anyRequest(of []*rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: of}}}
}

// from is the client's address as the listener determines it, see the block clientAddress; not the peer's.
func from(sources []string) []*rbacv3.Principal {
	var out []*rbacv3.Principal
	for _, s := range sources {
		p, err := parseSource(s)
		if err != nil {
			continue // Validate has said so; a range that is left out lets nothing more pass
		}
		out = append(out, within(p))
		if p.Addr().Is4() {
			out = append(out, within(mapped(p)))
		}
	}
	return out
}

func within(p netip.Prefix) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_RemoteIp{RemoteIp: &corev3.CidrRange{
		AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits())),
	}}}
}

func methods(names []string) []*rbacv3.Permission {
	var out []*rbacv3.Permission
	for _, name := range names {
		out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
			Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name},
			}},
		}}})
	}
	return out
}

var (
	_ feature.HTTPFilterer    = Feature{}
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.NativeChecker   = (*Spec)(nil)
)
