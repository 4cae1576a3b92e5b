package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// TestReplicas_SiteMoves moves a site from a file to Consul and back, by the program's own commands.
func TestReplicas_SiteMoves(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	file := startServed(t)
	consul := startServed(t, inConsul(a)...)
	back := startServed(t)
	k := &killed{served: file, port: gateway.FreePort(t), address: "127.0.0.1:9001"}
	for n := range 5 {
		k.pushInPeace(n)
	}
	first := filepath.Join(t.TempDir(), "first.jsonl")
	second := filepath.Join(t.TempDir(), "second.jsonl")
	third := filepath.Join(t.TempDir(), "third.jsonl")
	for _, step := range []struct {
		at   *served
		args []string
	}{
		{file, []string{"export", first}}, {consul, []string{"import", first}}, {consul, []string{"export", second}},
		{back, []string{"import", second}}, {back, []string{"export", third}},
	} {
		if out, code := step.at.run(step.args...); code != 0 {
			t.Fatalf("sluice %v: exit %d\n%s", step.args, code, out)
		}
	}
	var texts []string
	for _, name := range []string{first, second, third} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if texts[0] != texts[1] || texts[0] != texts[2] {
		t.Errorf("the site changed on the way:\n%s", cmp.Diff(texts[0], texts[1]))
	}
	if out, code := consul.run("import", first); code == 0 || !strings.Contains(out, "--replace") {
		t.Errorf("an import over what is there: exit %d\n%s", code, out)
	}
	consul.kill()
	consul.start()
	if n := (&killed{served: consul}).stored(); n != 4 {
		t.Errorf("after a restart, push %d is stored", n)
	}
}

// TestReplicas_CommandLine is what two people see who work at two replicas.
func TestReplicas_CommandLine(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	one, two := startServed(t, inConsul(a)...), startServed(t, inConsul(a)...)
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(one.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	edge := write("edge.yaml", fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: %d}]}\n", gateway.FreePort(t)))
	route := write("route.yaml", "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: a}\nspec: {match: /a, direct: {}}\n")
	other := write("other.yaml", "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: b}\nspec: {match: /b, direct: {}}\n")
	plan := filepath.Join(one.dir, "plan.json")
	for _, step := range []struct {
		at   *served
		args []string
		code int
		text string
	}{
		{one, []string{"apply", "-f", edge}, 0, "revision 1"},
		{two, []string{"plan", "-f", route, "--out", plan}, 2, "on revision 1"},
		{one, []string{"apply", "-f", other}, 0, "revision 2"},
		{two, []string{"apply", "--plan", plan}, 4, "conflict"},
		{two, []string{"apply", "-f", route}, 0, "revision 3"},
		{one, []string{"rollback", "2"}, 0, "revision 4"},
	} {
		out, code := step.at.run(step.args...)
		if code != step.code || !strings.Contains(out, step.text) {
			t.Fatalf("sluice %v: exit %d, want %d with %q\n%s", step.args, code, step.code, step.text, out)
		}
	}
	gateway.Eventually(t, "the rollback is served at the other replica", func() bool {
		out, _ := two.run("history")
		return strings.Contains(out, "4*")
	})
	a.Kill()
	if out, code := one.run("apply", "-f", route); code != 1 || !strings.Contains(out, "consul") {
		t.Errorf("apply without Consul: exit %d\n%s", code, out)
	}
	if out, code := two.run("get"); code != 0 || !strings.Contains(out, "other.yaml:1") {
		t.Errorf("get without Consul: exit %d\n%s", code, out)
	}
}
