package authorize

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Words is a list of which all are needed, or several of which one is.
type Words struct {
	All   []string `json:"all,omitempty" jsonschema_description:"All are needed."`
	AnyOf []string `json:"anyOf,omitempty" jsonschema_description:"One is needed."`
}

// IsZero tells whether nothing is needed.
func (w Words) IsZero() bool { return len(w.All)+len(w.AnyOf) == 0 }

// UnmarshalNode reads a list, a single word, or the long form.
func (w *Words) UnmarshalNode(at policy.At, p *policy.Problems) {
	switch at.Node.Kind {
	case policy.Scalar:
		w.All = []string{at.Node.Value}
	case policy.List:
		policy.Decode(at, &w.All, p)
	default:
		type plain Words
		policy.Decode(at, (*plain)(w), p)
	}
	if w.IsZero() || slices.Contains(w.All, "") || slices.Contains(w.AnyOf, "") {
		p.Suggestf(at, policy.CodeValue, "name what is needed, or leave the field out", "%s is empty, or holds an empty word", at.Path)
	}
}

// MarshalJSON writes a list where all are needed.
func (w Words) MarshalJSON() ([]byte, error) {
	if len(w.AnyOf) == 0 {
		return json.Marshal(w.All)
	}
	type plain Words
	return json.Marshal(plain(w))
}

// UnmarshalJSON reads what MarshalJSON writes, strictly.
func (w *Words) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		return json.Unmarshal(b, &w.All)
	}
	type plain Words
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(w))
}

// JSONSchema describes all forms.
func (Words) JSONSchema() *jsonschema.Schema {
	type plain Words
	word := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}, policy.TypeSchema(plain{})}}
}

// metBy tells whether a caller who has these words has those that are needed.
func (w Words) metBy(has []string) bool {
	for _, needed := range w.All {
		if !slices.Contains(has, needed) {
			return false
		}
	}
	return len(w.AnyOf) == 0 || slices.ContainsFunc(w.AnyOf, func(one string) bool { return slices.Contains(has, one) })
}

var (
	_ policy.Unmarshaler = (*Words)(nil)
	_ json.Marshaler     = Words{}
	_ json.Unmarshaler   = (*Words)(nil)
)
