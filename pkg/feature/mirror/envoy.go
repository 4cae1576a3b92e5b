package mirror

import (
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// ConfigureRoute implements feature.RouteConfigurer. A route that is answered at the gateway has nothing to copy.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	action := out.GetRoute()
	if action == nil {
		return nil
	}
	for _, t := range *s {
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster: t.Cluster, RuntimeFraction: fraction(t.Share), DisableShadowHostSuffixAppend: true,
		})
	}
	return nil
}

// fraction counts in millionths, the finest that Envoy has; a share above zero never becomes none.
func fraction(share policy.Percent) *corev3.RuntimeFractionalPercent {
	if share == 100 {
		return nil
	}
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
		Numerator: max(1, uint32(math.Round(float64(share)*1e4))), Denominator: typev3.FractionalPercent_MILLION,
	}}
}

var (
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.Resolver        = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Spec)(nil)
)
