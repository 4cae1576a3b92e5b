// Package envoy merges raw Envoy fields into what Sluice makes: the expert's way out, where the language has no word.
package envoy

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `envoy`.
type Feature struct{}

const name = "envoy"

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: name, Stage: feature.StageRaw, On: feature.Rule | feature.Service | feature.Gateway,
		Summary: "Raw Envoy fields, merged into the route, the cluster or the listener as the last step."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block: a mapping of Envoy's own fields. What they may be depends on where it stands.
type Spec struct {
	json json.RawMessage
}

// UnmarshalNode keeps any mapping as it is.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind != policy.Map {
		p.Suggestf(at, policy.CodeType, "write the fields of the Envoy resource below it", "%s is %s; a mapping is wanted", at.Path, at.Node.Kind)
		return
	}
	raw, err := json.Marshal(value(at.Node))
	if err != nil {
		p.Errorf(at, policy.CodeValue, "%s: %v", at.Path, err)
		return
	}
	s.json = raw
}

// value is a node as encoding/json takes it.
func value(n *policy.Node) any {
	switch n.Kind {
	case policy.Map:
		out := make(map[string]any, len(n.Fields))
		for _, f := range n.Fields {
			out[f.Key] = value(f.Value)
		}
		return out
	case policy.List:
		out := make([]any, len(n.Items))
		for i, item := range n.Items {
			out[i] = value(item)
		}
		return out
	case policy.Scalar:
		return scalar(n)
	}
	return nil
}

// scalar reads numbers and truth values as JSON does, and anything else as text.
func scalar(n *policy.Node) any {
	switch n.Tag {
	case "!!bool":
		if b, err := strconv.ParseBool(n.Value); err == nil {
			return b
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i
		}
	}
	return n.Value
}

// MarshalJSON is the block as it is.
func (s *Spec) MarshalJSON() ([]byte, error) {
	if len(s.json) == 0 {
		return []byte("{}"), nil
	}
	return s.json, nil
}

// UnmarshalJSON keeps the block as it is.
func (s *Spec) UnmarshalJSON(b []byte) error {
	s.json = bytes.Clone(b)
	return nil
}

// JSONSchema describes any mapping.
func (Spec) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", Description: "Fields of Envoy's Route, Cluster or, on a Gateway, {listener, connectionManager}."}
}
