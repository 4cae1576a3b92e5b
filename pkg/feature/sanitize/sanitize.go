// Package sanitize removes from requests what no client has a say in, before anything reads it, and refuses requests
// that name several hosts.
package sanitize

import (
	"regexp"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `sanitize`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "sanitize", Stage: feature.StageStrip, On: feature.Gateway,
		Summary: "Which headers no client may send: they are removed before anything reads them."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Default implements feature.Defaulter.
func (f Feature) Default() feature.Spec { return f.New() }

// Spec is the block. What it names comes on top of what is always removed.
type Spec struct {
	Remove []string `json:"remove,omitempty" jsonschema_description:"Further headers to remove: a name, or the start of names and *."`
	Keep   []string `json:"keep,omitempty" jsonschema_description:"Headers that clients may send after all, of those that are removed unless kept: x-original-url, x-rewrite-url, x-http-method, x-http-method-override, x-method-override, proxy."`
	// PathParameters: many a Java server leaves out what follows a semicolon, and so sees another path than was judged.
	PathParameters string `json:"pathParameters,omitempty" jsonschema:"enum=keep,enum=refuse" jsonschema_description:"What happens to paths with a semicolon (/a;b=c): keep, the default, or refuse, answered 400."`
}

// always are the families that steer Envoy or Sluice itself.
func always() []string { return []string{"x-envoy-*", "x-sluice-*"} }

// unlessKept are headers by which services let a client override the path or method that a policy has judged, and the
// one that CGI takes for its proxy.
func unlessKept() []string {
	return []string{"x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override", "proxy"}
}

// removed are all headers to remove, in the order they are removed in.
func (s *Spec) removed() []string {
	out := always()
	for _, name := range append(unlessKept(), s.Remove...) {
		if !slices.Contains(s.Keep, name) {
			out = append(out, name)
		}
	}
	return out
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	pattern := regexp.MustCompile(`^[a-z0-9][a-z0-9-]*\*?$`)
	for i, name := range s.Remove {
		switch {
		case !pattern.MatchString(name):
			p.Suggestf(at.Field("remove").Index(i), policy.CodeValue, "write for example x-user or x-internal-*", "%q is not a header's name in lower case, nor the start of names and *", name)
		case slices.Contains(needed(), name):
			p.Errorf(at.Field("remove").Index(i), policy.CodeValue, "HTTP does not work without the header %s", name)
		}
	}
	for i, name := range s.Keep {
		if !slices.Contains(unlessKept(), name) {
			p.Suggestf(at.Field("keep").Index(i), policy.CodeValue, "", "%q is not one of the headers that may be kept: %v", name, unlessKept())
		}
	}
}

// needed are headers without which requests are misread.
func needed() []string {
	return []string{"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"}
}
