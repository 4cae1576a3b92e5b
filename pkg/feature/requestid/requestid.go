// Package requestid gives every request an id that the client, the service and the log have in common.
package requestid

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `requestId`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "requestId", Stage: feature.StageRoute, On: feature.Gateway,
		Summary: "The request's id, in the header x-request-id."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{InResponse: true} }

// Default implements feature.Defaulter: every request has an id, made here, and the client is told.
func (f Feature) Default() feature.Spec { return f.New() }

// Spec is the block.
type Spec struct {
	TrustClient bool `json:"trustClient" jsonschema_description:"Keeps an x-request-id that the client sent; false when left out."`
	InResponse  bool `json:"inResponse" jsonschema_description:"Tells the client the id; true when left out."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(policy.At, *policy.Problems) {}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, _ *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	hcm.GenerateRequestId = wrapperspb.Bool(true)
	hcm.PreserveExternalRequestId = s.TrustClient
	hcm.AlwaysSetRequestIdInResponse = s.InResponse
	return nil
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
)
