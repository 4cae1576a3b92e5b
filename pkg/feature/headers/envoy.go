package headers

import (
	"maps"
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const filterName = "headers"

// HTTPFilters implements feature.HTTPFilterer. A filter, not the route's own fields: it sees the gateway's own
// answers too, and nothing that an earlier filter refuses.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{
		Name: filterName, Config: &headermutationv3.HeaderMutation{}, PerRoute: &headermutationv3.HeaderMutationPerRoute{},
	}}
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	request, err := s.Request.mutations()
	if err != nil {
		return err
	}
	response, err := s.Response.mutations()
	if err != nil {
		return err
	}
	return feature.Enable(out, filterName, &headermutationv3.HeaderMutationPerRoute{
		Mutations: &headermutationv3.Mutations{RequestMutations: request, ResponseMutations: response},
	})
}

// mutations are carried out in order: a header that is removed far away may be added to nearer by.
func (e Edits) mutations() ([]*mutationv3.HeaderMutation, error) {
	var out []*mutationv3.HeaderMutation
	for _, name := range slices.Compact(slices.Sorted(slices.Values(e.Remove))) {
		out = append(out, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		m, err := put(name, e.Set[name], corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Add)) {
		for _, value := range e.Add[name] {
			m, err := put(name, value, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
			if err != nil {
				return nil, err
			}
			out = append(out, m)
		}
	}
	return out, nil
}

func put(name, value string, how corev3.HeaderValueOption_HeaderAppendAction) (*mutationv3.HeaderMutation, error) {
	text, err := format(value)
	if err != nil {
		return nil, err
	}
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: text}, AppendAction: how, KeepEmptyValue: value == "",
	}}}, nil
}

var (
	_ feature.HTTPFilterer    = Feature{}
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.Joiner          = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Edits)(nil)
	_ policy.Unmarshaler      = (*Values)(nil)
)
