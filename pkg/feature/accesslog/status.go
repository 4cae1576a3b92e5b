package accesslog

import (
	"fmt"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	"github.com/invopop/jsonschema"
)

// Status is a comparison with a response's status: 404, >=400, <=299, !=200.
type Status struct {
	Op    string // "", ">=", "<=" or "!="
	Value uint32
}

// UnmarshalText reads a comparison.
func (s *Status) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	op := ""
	for _, o := range []string{">=", "<=", "!="} {
		if rest, ok := strings.CutPrefix(text, o); ok {
			op, text = o, strings.TrimSpace(rest)
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n < 100 || n > 599 || len(text) != 3 {
		return fmt.Errorf("%q is not a status; write for example 404, >=400 or !=200", b)
	}
	*s = Status{Op: op, Value: uint32(n)}
	return nil
}

// MarshalText writes the comparison as it is read.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.Op + strconv.Itoa(int(s.Value))), nil }

// JSONSchema describes the text form.
func (Status) JSONSchema() *jsonschema.Schema {
	const pattern = `^(>=|<=|!=)? ?[1-5][0-9][0-9]$`
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "string", Pattern: pattern, Examples: []any{">=400"}}, {Type: "integer", Minimum: "100", Maximum: "599"},
	}}
}

func (s Status) op() accesslogv3.ComparisonFilter_Op {
	switch s.Op {
	case ">=":
		return accesslogv3.ComparisonFilter_GE
	case "<=":
		return accesslogv3.ComparisonFilter_LE
	case "!=":
		return accesslogv3.ComparisonFilter_NE
	}
	return accesslogv3.ComparisonFilter_EQ
}
