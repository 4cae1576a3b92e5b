// Package upgrade lets connections turn from HTTP into another protocol.
package upgrade

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `upgrade`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "upgrade", Stage: feature.StageRoute, On: feature.Rule | feature.Service,
		Summary: "Lets requests upgrade their connection to WebSocket; without it they are refused."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block.
type Spec struct {
	WebSocket bool `json:"websocket" jsonschema:"required" jsonschema_description:"Whether WebSocket connections may be opened."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	if action := out.GetRoute(); action != nil && s.WebSocket {
		action.UpgradeConfigs = append(action.UpgradeConfigs, &routev3.RouteAction_UpgradeConfig{
			UpgradeType: "websocket", Enabled: wrapperspb.Bool(true),
		})
	}
	return nil
}

var _ feature.RouteConfigurer = (*Spec)(nil)
