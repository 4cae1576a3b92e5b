// Package direct answers requests at the gateway, without any service.
package direct

import (
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `direct`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "direct", Stage: feature.StageRoute, On: feature.Rule,
		Summary: "Answers the request at the gateway with a fixed status and body."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{Status: 200} }

// Spec is the block.
type Spec struct {
	Status      uint32         `json:"status,omitempty" jsonschema:"minimum=200,maximum=599" jsonschema_description:"The answer's status; 200 when left out."`
	Body        policy.Content `json:"body,omitzero" jsonschema_description:"The answer's body, sent as written."`
	ContentType string         `json:"contentType,omitempty" jsonschema_description:"The body's content type; text/plain when left out."`
}

// maxBody is what Envoy takes in a route.
const maxBody = 4096

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if len(s.Body.Text) > maxBody {
		p.Errorf(at.Field("body"), policy.CodeValue, "the body has %d bytes; at most %d are allowed", len(s.Body.Text), maxBody)
	}
	if s.Body.Text != "" && slices.Contains([]uint32{http.StatusNoContent, http.StatusResetContent, http.StatusNotModified}, s.Status) {
		p.Suggestf(at.Field("body"), policy.CodeConflict, "leave the body out, or choose another status", "an answer with status %d has no body", s.Status)
	}
	if strings.ContainsFunc(s.ContentType, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		p.Errorf(at.Field("contentType"), policy.CodeValue, "%s holds control characters, or some that are not ASCII", at.Field("contentType").Path)
	}
}

// Answers implements feature.Answerer.
func (s *Spec) Answers() bool { return true }

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	answer := &routev3.DirectResponseAction{Status: s.Status}
	if s.Body.Text != "" {
		answer.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s.Body.Text}}
		markAsWritten(out)
	}
	if s.ContentType != "" {
		out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "content-type", Value: strings.ReplaceAll(s.ContentType, "%", "%%")},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	out.Action = &routev3.Route_DirectResponse{DirectResponse: answer}
	return nil
}

// markAsWritten tells the feature errors, by the route's metadata, to let the body be.
func markAsWritten(out *routev3.Route) {
	if out.Metadata == nil {
		out.Metadata = &corev3.Metadata{}
	}
	if out.Metadata.FilterMetadata == nil {
		out.Metadata.FilterMetadata = map[string]*structpb.Struct{}
	}
	if out.Metadata.FilterMetadata[feature.MetadataKey].GetFields() == nil {
		out.Metadata.FilterMetadata[feature.MetadataKey] = &structpb.Struct{Fields: map[string]*structpb.Value{}}
	}
	out.Metadata.FilterMetadata[feature.MetadataKey].Fields["body"] = structpb.NewStringValue("as written")
}

var (
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ feature.Answerer        = (*Spec)(nil)
)
