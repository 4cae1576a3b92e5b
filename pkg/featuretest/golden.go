// Package featuretest runs a feature's golden cases: policies in, Envoy resources or Problems out, both in one txtar
// file. Every case that compiles is also shown to the real `envoy --mode validate`. For tests only.
package featuretest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

var update = flag.Bool("update", false, "rewrite the want/ sections of golden files")

// Golden runs every testdata/*.txtar beside the test. In a file the sections named *.yaml at the top are the policies,
// others beside them are files that the policies name, and each want/ section that is there is compared:
//
//	want/problems.txt     what is wrong, as people read it
//	want/routes.yaml      the routes, by host, in the order in which they are tried
//	want/clusters.yaml    the clusters
//	want/endpoints.yaml   the endpoints
//	want/listeners.yaml   the listeners
//	want/filters.yaml     the configs of filters that come over ECDS
//
// A case without want/problems.txt must have no Problem at all. `go test -update` rewrites what is wanted.
func Golden(t *testing.T, features feature.Set) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata/*.txtar: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runCase(t, features, file)
		})
	}
}

func runCase(t *testing.T, features feature.Set, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := Translate(t, features, sources(archive))
	got := map[string]string{"want/problems.txt": c.Problems.Render()}
	if !c.Problems.Failed() {
		c.render(t, got)
		Prove(t, c.Snapshots)
	}
	compare(t, file, archive, got)
}

func sources(a *txtar.Archive) map[string]string {
	files := map[string]string{}
	for _, f := range a.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			files[f.Name] = string(f.Data)
		}
	}
	return files
}

// Case is what policies became.
type Case struct {
	Config    *model.Config
	Problems  *policy.Problems
	Snapshots []*snapshot.Snapshot // by gateway; none when there are errors
	features  feature.Set
}

// Translate takes policy files by name, all the way to snapshots.
func Translate(t testing.TB, features feature.Set, files map[string]string) *Case {
	t.Helper()
	problems := &policy.Problems{}
	var objects []policy.Object
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		split, _ := policy.Split(name, text, "test", problems)
		for _, o := range split {
			o.Content = files
			objects = append(objects, o)
		}
	}
	config, compiled := compile.New(features).Compile(objects)
	problems.Join(*compiled)
	c := &Case{Config: config, Problems: problems, features: features}
	if !problems.Failed() {
		c.build(t)
	}
	return c
}

func (c *Case) build(t testing.TB) {
	t.Helper()
	translator := translate.New(c.features)
	for _, g := range c.Config.Gateways {
		resources, err := translator.Translate(g)
		if err != nil {
			t.Fatal(err)
		}
		s := snapshot.Build(resources, nil)
		if err := s.Consistent(); err != nil {
			t.Fatal(err)
		}
		c.Snapshots = append(c.Snapshots, s)
	}
}

// Prove shows snapshots to the real Envoy; the test fails with its reasons when it refuses one.
func Prove(t testing.TB, snapshots []*snapshot.Snapshot) {
	t.Helper()
	p := &proof.Prover{Binary: Envoy(t), Dir: t.TempDir()}
	for _, s := range snapshots {
		faults, err := p.Prove(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			t.Errorf("envoy refuses %s (%s): %s", f.Name, f.Origin, f.Reason)
		}
	}
}

// Envoy is the real Envoy's path. Without one the test is skipped by name, but fails under CI.
func Envoy(t testing.TB) string {
	t.Helper()
	binary, err := envoy.Find("")
	if err == nil {
		return binary
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// render prints what the policies became, section by section.
func (c *Case) render(t *testing.T, got map[string]string) {
	var routes strings.Builder
	translator := translate.New(c.features)
	for _, g := range c.Config.Gateways {
		for _, v := range g.Hosts {
			fmt.Fprintf(&routes, "# %s, host %s\n", g.Name, v.Domain)
			for _, r := range v.Routes {
				some, err := translator.Routes(r)
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range some {
					routes.WriteString(item(t, one))
				}
			}
		}
	}
	got["want/routes.yaml"] = routes.String()
	for section, kind := range map[string]struct {
		url string
		new func() proto.Message
	}{
		"want/clusters.yaml":  {resource.ClusterType, func() proto.Message { return &clusterv3.Cluster{} }},
		"want/endpoints.yaml": {resource.EndpointType, func() proto.Message { return &endpointv3.ClusterLoadAssignment{} }},
		"want/filters.yaml":   {resource.ExtensionConfigType, func() proto.Message { return &corev3.TypedExtensionConfig{} }},
		"want/listeners.yaml": {resource.ListenerType, func() proto.Message { return &listenerv3.Listener{} }},
	} {
		var b strings.Builder
		for _, s := range c.Snapshots {
			table := s.Table(kind.url)
			for _, name := range table.Names() {
				m := kind.new()
				if err := proto.Unmarshal(table.Body(name), m); err != nil {
					t.Fatal(err)
				}
				b.WriteString(item(t, m))
			}
		}
		got[section] = b.String()
	}
}

// endpointsDigest is the part of a cluster's endpoints' name that any change of the cluster moves.
var endpointsDigest = regexp.MustCompile(`@[0-9a-f]{12}\b`)

func item(t *testing.T, m proto.Message) string {
	text, err := translate.YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	text = endpointsDigest.ReplaceAll(text, []byte("@digest"))
	return "- " + strings.TrimSuffix(strings.ReplaceAll(string(text), "\n", "\n  "), "  ")
}

// compare holds each want/ section that the file has against what was got, or rewrites it.
func compare(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	wantsProblems := false
	for i, f := range a.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			continue
		}
		wantsProblems = wantsProblems || f.Name == "want/problems.txt"
		if *update {
			a.Files[i].Data = []byte(got[f.Name])
			continue
		}
		if diff := cmp.Diff(string(f.Data), got[f.Name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if problems := got["want/problems.txt"]; !wantsProblems && problems != "" {
		t.Errorf("unexpected problems:\n%s", problems)
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
