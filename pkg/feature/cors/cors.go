// Package cors lets pages of other origins call a route from a browser, and answers the browser's question beforehand.
package cors

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `cors`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "cors", Stage: feature.StageCORS, On: feature.Rule,
		Summary: "Lets browsers call the route from pages of other origins."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block.
type Spec struct {
	Origins        []Origin         `json:"origins" jsonschema:"required" jsonschema_description:"Origins that may call; https://*.food.example for all below, * for any."`
	Methods        []string         `json:"methods,omitempty" jsonschema_description:"Methods they may use; those of the rule's match when left out."`
	Headers        []string         `json:"headers,omitempty" jsonschema_description:"Request headers they may send beside the safe ones; * for any."`
	ExposeHeaders  []string         `json:"exposeHeaders,omitempty" jsonschema_description:"Answer headers their scripts may read beside the safe ones; * for all."`
	Credentials    bool             `json:"credentials,omitempty" jsonschema_description:"Lets them send cookies and the like."`
	MaxAge         *policy.Duration `json:"maxAge,omitempty" jsonschema_description:"How long a browser may remember the answer beforehand; its own time when left out."`
	PrivateNetwork bool             `json:"privateNetwork,omitempty" jsonschema_description:"Lets public pages call a gateway on a private network."`
}

// Origin is scheme://host[:port], scheme://*.suffix[:port], or * for any.
type Origin string

// JSONSchema describes the form.
func (Origin) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^(\*|[a-z][a-z0-9+.-]*://[^/]+)$`, Examples: []any{"https://app.food.example", "https://*.food.example"}}
}

// check tells what is wrong with an origin, and how to write it.
func (o Origin) check() (err error, hint string) {
	const example = "write for example https://app.food.example"
	scheme, rest, found := strings.Cut(string(o), "://")
	switch {
	case o == "*":
		return nil, ""
	case o == "null":
		return fmt.Errorf("null is what any sandboxed page and file sends, so it names nobody"), "leave it out"
	case !found || !schemeForm.MatchString(scheme) || rest == "":
		return fmt.Errorf("%q is not an origin", string(o)), example
	case strings.ToLower(string(o)) != string(o):
		return fmt.Errorf("%q: browsers send origins in lower case", string(o)), "write " + strings.ToLower(string(o))
	case strings.ContainsAny(rest, "/?#@\\ "):
		return fmt.Errorf("%q: an origin has no path, query or user", string(o)), example
	}
	host := rest
	if h, port, err := policy.SplitHostPort(rest); err == nil {
		host = h
		if defaultPort[scheme] == port {
			return fmt.Errorf("%q: browsers leave out the port %d of %s", string(o), port, scheme), "leave out the port"
		}
	}
	if err := policy.CheckHost(host); err != nil && !strings.HasPrefix(rest, "[") || host == "*" {
		return fmt.Errorf("%q is not an origin", string(o)), example
	}
	if _, err := url.Parse(strings.Replace(string(o), "*.", "", 1)); err != nil {
		return fmt.Errorf("%q is not an origin", string(o)), example
	}
	return nil, ""
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

var defaultPort = map[string]uint32{"http": 80, "https": 443}

// expression is what a wildcard's origins look like, "" for an exact origin.
func (o Origin) expression() string {
	scheme, suffix, found := strings.Cut(string(o), "://*.")
	if !found {
		return ""
	}
	return regexp.QuoteMeta(scheme+"://") + `([a-z0-9_-]+\.)+` + regexp.QuoteMeta(suffix)
}

// maxAge is longer than any browser remembers.
const maxAge = 24 * time.Hour

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if len(s.Origins) == 0 {
		p.Suggestf(at.Field("origins"), policy.CodeRequired, "name at least one origin", "%s is empty", at.Field("origins").Path)
	}
	for i, o := range s.Origins {
		if err, hint := o.check(); err != nil {
			p.Suggestf(at.Field("origins").Index(i), policy.CodeValue, hint, "%v", err)
		}
	}
	s.checkMethods(at.Field("methods"), p)
	s.checkHeaders(at.Field("headers"), s.Headers, p)
	s.checkHeaders(at.Field("exposeHeaders"), s.ExposeHeaders, p)
	if s.Credentials && slices.Contains(s.Origins, "*") {
		p.Suggestf(at.Field("origins"), policy.CodeConflict, "name the origins", "with credentials, any page that a user visits could act as that user: * may not stand here")
	}
	if s.MaxAge != nil && s.MaxAge.D() > maxAge {
		p.Suggestf(at.Field("maxAge"), policy.CodeValue, "write 24h", "no browser remembers longer than %s", policy.Duration(maxAge))
	}
}

var methodForm = regexp.MustCompile(`^[A-Z][A-Z-]*$`)

func (s *Spec) checkMethods(at policy.At, p *policy.Problems) {
	for i, m := range s.Methods {
		switch {
		case m == "*":
			p.Suggestf(at.Index(i), policy.CodeValue, "leave methods out: then those of the rule's match hold", "* is not a method")
		case !methodForm.MatchString(m):
			p.Suggestf(at.Index(i), policy.CodeValue, "write it as "+strings.ToUpper(m), "%q is not an HTTP method in capital letters", m)
		}
	}
}

func (s *Spec) checkHeaders(at policy.At, names []string, p *policy.Problems) {
	for i, h := range names {
		if h == "*" {
			if s.Credentials {
				p.Suggestf(at.Index(i), policy.CodeConflict, "name the headers", "with credentials, browsers take * for a header of that name")
			}
			continue
		}
		if err := policy.CheckHeaderName(h); err != nil {
			p.Errorf(at.Index(i), policy.CodeValue, "%v", err)
		}
	}
}
