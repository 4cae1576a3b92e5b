package policy

import (
	"encoding/json"
	"path"
	"strings"

	"github.com/invopop/jsonschema"
)

// Content is text that a document holds itself, or names as {file: NAME}: relative to the document, never above the
// folder that is applied. Whoever sends the document sends the file's text along, in Object.Content.
type Content struct {
	Text string
	File string // as written; "" when the text stood in the document
}

// UnmarshalNode reads either form.
func (c *Content) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind == Scalar {
		c.Text = at.Node.Value
		return
	}
	var ref struct {
		File string `json:"file" jsonschema:"required"`
	}
	Decode(at, &ref, p)
	if ref.File == "" || at.doc == nil {
		return
	}
	c.File = ref.File
	if !ContentName(at.doc.File, ref.File) {
		p.Suggestf(at.Field("file"), CodeContent, "put it beside the document or below", "%q is not below the folder that is applied", ref.File)
		return
	}
	at.doc.wanted = append(at.doc.wanted, ref.File)
	text, ok := at.doc.Content[ref.File]
	if !ok {
		p.Suggestf(at.Field("file"), CodeContent, "the path is relative to "+at.doc.File, "the file %q could not be read", ref.File)
		return
	}
	c.Text = text
}

// ContentName tells whether a document may name a file: it must stay below the folder that is applied.
func ContentName(document, name string) bool {
	full := path.Join(path.Dir(document), name)
	return name != "" && !path.IsAbs(name) && full != ".." && !strings.HasPrefix(full, "../")
}

// MarshalJSON writes the text: where it came from does not matter to whoever uses it.
func (c Content) MarshalJSON() ([]byte, error) { return json.Marshal(c.Text) }

// JSONSchema describes both forms.
func (Content) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, inlineSchema(struct {
		File string `json:"file" jsonschema:"required" jsonschema_description:"A file, relative to the document."`
	}{})}}
}
