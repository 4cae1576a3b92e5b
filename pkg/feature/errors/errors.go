// Package errors gives every answer that Envoy makes itself one form, application/problem+json (RFC 9457), and keeps
// the gateway's insides out of it.
package errors

import (
	"net/url"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `errors`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "errors", Stage: feature.StageRoute, On: feature.Gateway,
		Summary: "The form of the answers that the gateway makes itself: application/problem+json."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{Types: DefaultType} }

// Default implements feature.Defaulter: problems are on unless a Gateway says otherwise.
func (f Feature) Default() feature.Spec { return f.New() }

// DefaultType is the problem type that says no more than the status.
const DefaultType = "about:blank"

// Spec is the block: off, or the long form.
type Spec struct {
	Off   bool   `json:"off,omitempty" jsonschema_description:"Leaves Envoy's own plain text answers as they are."`
	Types string `json:"types,omitempty" jsonschema_description:"Where the problem types are described: {status} becomes the status. about:blank when left out."`
}

// UnmarshalNode reads either form.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if s.Off = policy.IsOff(at, p); s.Off {
		return
	}
	type plain Spec
	policy.Decode(at, (*plain)(s), p)
}

// JSONSchema describes both forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	type plain Spec
	return policy.OrOff(plain{})
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	plain := strings.ReplaceAll(s.Types, "{status}", "404")
	if _, err := url.Parse(plain); err != nil || strings.ContainsAny(plain, "%{}\"\\ ") {
		p.Suggestf(at.Field("types"), policy.CodeValue, "write for example https://errors.example.com/{status}", "%q is not a URL", s.Types)
	}
}
