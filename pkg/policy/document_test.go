package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSplit_KeepsEachDocumentsLines(t *testing.T) {
	text := `# a comment alone is no document
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: a}
spec: {}
--- # another
# of nothing
---
apiVersion: v1
kind: ConfigMap
...
apiVersion: sluice/v1
kind: Policy
metadata: {name: b}
spec:
  body: |
    text
    --- not a boundary
`
	var p Problems
	objects, foreign := Split("dir/x.yaml", text, "src", &p)
	if p.Failed() {
		t.Fatal(p.Render())
	}
	type got struct {
		Ref  string
		Line int
	}
	var all []got
	for _, o := range objects {
		all = append(all, got{o.String(), o.Line})
	}
	want := []got{{"Gateway/a", 2}, {"Policy/b", 13}}
	if diff := cmp.Diff(want, all); diff != "" || foreign != 1 {
		t.Errorf("foreign %d, objects (-want +got):\n%s", foreign, diff)
	}
	var q Problems
	d := Parse(objects[1], &q)
	if at := d.Spec().Field("body"); at.String() != "dir/x.yaml:17" {
		t.Errorf("the field is at %s", at)
	}
}

// within fails the test when the work does not end in a time that only runaway work takes.
func within(t *testing.T, limit time.Duration, work func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); work() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("still at it")
	}
}

func TestSplit_HostileTextIsRefusedWithAReason(t *testing.T) {
	header := "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: x}\n"
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), c-1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"aliases that explode": {header + "spec:\n  " + strings.ReplaceAll(bomb, "\n", "\n  ") + "\n", "alias"},
		"a deep list":          {header + "spec: " + strings.Repeat("[", 40_000), ""},
		"a deep list, closed":  {header + "spec: " + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + "\n", "nested deeper"},
		"a large document":     {header + "spec: {a: " + strings.Repeat("x", 2<<20) + "}\n", "larger than"},
		"a large file":         {header + strings.Repeat("# nothing\n", 2<<20), "larger than"},
		"a merge key":          {header + "spec:\n  <<: {a: b}\n", "merge keys"},
		"two keys of one name": {header + "spec: {a: 1, a: 2}\n", "set twice"},
		"no text":              {"\x00\x01sluice", ""},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, time.Minute, func() {
				var p Problems
				objects, _ := Split("x.yaml", c.text, "", &p)
				for _, o := range objects {
					Parse(o, &p)
				}
				if !p.Failed() || !strings.Contains(p.Render(), c.want) {
					t.Errorf("problems: %.500s", p.Render())
				}
			})
		})
	}
}

func TestProblems_TenThousandAreCountedNotKept(t *testing.T) {
	var p Problems
	d := newDocument(Object{Text: strings.Repeat("line\n", 10_000), File: "x.yaml", Line: 1})
	for i := range 10_000 {
		p.Errorf(At{Node: &Node{Line: i + 1, Column: 1}, doc: d}, CodeValue, "number %d", i)
	}
	if len(p.List()) != maxProblems || p.Dropped() != 10_000-maxProblems || p.Errors() != 10_000 {
		t.Errorf("%d kept, %d dropped, %d errors", len(p.List()), p.Dropped(), p.Errors())
	}
	if !strings.Contains(p.Render(), "9000 more") {
		t.Errorf("the end is %q", p.Render()[len(p.Render())-100:])
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("apiVersion: sluice/v1\nkind: Route\nmetadata: {name: a}\nspec: {match: GET /a, to: b}\n---\nkind: x\n")
	f.Add("---\n...\n--- {a: b}\n")
	f.Add("apiVersion: sluice/v2\nkind: Gateway\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		var p Problems
		objects, _ := Split("f.yaml", text, "", &p)
		lines := strings.Count(text, "\n") + 1
		for _, o := range objects {
			if o.Line < 1 || o.Line > lines || o.Kind == "" || o.Name == "" {
				t.Errorf("object %s at line %d of %d", o.Ref, o.Line, lines)
			}
			if d := Parse(o, &p); d != nil {
				var spec struct {
					Hosts []string `json:"hosts"`
					Match Matches  `json:"match"`
					To    Targets  `json:"to"`
					Blocks
				}
				Decode(d.Spec(), &spec, &p)
			}
		}
		for _, problem := range p.List() {
			if problem.Message == "" || problem.Code == "" || problem.Line > lines {
				t.Errorf("problem %+v", problem)
			}
		}
	})
}

func FuzzParseMatch(f *testing.F) {
	for _, s := range []string{"POST /api/v1/orders", "/static/*", "GET,HEAD /users/{id}", "/a/{b}/{b}", "GET", "*", "/ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMatch(s)
		if err == nil && (m.Path == "" || m.Path[0] != '/') {
			t.Errorf("%q became %+v", s, m)
		}
	})
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"30s", "1h30m", "64KiB", "10MB", "50%", "0.5%", "-1s", "9999999999GiB", "1e300%", "NaN%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d, d2 Duration
		if d.UnmarshalText([]byte(s)) == nil {
			if text, _ := d.MarshalText(); d2.UnmarshalText(text) != nil || d2 != d || d < 0 {
				t.Errorf("duration %q: %v, again %v", s, d, d2)
			}
		}
		var z, z2 Size
		if z.UnmarshalText([]byte(s)) == nil {
			if text, _ := z.MarshalText(); z2.UnmarshalText(text) != nil || z2 != z || z < 0 {
				t.Errorf("size %q: %v, again %v", s, z, z2)
			}
		}
		var p, p2 Percent
		if p.UnmarshalText([]byte(s)) == nil {
			if text, _ := p.MarshalText(); p2.UnmarshalText(text) != nil || p2 != p || p < 0 || p > 100 {
				t.Errorf("percent %q: %v, again %v", s, p, p2)
			}
		}
	})
}
