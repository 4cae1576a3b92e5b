// Package compression compresses answers on their way to the client.
package compression

import (
	"regexp"
	"slices"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `compression`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "compression", Stage: feature.StageCompressor, On: feature.Rule,
		Summary: "Compresses answers with what the client accepts."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec {
	return &Spec{Algorithms: algorithms(), MinBytes: 1 << 10, ContentTypes: contentTypes()}
}

// Spec is the block: off, or the long form.
type Spec struct {
	Off          bool        `json:"off,omitempty" jsonschema_description:"Compresses nothing here."`
	Algorithms   []string    `json:"algorithms" jsonschema:"enum=zstd,enum=brotli,enum=gzip" jsonschema_description:"Which may be used, the preferred first; zstd, brotli, gzip when left out."`
	MinBytes     policy.Size `json:"minBytes" jsonschema_description:"The smallest body that is compressed; 1KiB when left out. A body of unknown length is always compressed."`
	ContentTypes []string    `json:"contentTypes" jsonschema_description:"Which media types are compressed: a type, or text/* for a family; the usual text formats when left out."`
}

// algorithms are those there are, in the order in which they are preferred unless a policy says otherwise.
func algorithms() []string { return []string{"zstd", "brotli", "gzip"} }

// contentTypes are what is compressed unless a policy says otherwise. text/event-stream is not among them: its events
// would wait in the compressor.
func contentTypes() []string {
	return []string{
		"application/graphql-response+json", "application/javascript", "application/json", "application/ld+json", "application/problem+json",
		"application/wasm", "application/xhtml+xml", "application/xml", "image/svg+xml",
		"text/css", "text/csv", "text/html", "text/javascript", "text/markdown", "text/plain", "text/xml",
	}
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

// maxMinBytes is far above what anyone means, and what Envoy takes.
const maxMinBytes = 1 << 30

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if len(s.Algorithms) == 0 {
		p.Suggestf(at.Field("algorithms"), policy.CodeValue, "write compression: off", "no algorithm is left")
	}
	for i, a := range s.Algorithms {
		if slices.Contains(s.Algorithms[:i], a) {
			p.Errorf(at.Field("algorithms").Index(i), policy.CodeDuplicate, "%s is listed twice", a)
		}
	}
	if s.MinBytes > maxMinBytes {
		p.Errorf(at.Field("minBytes"), policy.CodeValue, "minBytes is %s; at most 1GiB is allowed", s.MinBytes)
	}
	pattern := regexp.MustCompile(`^[a-z0-9.+-]+/([a-z0-9.+-]+|\*)$`)
	for i, t := range s.ContentTypes {
		if !pattern.MatchString(t) {
			p.Suggestf(at.Field("contentTypes").Index(i), policy.CodeValue, "write for example application/json or text/*", "%q is not a media type in lower case", t)
		}
	}
	if len(s.ContentTypes) == 0 {
		p.Suggestf(at.Field("contentTypes"), policy.CodeValue, "write compression: off", "no media type is left")
	}
}

// isShared tells whether the listener's own filters do as the block says; they then cost a route a tenth of the memory
// that filters of its own do.
func (s *Spec) isShared() bool {
	next := 0
	for _, a := range s.Algorithms {
		i := slices.Index(algorithms()[next:], a)
		if i < 0 {
			return false
		}
		next += i + 1
	}
	return s.MinBytes == 1<<10 && slices.Equal(s.ContentTypes, contentTypes())
}
