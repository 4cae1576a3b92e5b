package cors

import (
	"net/http"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	originHeader = "origin"
	methodHeader = "access-control-request-method"
)

// Expand implements feature.Expander: the route that answers the browser's question beforehand, one for each method of
// the rule, so that rules for other methods of the path have their own. The question carries none of the
// headers that the rule may ask for, and no credentials: nothing of the rule but this block holds there.
func (s *Spec) Expand(r *model.Route, self model.Attachment) []*model.Route {
	if len(r.Match.Methods) == 0 {
		asks := []model.Condition{{Name: methodHeader, Op: model.Present}, {Name: originHeader, Op: model.Present}}
		return []*model.Route{s.preflight(r, self, s.methods(nil), asks)}
	}
	var out []*model.Route
	for _, m := range r.Match.Methods {
		// That the header is there says nothing new; one condition more lets the method go before any method.
		asks := []model.Condition{{Name: methodHeader, Op: model.Exact, Value: m}, {Name: methodHeader, Op: model.Present}, {Name: originHeader, Op: model.Present}}
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

// ConfigureRoute implements feature.RouteConfigurer. The filter answers who may call; the route answers the others.
func (f *preflight) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusForbidden}}
	if err := f.spec.enable(out, f.methods); err != nil {
		return err
	}
	return feature.Enable(out, answersFilter, answers([]*mutationv3.HeaderMutation{vary()}))
}

var _ feature.RouteConfigurer = (*preflight)(nil)
