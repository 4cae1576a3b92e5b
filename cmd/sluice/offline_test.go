package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
)

// updating tells whether go test -update asks for the golden files to be rewritten; featuretest owns the flag.
func updating() bool { return flag.Lookup("update").Value.String() == "true" }

func TestGoldenHelp(t *testing.T) {
	names := []string{""}
	for _, c := range commands(&app{getenv: os.Getenv, features: all.Features()}) {
		names = append(names, c.Name())
	}
	w := newWorld(t)
	for _, name := range names {
		t.Run("sluice "+name, func(t *testing.T) {
			args := []string{"--help"}
			if name != "" {
				args = []string{name, "--help"}
			}
			got := w.run(args...)
			got.wants(t, 0)
			file := filepath.Join("testdata", "help", strings.TrimSuffix("sluice-"+name, "-")+".txt")
			if updating() {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.stdout); d != "" {
				t.Errorf("(-want +got), go test -update rewrites it:\n%s", d)
			}
		})
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	w := newWorld(t)
	w.write("policies/a.yaml", policies(8080, "hello"))
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a command like another", []string{"aply"}, "did you mean sluice apply?"},
		{"the start of a command", []string{"vali"}, "did you mean sluice validate?"},
		{"no command at all", []string{"frobnicate"}, "sluice --help lists them"},
		{"a flag like another", []string{"validate", "--filenam", "x"}, "did you mean --filename?"},
		{"a flag without its value", []string{"validate", "-f"}, "see sluice validate --help"},
		{"a folder without -f", []string{"validate", "policies"}, "did you mean -f policies?"},
		{"a word too many", []string{"version", "x"}, `has "x"`},
		{"no policies", []string{"validate"}, "use -f FILE"},
		{"no such file", []string{"validate", "-f", "none.yaml"}, "none.yaml: there is no such file or folder"},
		{"an output form", []string{"version", "-o", "xml"}, `"xml" is not one of table, json, yaml`},
		{"a type of resources", []string{"translate", "-f", "policies", "--type", "route"}, `"route" is not one of clusters, endpoints`},
		{"a gateway like another", []string{"translate", "-f", "policies", "--gateway", "edg"}, "did you mean edge?"},
		{"too few words", []string{"explain", "GET"}, "wants METHOD and URL, and has 1 words"},
		{"a header", []string{"explain", "GET", "/", "-H", "x", "-f", "policies"}, `is not "name: value"`},
		{"a header's name", []string{"explain", "GET", "/", "-H", "a b: c", "-f", "policies"}, `is not a header name`},
		{"a label", []string{"bootstrap", "--gateway", "edge", "--label", "x"}, "is not key=value"},
		{"no gateway", []string{"bootstrap"}, "--gateway is missing"},
		{"a heap", []string{"bootstrap", "--gateway", "edge", "--max-heap", "5"}, "has no unit"},
		{"a far admin page", []string{"bootstrap", "--gateway", "edge", "--admin", "10.0.0.1:1"}, "must be on loopback"},
		{"a kind like another", []string{"get", "rout"}, "did you mean Route?"},
		{"no name", []string{"why", "Route"}, "is not KIND/NAME"},
		{"no revision", []string{"rollback", "last"}, "is not a revision"},
		{"a server", []string{"envoys", "--server", "ftp://x"}, "write http://127.0.0.1:18080"},
		{"a server that is not there", []string{"envoys", "--server", "127.0.0.1:1"}, "start one with `sluice serve`"},
		{"a plan that is none", []string{"apply", "--plan", "policies/a.yaml"}, "is no plan"},
		{"a plan and files", []string{"apply", "--plan", "x", "-f", "policies"}, "plan"},
		{"a folder for dev", []string{"dev", "policies/a.yaml"}, "is no folder"},
		{"a log level", []string{"serve", "--log-level", "loud"}, "is not one of debug"},
		{"an open door", []string{"serve", "--store", "s.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", "0.0.0.0:18080"}, "callers do not have to prove themselves"},
		{"a store in no folder", []string{"serve", "--store", "none/s.db"}, "make the folder first"},
		{"an Envoy that is not there", []string{"validate", "-f", "policies", "--envoy", "none"}, "--envoy: "},
	} {
		t.Run(c.name, func(t *testing.T) { w.run(c.args...).wants(t, 1, "error: ", c.want) })
	}
}

func TestValidate(t *testing.T) {
	w := newWorld(t)
	w.write("good/a.yaml", policies(8080, "hello"))
	w.write("good/compose.yaml", "services: {}\n")
	w.write("bad/a.yaml", policies(8080, "hello")+"---\napiVersion: sluice/v1\nkind: Route\nmetadata: {name: b}\nspec: {match: /b, tu: x}\n")
	t.Run("without an Envoy", func(t *testing.T) {
		w.run("validate", "-f", "good").wants(t, 0, "2 objects in 2 files, 1 document of other systems skipped", "unproven: no Envoy binary found")
		w.run("validate", "-f", "good", "--strict").wants(t, 1, "which --strict refuses")
	})
	t.Run("with an Envoy", func(t *testing.T) {
		e := w.withEnvoy()
		e.run("validate", "-f", "good", "--strict").wants(t, 0, "proven by envoy 1.40.0")
		e.run("validate", "-f", "bad").wants(t, 1, "a.yaml:14:", "did you mean to?", "unknown-field", "2 errors")
		e.runIn(policies(8080, "hello"), "validate", "-f", "-").wants(t, 0, "proven")
		e.run("validate", "-f", "good", "-f", "bad").wants(t, 1, "already defined")
	})
	t.Run("as JSON", func(t *testing.T) {
		got := w.run("validate", "-f", "bad", "-o", "json")
		got.wants(t, 1)
		var v validation
		if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || len(v.Problems) != 2 || v.Problems[0].Line != 14 {
			t.Errorf("%v %+v", err, v)
		}
	})
}

func TestAnEnvoyRefusesWhatCompiles(t *testing.T) {
	w := newWorld(t).withEnvoy()
	// An extension that this Envoy does not have: nobody but Envoy knows.
	w.write("p/a.yaml", policies(8080, "hello")+`---
apiVersion: sluice/v1
kind: Service
metadata: {name: s}
spec:
  endpoints: [127.0.0.1:1]
  envoy: {transport_socket: {name: nothing}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: s}
spec: {match: /s, to: s}
`)
	w.run("validate", "-f", "p").wants(t, 1, "a.yaml:10:1: error: Envoy refuses s", "refused-by-envoy", "refused: envoy refuses it")
}

func TestTranslate(t *testing.T) {
	w := newWorld(t)
	w.write("p/a.yaml", policies(8080, "hello"))
	got := w.run("translate", "-f", "p", "-o", "json")
	got.wants(t, 0)
	var out map[string]map[string][]map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatal(err)
	}
	if out["edge"]["routes"][0]["name"] != "edge" || out["edge"]["listeners"][0]["name"] != "edge/http" {
		t.Errorf("%v", out)
	}
	w.run("translate", "-f", "p", "--type", "listeners").wants(t, 0, "name: edge/http")
	if yaml := w.run("translate", "-f", "p", "--type", "listeners").stdout; strings.Contains(yaml, "routes:") {
		t.Errorf("other types too:\n%s", yaml)
	}
}

func TestExplainOnFiles(t *testing.T) {
	w := newWorld(t)
	w.write("p/a.yaml", policies(8080, "hello"))
	w.run("explain", "get", "http://x/./hello", "-f", "p").wants(t, 0, "GET x/hello", "hello/hello  (a.yaml:9)", "direct", "route")
	w.run("explain", "POST", "/hello", "-f", "p").wants(t, 0, "405 Method Not Allowed", "allow     GET")
	w.run("explain", "GET", "/none", "-f", "p").wants(t, 0, "404 Not Found")
	got := w.run("explain", "GET", "/hello", "-f", "p", "-o", "json")
	if !json.Valid([]byte(got.stdout)) || !strings.Contains(got.stdout, `"origin": "a.yaml:9"`) {
		t.Errorf("%s", got.stdout)
	}
}

func TestSchemaBootstrapVersionCompletion(t *testing.T) {
	w := newWorld(t)
	got := w.run("schema")
	got.wants(t, 0, `"apiVersion"`, `"Route"`)
	if !json.Valid([]byte(got.stdout)) {
		t.Error("no JSON")
	}
	w.run("bootstrap", "--gateway", "edge", "--node", "n1", "--label", "zone=a", "--max-heap", "1GiB").wants(t, 0, `cluster: "edge"`, `id: "n1"`, `"zone":"a"`)
	w.run("version").wants(t, 0, "sluice ", "for envoy 1.40.0")
	w.run("version", "-o", "json").wants(t, 0, `"envoy": "1.40.0"`)
	w.run("completion", "bash").wants(t, 0, "complete")
	if got := w.run("__complete", "translate", "--type", ""); !strings.Contains(got.stdout, "clusters") {
		t.Errorf("completion of --type:\n%s", got.stdout)
	}
}

func TestSettings(t *testing.T) {
	w := newWorld(t)
	file := w.write("config.yaml", "output: yaml\n")
	named := w.with("SLUICE_CONFIG=" + file)
	named.run("version").wants(t, 0, "envoy: 1.40.0\n")
	named.with("SLUICE_OUTPUT=json").run("version").wants(t, 0, `"envoy": "1.40.0"`)
	named.with("SLUICE_OUTPUT=json").run("version", "-o", "table").wants(t, 0, "for envoy 1.40.0")
	w.with("SLUICE_OUTPUT=xml").run("version").wants(t, 1, `SLUICE_OUTPUT: "xml" is not one of`)
	w.write("config.yaml", "output: yaml\nsever: x\n")
	named.run("version").wants(t, 1, "config.yaml:2:1: ", "did you mean server?")
	w.write("config.yaml", "output: [\n")
	named.run("version").wants(t, 1, "config.yaml:")
	w.with("SLUICE_CONFIG=none.yaml").run("version").wants(t, 1, "none.yaml")
	w.write(".config/sluice/config.yaml", "output: json\n")
	w.run("version").wants(t, 0, `"envoy": "1.40.0"`)
	w.with("SLUICE_SERVER=127.0.0.1:1").run("envoys").wants(t, 1, "127.0.0.1:1: no sluice answers there")
}

// envoyOf writes a stand-in that only tells its version and otherwise is the real one.
func (w *world) envoyOf(version, real string) string {
	file := w.write("envoy-"+version, "#!/bin/sh\ncase \"$1\" in --version) echo \"envoy  version: abc/"+version+"/Clean/RELEASE/BoringSSL\";; *) exec "+real+" \"$@\";; esac\n")
	if err := os.Chmod(file, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return file
}

func TestEnvoysOfOtherVersions(t *testing.T) {
	w := newWorld(t)
	w.write("p/a.yaml", policies(8080, "hello"))
	real := slices.DeleteFunc(w.withEnvoy().env, func(s string) bool { return !strings.HasPrefix(s, "SLUICE_ENVOY=") })[0]
	real = strings.TrimPrefix(real, "SLUICE_ENVOY=")
	w.run("validate", "-f", "p", "--envoy", w.envoyOf("1.30.1", real)).wants(t, 1, "too old", "--envoy")
	w.run("validate", "-f", "p", "--envoy", w.envoyOf("1.45.0", real)).wants(t, 0, "warning:", "untested", "proven by envoy 1.45.0")
	w.run("dev", "p").wants(t, 1, "no Envoy binary found", "--no-envoy", "make tools")
}

func FuzzSettingsAndWords(f *testing.F) {
	for _, seed := range []string{"output: json", "a=b", "x-a: b", "Route/a", "GET /x", "sever: x", "{", "- a"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	file := filepath.Join(dir, "config.yaml")
	a := &app{getenv: func(name string) string { return map[string]string{"SLUICE_CONFIG": file}[name] }, features: all.Features()}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.readSettings(); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
		if headers, err := parseHeaders([]string{text}); err == nil && len(headers) != 1 {
			t.Errorf("%q becomes %v", text, headers)
		}
		if labels, err := parseLabels([]string{text}); err == nil && len(labels) != 1 {
			t.Errorf("%q becomes %v", text, labels)
		}
		if ref, err := a.ref(text); err == nil && (ref.Kind == "" || ref.Name == "") {
			t.Errorf("%q becomes %v", text, ref)
		}
	})
}
