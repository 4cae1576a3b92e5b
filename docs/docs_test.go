// Package docs tests what the documentation shows: every policy on its pages compiles and passes the real Envoy, every
// command runs and prints what the page says, every link leads somewhere, and the reference is up to date.
package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/docs/reference"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
)

// build builds a program of the repository and gives its path.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

func TestReferenceIsUpToDate(t *testing.T) {
	fresh, err := reference.Pages(context.Background(), all.Features(), build(t, t.TempDir(), "./cmd/sluice"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range fresh {
		got, err := os.ReadFile(filepath.Join("reference", name))
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(got), "\n")); diff != "" {
			t.Errorf("docs/reference/%s is stale: run make generate (-program +page):\n%s", name, diff)
		}
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	marker = regexp.MustCompile(`(?m)^#+ (.+)$|<a id="([^"]+)">`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for _, name := range []string{"kinds", "features", "problems", "commands"} {
		text, err := os.ReadFile("reference/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		all["docs/reference/"+name+".md"] = string(text)
	}
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			body, err := os.ReadFile(filepath.Join("..", path))
			if _, missing := os.Stat(filepath.Join("..", path)); missing != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			} else if err == nil && anchor != "" && !anchors(string(body))[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, path, anchor)
			}
		}
	}
}

// anchors are the places of a page that links may name, as GitHub makes them from headings.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range marker.FindAllStringSubmatch(text, -1) {
		name := m[2]
		if name == "" {
			name = strings.ToLower(strings.ReplaceAll(m[1], " ", "-"))
			name = regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(name, "")
		}
		out[name] = true
	}
	return out
}

func TestEveryTaskIsListed(t *testing.T) {
	list, err := os.ReadFile("tasks/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("tasks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "README.md" && !strings.Contains(string(list), "]("+name+")") {
			t.Errorf("docs/tasks/README.md does not lead to %s", name)
		}
	}
}

var (
	mention = regexp.MustCompile("`sluice ([a-z-]+)([^`\n]*)`|(?m:^sluice ([a-z-]+)(.*)$)")
	flag    = regexp.MustCompile(`--[a-z-]+`)
)

// TestCommandsThatAreNamedExist holds the commands and flags that pages name in passing against the reference.
func TestCommandsThatAreNamedExist(t *testing.T) {
	text, err := os.ReadFile("reference/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	help := map[string]string{"completion": ""}
	for _, section := range strings.Split(string(text), "\n## sluice ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		help[name] = body
	}
	for page, text := range pages(t) {
		for _, m := range mention.FindAllStringSubmatch(text, -1) {
			name, rest := m[1]+m[3], m[2]+m[4]
			body, ok := help[name]
			if words := strings.Fields(rest); len(words) > 0 && help[name+" "+words[0]] != "" {
				body = help[name+" "+words[0]]
			}
			if !ok {
				t.Errorf("%s: there is no command sluice %s", page, name)
			}
			for _, f := range flag.FindAllString(rest, -1) {
				if !strings.Contains(body, f+" ") {
					t.Errorf("%s: sluice %s has no flag %s", page, name, f)
				}
			}
		}
	}
}
