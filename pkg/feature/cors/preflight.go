package cors

import (
	"cmp"
	"net/http"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	originHeader = "origin"
	methodHeader = "access-control-request-method"
	// nowhere names the cluster in a header that no client can send: the listener refuses underscores.
	nowhere = "sluice_nowhere"
)

// Expand implements feature.Expander: the route that answers the browser's question beforehand, one for each method of
// the rule, so that rules for other methods of the path have their own. The question carries none of the
// headers that the rule may ask for, and no credentials: nothing of the rule but this block holds there.
func (s *Spec) Expand(r *model.Route, self model.Attachment) []*model.Route {
	origin := model.Condition{Name: originHeader, Op: model.Present}
	if len(r.Match.Methods) == 0 {
		asks := []model.Condition{{Name: methodHeader, Op: model.Present}, origin}
		return []*model.Route{s.preflight(r, self, s.methods(nil), asks)}
	}
	var out []*model.Route
	for _, m := range r.Match.Methods {
		// That the header is there says nothing new; one condition more lets the method go before any method.
		asks := []model.Condition{{Name: methodHeader, Op: model.Exact, Value: m}, {Name: methodHeader, Op: model.Present}, origin}
		out = append(out, s.preflight(r, self, s.methods([]string{m}), asks))
	}
	return out
}

func (s *Spec) preflight(r *model.Route, self model.Attachment, methods []string, asks []model.Condition) *model.Route {
	self.Spec = &preflight{spec: s, methods: methods}
	self.Digest += " preflight " + strings.Join(methods, " ")
	return &model.Route{
		Match:       model.Match{Path: r.Match.Path, Methods: []string{http.MethodOptions}, Headers: asks, Query: r.Match.Query},
		Attachments: []model.Attachment{self},
	}
}

// methods are those that may be used: as written, else the rule's, else all that browsers send.
func (s *Spec) methods(rule []string) []string {
	switch {
	case len(s.Methods) > 0:
		return s.Methods
	case len(rule) > 0:
		return rule
	}
	return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
}

// preflight is the block as it holds where the question is answered.
type preflight struct {
	spec    *Spec
	methods []string
}

// Validate implements feature.Spec.
func (*preflight) Validate(policy.At, *policy.Problems) {}

// ConfigureRoute implements feature.RouteConfigurer. The cors filter answers who may call, the one after it refuses
// the others. They look only at routes that forward, so this one does, to nowhere.
func (f *preflight) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	out.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: nowhere},
	}}
	answer := f.spec.policy(f.methods)
	answer.ForwardNotMatchingPreflights = wrapperspb.Bool(true)
	return cmp.Or(
		feature.Enable(out, corsFilter, answer),
		feature.Enable(out, answersFilter, answers([]*mutationv3.HeaderMutation{vary()})),
		feature.Enable(out, refuseFilter, refuseAll()),
	)
}

func refuseAll() *httprbacv3.RBACPerRoute {
	everyone := &rbacv3.Policy{
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
	}
	return &httprbacv3.RBACPerRoute{Rbac: &httprbacv3.RBAC{Rules: &rbacv3.RBAC{
		Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{"preflight": everyone},
	}}}
}

var _ feature.RouteConfigurer = (*preflight)(nil)
