package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// document is what these tests read of a policy; its whole syntax is Sluice's to check.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec map[string]any `yaml:"spec"`
}

func policies(t *testing.T) []document {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies found: %v", err)
	}
	var all []document
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(content, []byte("# yaml-language-server: $schema=../../docs/reference/sluice.schema.json\n")) {
			t.Errorf("%s does not start with the modeline that editors read", file)
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
			var d document
			if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if d.APIVersion != "sluice/v1" || d.Metadata.Name == "" {
				t.Errorf("%s: a document without apiVersion or name: %+v", file, d)
			}
			all = append(all, d)
		}
	}
	return all
}

// TestServicesNameEveryInstance holds the endpoints of the policies against the ports of the program.
func TestServicesNameEveryInstance(t *testing.T) {
	named := map[string][]string{}
	for _, d := range policies(t) {
		if d.Kind != "Service" {
			continue
		}
		for _, e := range d.Spec["endpoints"].([]any) {
			if long, ok := e.(map[string]any); ok {
				e = long["address"]
			}
			named[d.Metadata.Name] = append(named[d.Metadata.Name], e.(string))
		}
	}
	for _, s := range services() {
		var want []string
		for _, offset := range s.offsets {
			want = append(want, fmt.Sprintf("127.0.0.1:%d", port(9000, offset)))
		}
		if !slices.Equal(named[s.name], want) {
			t.Errorf("service %s: endpoints %v, want %v", s.name, named[s.name], want)
		}
		delete(named, s.name)
	}
	if len(named) > 0 {
		t.Errorf("services that the program does not run: %v", named)
	}
}

// TestRoutesLeadToAnswers sends what each rule matches to the service it names.
func TestRoutesLeadToAnswers(t *testing.T) {
	known := map[string]service{}
	for _, s := range services() {
		known[s.name] = s
	}
	for _, d := range policies(t) {
		if d.Kind != "Route" {
			continue
		}
		rules, ok := d.Spec["rules"].([]any)
		if !ok {
			rules = []any{d.Spec}
		}
		for _, rule := range rules {
			r := rule.(map[string]any)
			method, path, _ := strings.Cut(r["match"].(string), " ")
			s, ok := known[r["to"].(string)]
			if !ok {
				t.Errorf("route %s leads to %v, which is no service", d.Metadata.Name, r["to"])
				continue
			}
			_, body := ask(t, s.handler, method, strings.NewReplacer("{id}", "7", "{sku}", "tiramisu").Replace(path), "")
			if detail, _ := body["detail"].(string); strings.HasPrefix(detail, "nothing here answers") {
				t.Errorf("route %s: %s does not know %s %s", d.Metadata.Name, s.name, method, path)
			}
		}
	}
}

// compose is the part of the compose file format that docker-compose.yml uses; anything else in it is an error.
type compose struct {
	Name     string                    `yaml:"name"`
	Common   composeService            `yaml:"x-sluice"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]map[string]any `yaml:"volumes"`
}

type composeService struct {
	Build       string         `yaml:"build"`
	Image       string         `yaml:"image"`
	NetworkMode string         `yaml:"network_mode"`
	Command     []string       `yaml:"command"`
	Ports       []string       `yaml:"ports"`
	Volumes     []string       `yaml:"volumes"`
	DependsOn   any            `yaml:"depends_on"`
	Healthcheck map[string]any `yaml:"healthcheck"`
	Restart     string         `yaml:"restart"`
}

// dependencies returns the names under depends_on, which is a list or a map.
func (s composeService) dependencies() (names []string) {
	switch d := s.DependsOn.(type) {
	case []any:
		for _, name := range d {
			names = append(names, name.(string))
		}
	case map[string]any:
		for name := range d {
			names = append(names, name)
		}
	}
	return names
}

func readCompose(t *testing.T) compose {
	t.Helper()
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var c compose
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeIsConsistent(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		if s.Build == "" && s.Image == "" {
			t.Errorf("%s has neither build nor image", name)
		}
		if s.Build != "" {
			if _, err := os.Stat(filepath.Join("../..", s.Build, "Dockerfile")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		refers := s.dependencies()
		if other, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
			refers = append(refers, other)
		}
		for _, other := range refers {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s refers to a service %q, which is not there", name, other)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s mounts %q, which is no volume", name, source)
			}
		}
	}
}

// TestComposePublishesTheGateway holds the published ports against the Gateway's listeners, on loopback only.
func TestComposePublishesTheGateway(t *testing.T) {
	var want []string
	for _, d := range policies(t) {
		if d.Kind == "Gateway" {
			for _, l := range d.Spec["listeners"].([]any) {
				p := l.(map[string]any)["port"]
				want = append(want, fmt.Sprintf("127.0.0.1:%v:%v", p, p))
			}
		}
	}
	if got := readCompose(t).Services["food-delivery"].Ports; !slices.Equal(got, want) {
		t.Errorf("published ports %v, want %v", got, want)
	}
}

// TestDockerfileCopiesWhatIsThere checks the files that the image takes from the repository.
func TestDockerfileCopiesWhatIsThere(t *testing.T) {
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	copied := 0
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "COPY" || strings.HasPrefix(fields[1], "--from") {
			continue
		}
		for _, source := range fields[1 : len(fields)-1] {
			copied++
			if found, err := filepath.Glob(filepath.Join("../..", source)); err != nil || len(found) == 0 {
				t.Errorf("%s: nothing there (%v)", source, err)
			}
		}
	}
	if copied == 0 {
		t.Error("the Dockerfile copies nothing")
	}
}
