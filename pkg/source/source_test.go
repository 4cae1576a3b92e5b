package source_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/source"
)

func object(kind, name, spec string) string {
	return "apiVersion: sluice/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func loader() source.Loader {
	features := all.Features()
	return source.Loader{Wanted: func(o policy.Object) []string { return compile.Wanted(features, o) }}
}

func load(t *testing.T, l source.Loader, names ...string) *source.Policies {
	t.Helper()
	p, err := l.Load(context.Background(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func places(p *source.Policies) []string {
	var out []string
	for _, o := range p.Objects {
		out = append(out, o.File+" "+o.String())
	}
	return out
}

func TestFolderHoldsEveryPolicyBelowIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "food")
	service := object("Service", "orders", "{endpoints: [127.0.0.1:9001]}")
	write(t, dir, map[string]string{
		"b.yaml":             service + "---\n" + object("Service", "second", "{}"),
		"deep/down/a.yml":    object("Service", "deep", "{}"),
		"notes.txt":          object("Service", "text", "{}"),
		".hidden/c.yaml":     object("Service", "hidden-folder", "{}"),
		".d.yaml":            object("Service", "hidden-file", "{}"),
		"compose.yaml":       "services: {web: {image: nginx}}\n",
		"deployment.yaml":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
		"folder.yaml/e.yaml": object("Service", "in-folder", "{}"),
	})
	got := load(t, loader(), dir)
	want := []string{"b.yaml Service/orders", "b.yaml Service/second", "deep/down/a.yml Service/deep", "folder.yaml/e.yaml Service/in-folder"}
	if diff := cmp.Diff(want, places(got)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if got.Foreign != 2 || got.Source != "food" || got.Problems.Failed() {
		t.Errorf("foreign %d, source %q, problems %s", got.Foreign, got.Source, got.Problems.Render())
	}
	if got.Objects[1].Line != 5 || got.Objects[0].Source != "food" {
		t.Errorf("line %d, source %q", got.Objects[1].Line, got.Objects[0].Source)
	}
}

func TestLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, map[string]string{"secret.yaml": object("Service", "outside", "{}"), "secret.txt": "secret"})
	write(t, dir, map[string]string{
		"..2026/a.yaml": object("Service", "mounted", "{}"),
		"r.yaml":        object("Route", "r", "{direct: {body: {file: body.txt}}}"),
		"sub/ok.yaml":   object("Service", "sub", "{}"),
	})
	for link, to := range map[string]string{
		"..data":    "..2026",        // as Kubernetes mounts a ConfigMap
		"a.yaml":    "..data/a.yaml", // a link to a file of the folder is read
		"loop.yaml": "loop.yaml",
		"up":        "..",
		"round":     ".",
		"sub/round": "../sub",
		"out.yaml":  filepath.Join(outside, "secret.yaml"),
		"body.txt":  filepath.Join(outside, "secret.txt"),
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	got := load(t, loader(), dir)
	if diff := cmp.Diff([]string{"a.yaml Service/mounted", "r.yaml Route/r", "sub/ok.yaml Service/sub"}, places(got)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	text := got.Problems.Render()
	for _, want := range []string{"out.yaml: error: cannot be read: it is a link that leads out", "loop.yaml: error: cannot be read",
		"Route/r names body.txt, which cannot be read: it is a link that leads out"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, outside) || got.Problems.Errors() != 3 {
		t.Errorf("problems:\n%s", text)
	}
}

func TestContent(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"routes/r.yaml":       object("Route", "r", "{direct: {body: {file: bodies/hello.txt}}}"),
		"routes/up.yaml":      object("Route", "up", "{direct: {body: {file: ../top.txt}}}"),
		"routes/above.yaml":   object("Route", "above", "{direct: {body: {file: ../../x.txt}}}"),
		"routes/missing.yaml": object("Route", "missing", "{direct: {body: {file: none.txt}}}"),
		"routes/binary.yaml":  object("Route", "binary", "{direct: {body: {file: b.bin}}}"),
		"bodies/hello.txt":    "wrong one", "routes/bodies/hello.txt": "hello", "top.txt": "top", "routes/b.bin": "\xff\xfe",
	})
	got := load(t, loader(), dir)
	content := map[string]map[string]string{}
	for _, o := range got.Objects {
		content[o.Name] = o.Content
	}
	want := map[string]map[string]string{"r": {"bodies/hello.txt": "hello"}, "up": {"../top.txt": "top"}, "above": nil, "missing": nil, "binary": nil}
	if diff := cmp.Diff(want, content); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if text := got.Problems.Render(); got.Problems.Errors() != 1 || !strings.Contains(text, "routes/b.bin, which cannot be read: it is not UTF-8") {
		t.Errorf("problems:\n%s", text)
	}
}

func TestSingleFileAndStdin(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"one.conf": object("Route", "r", "{direct: {body: {file: b.txt}}}"), "b.txt": "b"})
	l := loader()
	l.Stdin = strings.NewReader(object("Service", "piped", "{}"))
	got := load(t, l, filepath.Join(dir, "one.conf"), "-")
	if diff := cmp.Diff([]string{"one.conf Route/r", "stdin Service/piped"}, places(got)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if got.Objects[0].Content["b.txt"] != "b" || got.Source != "one.conf+stdin" {
		t.Errorf("content %q, source %q", got.Objects[0].Content, got.Source)
	}
	if _, err := l.Load(context.Background(), "-", "-"); err == nil {
		t.Error("- twice is taken")
	}
}

func TestNamesThatCannotBeRead(t *testing.T) {
	for _, names := range [][]string{nil, {filepath.Join(t.TempDir(), "none")}} {
		if _, err := loader().Load(context.Background(), names...); err == nil {
			t.Errorf("%q: no error", names)
		}
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"big.yaml": object("Service", "big", "{}") + "# " + strings.Repeat("x", policy.MaxFileBytes), "ok.yaml": object("Service", "ok", "{}")})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := load(t, loader(), dir)
	if diff := cmp.Diff([]string{"ok.yaml Service/ok"}, places(got)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	text := got.Problems.Render()
	if got.Problems.Errors() != 2 || !strings.Contains(text, "larger than 16 MiB") || !strings.Contains(text, "no regular file") {
		t.Errorf("problems:\n%s", text)
	}
}

func TestTotalIsLimited(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"} {
		write(t, dir, map[string]string{name: object("Service", name[:1], "{}") + "---\n# " + strings.Repeat("x", 12<<20)})
	}
	got := load(t, loader(), dir)
	if n := got.Problems.Errors(); n != 1 {
		t.Errorf("%d problems:\n%s", n, got.Problems.Render())
	}
}
