package policy

import "github.com/invopop/jsonschema"

// IsOff reads the short form of a block that is on by default: the word off. It is false for the long form, which the
// caller decodes; any other word is a Problem and counts as off.
func IsOff(at At, p *Problems) bool {
	if at.Node.Kind != Scalar {
		return false
	}
	if at.Node.Value != "off" {
		p.Suggestf(at, CodeValue, "write off, or a mapping", "%s is %q", at.Path, shorten(at.Node.Value))
	}
	return true
}

// OrOff is the JSON Schema of a block that may be the word off instead.
func OrOff(long any) *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", Enum: []any{"off"}}, TypeSchema(long)}}
}
