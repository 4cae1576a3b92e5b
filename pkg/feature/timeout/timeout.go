// Package timeout bounds how long a request may take.
package timeout

import (
	"time"

	"github.com/invopop/jsonschema"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `timeout`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "timeout", Stage: feature.StageRoute, On: feature.Rule | feature.Service,
		Summary: "How long a request may take, from its last byte to the answer's last byte, retries included."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{Request: policy.Duration(15 * time.Second)} }

// Spec is the block: a duration for the whole request, or the long form.
type Spec struct {
	Request policy.Duration `json:"request,omitempty" jsonschema_description:"For the whole request; 0s for no limit. 15s when left out."`
	Idle    policy.Duration `json:"idle,omitempty" jsonschema_description:"How long nothing may move in either direction."`
}

// UnmarshalNode reads either form.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		policy.Decode(at, &s.Request, p)
		return
	}
	type plain Spec
	policy.Decode(at, (*plain)(s), p)
}

// JSONSchema describes both forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	type plain Spec
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{policy.TypeSchema(policy.Duration(0)), policy.TypeSchema(plain{})}}
}

// Validate implements feature.Spec.
func (s *Spec) Validate(policy.At, *policy.Problems) {}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	action := out.GetRoute()
	if action == nil {
		return nil
	}
	action.Timeout = durationpb.New(s.Request.D())
	if s.Idle > 0 {
		action.IdleTimeout = durationpb.New(s.Idle.D())
	}
	return nil
}

var (
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Spec)(nil)
)
