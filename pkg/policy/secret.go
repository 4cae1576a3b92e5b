package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// Secret says where the control plane has a secret: in a file or a variable of its machine, or in its store. The secret
// itself never stands in a document, and whoever sends the document does not read it.
type Secret struct {
	File   string     `json:"file,omitempty"`
	Env    string     `json:"env,omitempty"`
	Secret SecretName `json:"secret,omitempty"`
}

// secretForm is the only way to write one.
const secretForm = "write {file: /etc/sluice/edge.key} or {env: EDGE_KEY}, a file or a variable of the machine where sluice serve runs, " +
	"or {secret: edge-key}, which sluice secrets set has put into its store"

// UnmarshalNode reads it. Its Problems show neither the source nor the value: a secret may stand there by mistake.
func (s *Secret) UnmarshalNode(at At, p *Problems) {
	refuse := func(at At, code Code, message string) {
		problem := at.problem(Error, code, secretForm, at.Path+message)
		problem.hides = lines(at.Node)
		p.Add(problem)
	}
	if at.Node.Kind != Map {
		refuse(at, CodeValue, " stands in the document itself; only where it is may stand there")
		return
	}
	for _, f := range at.Node.Fields {
		here := at.Field(f.Key)
		switch {
		case !slices.Contains([]string{"file", "env", "secret"}, f.Key):
			refuse(at, CodeField, " has none of the fields file, env and secret alone")
		case here.Node.Kind != Scalar || here.Node.Value == "" || strings.ContainsAny(here.Node.Value, "\n\x00"):
			refuse(here, CodeValue, " is not a name")
		case f.Key == "env":
			s.Env = here.Node.Value
		case f.Key == "secret":
			s.Secret.UnmarshalNode(here, p)
		case !path.IsAbs(here.Node.Value):
			refuse(here, CodeValue, " is not a whole path, from / on: nobody knows in which folder sluice serve was started")
		default:
			s.File = path.Clean(here.Node.Value)
		}
	}
	if len(at.Node.Fields) != 1 {
		refuse(at, CodeRequired, " needs one of file, env and secret")
	}
}

// lines is how many lines a node takes at most.
func lines(n *Node) int {
	if n == nil {
		return 1
	}
	return lastLine(n) - n.Line + 1
}

func lastLine(n *Node) int {
	last := n.Line
	if strings.Contains(n.Value, "\n") {
		last += strings.Count(n.Value, "\n") + 1 // a block begins on the next line
	}
	for _, f := range n.Fields {
		last = max(last, lastLine(f.Value))
	}
	for _, item := range n.Items {
		last = max(last, lastLine(item))
	}
	return last
}

// IsZero tells whether it names nothing.
func (s Secret) IsZero() bool { return s == Secret{} }

// String is where it is, as people read it.
func (s Secret) String() string {
	switch {
	case s.Env != "":
		return "$" + s.Env
	case s.Secret != "":
		return "secret " + string(s.Secret)
	}
	return s.File
}

// JSONSchema describes it.
func (Secret) JSONSchema() *jsonschema.Schema {
	file := inlineSchema(struct {
		File string `json:"file" jsonschema:"required,pattern=^/" jsonschema_description:"A file of the machine where sluice serve runs, by its whole path."`
	}{})
	env := inlineSchema(struct {
		Env string `json:"env" jsonschema:"required" jsonschema_description:"A variable of sluice serve's environment."`
	}{})
	secret := inlineSchema(struct {
		Secret SecretName `json:"secret" jsonschema:"required" jsonschema_description:"A secret of the store, by the name that sluice secrets set gave it."`
	}{})
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{file, env, secret}}
}
