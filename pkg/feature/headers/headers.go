// Package headers edits the headers of requests and answers.
package headers

import (
	"maps"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `headers`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "headers", Stage: feature.StageHeaders, On: feature.Rule,
		Summary: "Sets, adds and removes headers of requests and answers."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block.
type Spec struct {
	Request  Edits `json:"request,omitzero" jsonschema_description:"What the service sees."`
	Response Edits `json:"response,omitzero" jsonschema_description:"What the client sees, on the gateway's own answers too."`
}

// Edits are changes to one message's headers. Names are in lower case once decoded.
type Edits struct {
	Set    map[string]string `json:"set,omitempty" jsonschema_description:"Headers that then have this one value. {requestId}, {clientAddress}, {host}, {path}, {method} and {route} stand for the request's own."`
	Add    map[string]Values `json:"add,omitempty" jsonschema_description:"Values beside those that are there."`
	Remove []string          `json:"remove,omitempty" jsonschema_description:"Headers that are taken away."`
}

// Values are one header's values: a single one, or a list.
type Values []string

// UnmarshalNode reads either form.
func (v *Values) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		*v = Values{at.Node.Value}
		return
	}
	policy.Decode(at, (*[]string)(v), p)
}

// JSONSchema describes both forms.
func (Values) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "array", Items: &jsonschema.Schema{Type: "string"}}}}
}

// UnmarshalNode reads the mapping, and puts names in lower case: HTTP does not tell a from A.
func (e *Edits) UnmarshalNode(at policy.At, p *policy.Problems) {
	type plain Edits
	policy.Decode(at, (*plain)(e), p)
	e.Set = lowerKeys(e.Set, at.Field("set"), p)
	e.Add = lowerKeys(e.Add, at.Field("add"), p)
	for i := range e.Remove {
		e.Remove[i] = strings.ToLower(e.Remove[i])
	}
}

func lowerKeys[V any](m map[string]V, at policy.At, p *policy.Problems) map[string]V {
	if m == nil {
		return nil
	}
	out := make(map[string]V, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		lower := strings.ToLower(name)
		if _, twice := out[lower]; twice {
			p.Errorf(at.Field(name), policy.CodeDuplicate, "%s is there twice, in other letters", lower)
		}
		out[lower] = m[name]
	}
	return out
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.Request.empty() && s.Response.empty() {
		p.Suggestf(at, policy.CodeRequired, "add request: or response: with set, add or remove", "%s changes nothing", at.Path)
	}
	s.Request.validate(at.Field("request"), p)
	s.Response.validate(at.Field("response"), p)
}

func (e Edits) empty() bool { return len(e.Set)+len(e.Add)+len(e.Remove) == 0 }

func (e Edits) validate(at policy.At, p *policy.Problems) {
	for name, value := range e.Set {
		here := written(at.Field("set"), name)
		checkName(here, name, p)
		checkValue(here, value, p)
	}
	for name, values := range e.Add {
		here := written(at.Field("add"), name)
		checkName(here, name, p)
		for _, v := range values {
			checkValue(here, v, p)
		}
		if _, both := e.Set[name]; both {
			p.Suggestf(here, policy.CodeConflict, "keep one of the two", "%s is both set and added to", name)
		}
	}
	for i, name := range e.Remove {
		here := at.Field("remove").Index(i)
		checkName(here, name, p)
		_, set := e.Set[name]
		_, added := e.Add[name]
		if set || added {
			p.Suggestf(here, policy.CodeConflict, "set replaces what was there", "%s is both removed and given a value", name)
		}
	}
}

// written is the place of a header's value, however its name was written.
func written(at policy.At, lower string) policy.At {
	if at.Node != nil {
		for _, f := range at.Node.Fields {
			if strings.ToLower(f.Key) == lower {
				return at.Field(f.Key)
			}
		}
	}
	return at.Field(lower)
}

// refused are headers that frame the message or route it; changing them here would break one or the other.
var refused = map[string]string{
	"host":              "use rewrite: {host: …}",
	"connection":        "it belongs to one hop; leave it to the gateway",
	"keep-alive":        "it belongs to one hop; leave it to the gateway",
	"proxy-connection":  "it belongs to one hop; leave it to the gateway",
	"te":                "it belongs to one hop; leave it to the gateway",
	"trailer":           "it belongs to one hop; leave it to the gateway",
	"upgrade":           "use upgrade: {websocket: true}",
	"transfer-encoding": "the gateway frames messages itself",
	"content-length":    "the gateway frames messages itself",
	"http2-settings":    "the gateway frames messages itself",
}

func checkName(at policy.At, name string, p *policy.Problems) {
	if strings.HasPrefix(name, ":") {
		p.Suggestf(at, policy.CodeValue, "use rewrite: for path and host", "%s is not a header that can be edited", name)
		return
	}
	if err := policy.CheckHeaderName(name); err != nil {
		p.Errorf(at, policy.CodeValue, "%v", err)
		return
	}
	if why, bad := refused[name]; bad {
		p.Suggestf(at, policy.CodeValue, why, "%s is not a header that can be edited", name)
	}
}

// maxValue is what Envoy takes in one header.
const maxValue = 16 << 10

func checkValue(at policy.At, value string, p *policy.Problems) {
	switch {
	case len(value) > maxValue:
		p.Errorf(at, policy.CodeValue, "the value has %d bytes; at most %d are allowed", len(value), maxValue)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		p.Suggestf(at, policy.CodeValue, "write it on one line", "%s: a header's value holds no line breaks and no control characters", at.Path)
	case strings.TrimSpace(value) != value:
		p.Errorf(at, policy.CodeValue, "%s: spaces around a header's value are lost on the way", at.Path)
	}
	if _, err := format(value); err != nil {
		p.Suggestf(at, policy.CodeValue, "one of: "+strings.Join(placeholderNames(), ", ")+"; {{name}} stands for the letters themselves", "%s: %v", at.Path, err)
	}
}

// Join implements feature.Joiner: both hold, and what the nearer says of a header replaces what the farther says.
func (s *Spec) Join(farther feature.Spec) feature.Spec {
	f := farther.(*Spec)
	return &Spec{Request: s.Request.join(f.Request), Response: s.Response.join(f.Response)}
}

func (e Edits) join(farther Edits) Edits {
	out := Edits{Set: map[string]string{}, Add: map[string]Values{}}
	decided := func(name string) bool {
		_, set := e.Set[name]
		return set || slices.Contains(e.Remove, name)
	}
	for name, value := range farther.Set {
		if !decided(name) {
			out.Set[name] = value
		}
	}
	for name, values := range farther.Add {
		if !decided(name) {
			out.Add[name] = values
		}
	}
	for _, name := range farther.Remove {
		if _, set := e.Set[name]; !set && !slices.Contains(e.Remove, name) {
			out.Remove = append(out.Remove, name)
		}
	}
	maps.Copy(out.Set, e.Set)
	for name, values := range e.Add {
		out.Add[name] = slices.Concat(out.Add[name], values)
	}
	out.Remove = append(out.Remove, e.Remove...)
	return out
}
