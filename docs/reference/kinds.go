package reference

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/schema"
)

// kinds describes every kind, and every block.
func kinds(features feature.Set) string {
	doc := schema.Document(features)
	var b strings.Builder
	b.WriteString("# Kinds\n\n" + generated + `
Every document has four fields: ` + "`apiVersion: sluice/v1`, `kind`, `metadata: {name: …}` and `spec`" + `. A file may hold several,
with ` + "`---`" + ` between them. Below are the fields of each kind's spec, and then of the blocks that may stand in them.
Editors complete and check them with [sluice.schema.json](sluice.schema.json).

`)
	for _, kind := range kindNames(doc) {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", kind, strings.ToLower(kind), doc.Definitions[kind].Description)
	}
	for _, kind := range kindNames(doc) {
		section(&b, "## "+kind, doc.Definitions[kind])
	}
	b.WriteString("\n# Blocks\n")
	for _, name := range names(features) {
		f, _ := features.Get(name)
		section(&b, "## "+name, doc.Definitions["block."+name])
		fmt.Fprintf(&b, "\nStands on: %s. More: [%s](../../pkg/feature/%s/README.md).\n", places(f), name, strings.ToLower(name))
	}
	return b.String()
}

func kindNames(doc *jsonschema.Schema) []string {
	var out []string
	for name := range doc.Definitions {
		if !strings.HasPrefix(name, "block.") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// section is one kind or block: its summary, the forms it has, its fields.
func section(b *strings.Builder, heading string, s *jsonschema.Schema) {
	fmt.Fprintf(b, "\n%s\n\n%s\n", heading, s.Description)
	if s.Type != "object" {
		fmt.Fprintf(b, "\nIt is %s.\n", kindOf(s))
	}
	t := table{seen: map[string]string{}}
	t.fields("", s)
	if len(t.rows) > 0 {
		b.WriteString("\n| field | value | meaning |\n|---|---|---|\n" + strings.Join(t.rows, ""))
	}
	if blocks := t.blocks; len(blocks) > 0 {
		slices.Sort(blocks)
		blocks = slices.Compact(blocks)
		for i, name := range blocks {
			blocks[i] = fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
		}
		fmt.Fprintf(b, "\nBlocks: %s.\n", strings.Join(blocks, ", "))
	}
}

const blockRef = "#/$defs/block."

// table gathers the rows of one section.
type table struct {
	rows   []string
	blocks []string
	seen   map[string]string // a mapping's schema: the field that described it first
}

// fields adds the rows of a mapping's fields, those of mappings in it below their own, and the blocks among them. Of a
// list and a single one of the same, only the single one is described.
func (t *table) fields(prefix string, s *jsonschema.Schema) {
	described := false
	for _, form := range forms(s) {
		switch {
		case form.Items != nil && !described:
			t.fields(prefix+"[]", form.Items)
		case isOpen(form):
			t.fields(prefix+".*", form.AdditionalProperties)
		}
		for p := form.Properties.Oldest(); p != nil; p = p.Next() {
			described = true
			t.field(prefix, p.Key, p.Value, slices.Contains(form.Required, p.Key))
		}
	}
}

func (t *table) field(prefix, key string, s *jsonschema.Schema, required bool) {
	if name, ok := strings.CutPrefix(s.Ref, blockRef); ok {
		t.blocks = append(t.blocks, name)
		return
	}
	name := strings.TrimPrefix(prefix+"."+key, ".")
	meaning := cell(s.Description)
	if required {
		meaning = strings.TrimSpace(meaning + " Required.")
	}
	again := t.again(name, s)
	if again != "" {
		meaning += " Its fields are those of `" + again + "`."
	}
	t.rows = append(t.rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, strings.ReplaceAll(kindOf(s), "|", "\\|"), meaning))
	if again == "" {
		t.fields(name, s)
	}
}

// again is the field that described the same fields already, "" when there is none.
func (t *table) again(name string, s *jsonschema.Schema) string {
	if len(forms(s)) == 0 {
		return ""
	}
	shape := *s
	shape.Description = ""
	text, err := json.Marshal(&shape)
	if err != nil || kindOf(s) == "list of string" || kindOf(s) == "mapping of name to string" {
		return ""
	}
	first := t.seen[string(text)]
	if first == "" {
		t.seen[string(text)] = name
	}
	return first
}

// isOpen tells whether a mapping takes names that are not listed.
func isOpen(s *jsonschema.Schema) bool {
	return s.AdditionalProperties != nil && s.AdditionalProperties != jsonschema.FalseSchema
}

// forms are the ways to write a value that hold fields of their own, seen through lists of alternatives.
func forms(s *jsonschema.Schema) []*jsonschema.Schema {
	if len(s.OneOf) == 0 {
		if s.Properties == nil && s.Items == nil && s.AdditionalProperties == nil {
			return nil
		}
		return []*jsonschema.Schema{s}
	}
	var out []*jsonschema.Schema
	for _, one := range s.OneOf {
		out = append(out, forms(one)...)
	}
	return out
}

// kindOf says in words what a value is.
func kindOf(s *jsonschema.Schema) string {
	if len(s.OneOf) > 0 {
		var out []string
		for _, one := range s.OneOf {
			if text := kindOf(one); !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
		return strings.Join(out, ", or ")
	}
	switch {
	case len(s.Enum) > 0:
		return words(s.Enum)
	case s.Type == "array":
		return "list of " + kindOf(s.Items)
	case s.Type == "object" && isOpen(s):
		return "mapping of name to " + kindOf(s.AdditionalProperties)
	case s.Type == "object":
		return "mapping"
	case len(s.Examples) > 0:
		return "text like " + words(s.Examples)
	}
	return s.Type + bounds(s)
}

func words(list []any) string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprintf("`%v`", v))
	}
	return strings.Join(out, ", ")
}

// bounds are what a number may be.
func bounds(s *jsonschema.Schema) string {
	low, high := number(s.Minimum), number(s.Maximum)
	switch {
	case low != "" && high != "":
		return ", " + low + " to " + high
	case low != "":
		return ", at least " + low
	case high != "":
		return ", at most " + high
	}
	return ""
}

func number(n json.Number) string { return n.String() }
