package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// TestPoliciesOfPagesAreWhatTheySay compiles every YAML block of every page and shows it to the real Envoy; one marked
// `bad` must not compile. A block marked `fragment`, or without documents, must be as the JSON Schema says.
func TestPoliciesOfPagesAreWhatTheySay(t *testing.T) {
	whole, parts := compileSchema(t, ""), map[string]*jsonschema.Schema{}
	for _, f := range all.Features().All() {
		parts[f.Info().Name] = compileSchema(t, "#/$defs/block."+f.Info().Name)
	}
	for page, text := range pages(t) {
		for _, b := range blocks(text) {
			if b.language != "yaml" {
				continue
			}
			t.Run(fmt.Sprintf("%s:%d", page, b.line), func(t *testing.T) {
				t.Parallel()
				files := map[string]string{"policy.yaml": b.text}
				if strings.HasPrefix(page, "pkg/feature/") {
					surround(t, files)
				}
				switch {
				case b.is("fragment") || !strings.Contains(files["policy.yaml"], "apiVersion:"):
					checkFragment(t, b.text, parts)
				case b.is("bad"):
					if c := featuretest.Translate(t, all.Features(), files); !c.Problems.Failed() {
						t.Error("the page says that this is wrong, but it compiles")
					}
				default:
					checkPolicy(t, files, whole)
				}
			})
		}
	}
}

// checkPolicy compiles a set of documents, and shows what they become to the real Envoy.
func checkPolicy(t *testing.T, files map[string]string, schema *jsonschema.Schema) {
	t.Helper()
	for _, document := range documents(t, files["policy.yaml"]) {
		if err := schema.Validate(document); err != nil {
			t.Errorf("the JSON Schema: %v", err)
		}
	}
	c := featuretest.Translate(t, all.Features(), files)
	if problems := c.Problems.Render(); problems != "" {
		t.Fatalf("problems:\n%s", problems)
	}
	featuretest.Prove(t, c.Snapshots)
}

// missing is a name in a Problem that says there is no such object.
var missing = regexp.MustCompile(`there is no (Service|Gateway|Policy) "([^"]+)"`)

// header is where a document of a feature's page starts, which may leave out what all documents have in common.
var header = regexp.MustCompile(`(?m)^kind: (\w+)\n(metadata:)?`)

// surround completes what the page of a feature leaves out: the head of documents, the gateway, its listeners, the
// services.
func surround(t *testing.T, files map[string]string) {
	t.Helper()
	text := files["policy.yaml"]
	if !strings.Contains(text, "apiVersion:") {
		text = header.ReplaceAllStringFunc(text, func(head string) string {
			if !strings.HasSuffix(head, "metadata:") {
				head += "metadata: {name: example}\n"
			}
			return "apiVersion: " + policy.APIVersion + "\n" + head
		})
	}
	files["policy.yaml"] = text
	if !strings.Contains(text, "apiVersion:") {
		return
	}
	if !strings.Contains(text, "kind: Gateway") {
		files["edge.yaml"] = "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: 8080}]}\n"
	}
	c := featuretest.Translate(t, all.Features(), files)
	if strings.Contains(c.Problems.Render(), "spec.listeners is missing") {
		files["policy.yaml"] = strings.Replace(text, "\nspec:\n", "\nspec:\n  listeners: [{name: http, port: 8080}]\n", 1)
	}
	for _, m := range missing.FindAllStringSubmatch(c.Problems.Render(), -1) {
		spec := map[string]string{"Service": "{endpoints: [\"127.0.0.1:9001\"]}", "Gateway": "{listeners: [{name: http, port: 8080}]}", "Policy": "{}"}[m[1]]
		files[m[1]+m[2]+".yaml"] = fmt.Sprintf("apiVersion: sluice/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", m[1], m[2], spec)
	}
}

// key is where a field at the top of a fragment starts.
var key = regexp.MustCompile(`(?m)^[a-zA-Z]`)

// checkFragment holds a mapping's blocks against their schemas, each by itself: a fragment may show one block in
// several forms.
func checkFragment(t *testing.T, text string, parts map[string]*jsonschema.Schema) {
	t.Helper()
	starts := append(key.FindAllStringIndex(text, -1), []int{len(text)})
	for i := range len(starts) - 1 {
		for _, document := range documents(t, text[starts[i][0]:starts[i+1][0]]) {
			fields, _ := document.(map[string]any)
			if spec, ok := fields["spec"].(map[string]any); ok {
				fields = spec
			}
			for name, value := range fields {
				if schema := parts[name]; schema != nil {
					if err := schema.Validate(value); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
}

// documents are a file's documents as the schema's validator takes them.
func documents(t *testing.T, text string) (out []any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var tree any
		if err := d.Decode(&tree); err != nil {
			if err.Error() != "EOF" {
				t.Fatalf("not YAML: %v", err)
			}
			return out
		}
		body, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, value)
	}
}

// noNetwork is a loader that loads nothing: the schema stands alone.
type noNetwork struct{}

func (noNetwork) Load(url string) (any, error) {
	return nil, fmt.Errorf("the schema refers to %s", url)
}

// compileSchema compiles docs/reference/sluice.schema.json, or a part of it.
func compileSchema(t *testing.T, part string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("reference/sluice.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noNetwork{})
	if err := c.AddResource("sluice.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sluice.schema.json" + part)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExampleFilesAreValid holds every policy of the repository that users copy against the schema that editors use.
func TestExampleFilesAreValid(t *testing.T) {
	schema := compileSchema(t, "")
	for _, pattern := range []string{"../examples/*/*.yaml", "../policies/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(text), "\n")
			target, ok := strings.CutPrefix(first, "# yaml-language-server: $schema=")
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); !ok || err != nil {
				t.Errorf("%s: the first line %q is not the modeline that leads editors to the schema (%v)", file, first, err)
			}
			for _, document := range documents(t, string(text)) {
				if err := schema.Validate(document); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t, "")
	for _, c := range []struct{ name, text string }{
		{"no kind", "apiVersion: sluice/v1\nmetadata: {name: a}\nspec: {}\n"},
		{"another version", "apiVersion: sluice/v2\nkind: Policy\nmetadata: {name: a}\nspec: {}\n"},
		{"a name in capitals", "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: A}\nspec: {}\n"},
		{"a port that is none", "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {listeners: [{name: http, port: 0}]}\n"},
		{"a misspelt block", "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: a}\nspec: {timeuot: 2s}\n"},
		{"a time without unit", "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: a}\nspec: {timeout: 2}\n"},
		{"a block on the wrong kind", "apiVersion: sluice/v1\nkind: Service\nmetadata: {name: a}\nspec: {dns: \"a:1\", cors: {origins: [\"*\"]}}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, document := range documents(t, c.text) {
				if schema.Validate(document) == nil {
					t.Errorf("the schema takes\n%s", c.text)
				}
			}
		})
	}
}
