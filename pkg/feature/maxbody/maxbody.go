// Package maxbody bounds the size of a request's body.
package maxbody

import (
	"github.com/invopop/jsonschema"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bodysizelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/body_size_limit/v3"
	filterchainv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/filter_chain/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `maxBody`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "maxBody", Stage: feature.StageBodySize, On: feature.Rule,
		Summary: "The largest body that a request may have; a larger one is answered 413."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// filter is the filter's name in the chain.
const filter = "maxbody"

// HTTPFilters implements feature.HTTPFilterer. Envoy's body_size_limit has no per-route config in 1.40, so each route
// brings it whole, in a chain of one: 1.4 KB of Envoy's memory a route.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{Name: filter, Config: &filterchainv3.FilterChainConfig{}, PerRoute: &filterchainv3.FilterChainConfigPerRoute{}}}
}

// Spec is the block: a size.
type Spec struct {
	Bytes policy.Size `json:"bytes"`
}

// UnmarshalNode reads the size.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) { policy.Decode(at, &s.Bytes, p) }

// JSONSchema describes the size.
func (Spec) JSONSchema() *jsonschema.Schema { return policy.TypeSchema(policy.Size(0)) }

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.Bytes == 0 {
		p.Suggestf(at, policy.CodeValue, "write for example 1MiB", "%s is 0: no body would pass", at.Path)
	}
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	limit, err := feature.Pack(&bodysizelimitv3.BodySizeLimit{MaxRequestBytes: wrapperspb.UInt64(uint64(s.Bytes))})
	if err != nil {
		return err
	}
	return feature.Enable(out, filter, &filterchainv3.FilterChainConfigPerRoute{FilterChain: &filterchainv3.FilterChain{
		Filters: []*corev3.TypedExtensionConfig{{Name: "body_size_limit", TypedConfig: limit}},
	}})
}

var (
	_ feature.HTTPFilterer    = Feature{}
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Spec)(nil)
)
