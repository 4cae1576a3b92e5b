package schema_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonschema "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/schema"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(schema.Document(all.Features()))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sluice.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sluice.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var tree any
	if err := yaml.Load([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

func TestSaysWhatTheDecoderSays(t *testing.T) {
	s := compiled(t)
	document := func(kind, spec string) string {
		return "apiVersion: sluice/v1\nkind: " + kind + "\nmetadata: {name: a}\nspec: " + spec + "\n"
	}
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"gateway", document("Gateway", "{listeners: [{name: http, port: 8080}], use: [p], direct: {status: 204}}"), true},
		{"gateway without listeners", document("Gateway", "{}"), false},
		{"port too large", document("Gateway", "{listeners: [{name: http, port: 65536}]}"), false},
		{"service", document("Service", "{endpoints: ['127.0.0.1:1', {address: '127.0.0.1:2', weight: 2}], timeout: 2s}"), true},
		{"block that may not stand on a service", document("Service", "{dns: 'a:1', direct: {}}"), false},
		{"route with rules", document("Route", "{rules: [{match: GET /a, to: b, timeout: {request: 1s}}], timeout: 1s}"), true},
		{"weights", document("Route", "{match: [{prefix: /a, headers: {x: 1, y: {present: true}}}], to: [{service: a, weight: 0}, {service: b}]}"), true},
		{"content from a file", document("Route", "{direct: {body: {file: a.txt}}}"), true},
		{"unknown field of a rule", document("Route", "{rules: [{mach: /a}]}"), false},
		{"unknown field of a block", document("Route", "{direct: {state: 200}}"), false},
		{"duration without unit", document("Route", "{to: a, timeout: '2'}"), false},
		{"policy", document("Policy", "{timeout: 1s}"), true},
		{"unknown kind", document("Rout", "{}"), false},
		{"other version", strings.Replace(document("Policy", "{}"), "v1", "v2", 1), false},
		{"bad name", strings.Replace(document("Policy", "{}"), "name: a", "name: A_b", 1), false},
		{"no spec", "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: a}\n", false},
		{"further field", document("Policy", "{}") + "status: {}\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := validate(t, s, c.text)
			if (err == nil) != c.ok {
				t.Errorf("schema: %v", err)
			}
			if got := decodes(c.text); got != c.ok {
				t.Errorf("the decoder takes it: %t", got)
			}
		})
	}
}

// decodes tells whether a document by itself is right; names that lead nowhere do not count.
func decodes(text string) bool {
	var p policy.Problems
	objects, _ := policy.Split("a.yaml", text, "", &p)
	for i := range objects {
		objects[i].Content = map[string]string{"a.txt": ""}
	}
	_, compiled := compile.New(all.Features()).Compile(objects)
	p.Join(*compiled)
	for _, problem := range p.List() {
		switch problem.Code {
		case policy.CodeReference:
		default:
			return false
		}
	}
	return true
}

func TestExamplesFollowIt(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p policy.Problems
		objects, _ := policy.Split(file, string(text), "", &p)
		for _, o := range objects {
			if err := validate(t, s, o.Text); err != nil {
				t.Errorf("%s:%d %s: %v", file, o.Line, o.Ref, err)
			}
		}
	}
}
