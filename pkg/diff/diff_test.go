package diff_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/diff"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// block is a feature of any stage.
type block struct {
	name  string
	stage feature.Stage
}

func (b block) Info() feature.Info {
	return feature.Info{Name: b.name, Stage: b.stage, On: feature.Rule}
}
func (b block) New() feature.Spec     { return &spec{} }
func (b block) Kinds() []feature.Kind { return []feature.Kind{{Name: b.name + "Kind"}} }

type spec struct{}

func (*spec) Validate(policy.At, *policy.Problems) {}

func features() feature.Set {
	return feature.NewSet(block{"guard", feature.StageExtAuthz}, block{"loose", feature.StageRoute}, block{"raw", feature.StageRaw})
}

func object(kind, spec string) *policy.Object {
	return &policy.Object{Ref: policy.Ref{Kind: kind, Name: "a"}, File: "a.yaml", Line: 7,
		Text: "apiVersion: sluice/v1\nkind: " + kind + "\nmetadata: {name: a}\nspec:\n" + spec}
}

func show(o diff.Object) string {
	var b strings.Builder
	for _, l := range o.Lines {
		b.WriteString(map[diff.Op]string{diff.Keep: " ", diff.Insert: "+", diff.Remove: "-", diff.Skip: "…"}[l.Op] + l.Text)
		if l.Mark != "" {
			b.WriteString(" !" + string(l.Mark))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const route = `  loose: 1
  guard:
    need: a
  rules:
    - name: one
      guard: {}
      to: x
    - name: two
      raw: {a: b}
      to: y
  use: [p]
`

func TestMarks(t *testing.T) {
	for _, c := range []struct{ name, after, want string }{
		{"nothing of weight", strings.Replace(route, "loose: 1", "loose: 2", 1), "…\n metadata: {name: a}\n spec:\n-  loose: 1\n+  loose: 2\n   guard:\n     need: a\n…\n"},
		{"inside a block", strings.Replace(route, "need: a", "need: b", 1), "…\n   loose: 1\n   guard:\n-    need: a !security\n+    need: b !security\n   rules:\n     - name: one\n…\n"},
		{"a rule's block goes", strings.Replace(route, "      guard: {}\n", "", 1), "…\n   rules:\n     - name: one\n-      guard: {} !security\n       to: x\n     - name: two\n…\n"},
		{"raw", strings.Replace(route, "{a: b}", "{a: c}", 1), "…\n       to: x\n     - name: two\n-      raw: {a: b} !raw\n+      raw: {a: c} !raw\n       to: y\n   use: [p]\n"},
		{"use", strings.Replace(route, "  use: [p]\n", "", 1), "…\n       raw: {a: b}\n       to: y\n-  use: [p] !security\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := diff.Of(features(), object("Route", route), object("Route", c.after))
			if d := cmp.Diff(c.want, show(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got.Action != diff.Modify || got.Place != "a.yaml:7" {
				t.Errorf("action %q at %q", got.Action, got.Place)
			}
		})
	}
}

func TestActions(t *testing.T) {
	o := object("Gateway", "  listeners: []\n")
	moved, filled := *o, *o
	moved.Line, filled.Content = 9, map[string]string{"x": "1"}
	for _, c := range []struct {
		name          string
		before, after *policy.Object
		want          diff.Action
		marks         []diff.Mark
		content       []string
	}{
		{"add", nil, o, diff.Add, nil, nil},
		{"delete", o, nil, diff.Delete, []diff.Mark{diff.Drains}, nil},
		{"move", o, &moved, diff.Move, nil, nil},
		{"content", o, &filled, diff.Modify, nil, []string{"x"}},
		{"whose certificates are taken", nil, object("Certificate", "  ca: {file: /a}\n"), diff.Add, []diff.Mark{diff.Security}, nil},
		{"a kind that a guard owns", nil, object("guardKind", "  a: b\n"), diff.Add, []diff.Mark{diff.Security}, nil},
		{"a kind that another owns", nil, object("looseKind", "  a: b\n"), diff.Add, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := diff.Of(features(), c.before, c.after)
			if got.Action != c.want || !cmp.Equal(got.Marks, c.marks) || !cmp.Equal(got.Content, c.content) {
				t.Errorf("got %s, marks %v, content %v", got.Action, got.Marks, got.Content)
			}
		})
	}
}

func TestLinesLeadFromOneTextToTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SampledFrom([]string{"  a: b", "  guard: {}", "  rules:", "    - x: y", "  c: d", ""})
		texts := rapid.SliceOfN(line, 0, 12)
		before, after := strings.Join(texts.Draw(t, "before"), "\n")+"\n", strings.Join(texts.Draw(t, "after"), "\n")+"\n"
		var old, new []string
		for _, l := range diff.Of(features(), object("Route", before), object("Route", after)).Lines {
			switch l.Op {
			case diff.Remove:
				old = append(old, l.Text)
			case diff.Insert:
				new = append(new, l.Text)
			}
		}
		if removed, inserted := missing(before, after), missing(after, before); len(old)-len(new) != strings.Count(before, "\n")-strings.Count(after, "\n") ||
			!contains(old, removed) || !contains(new, inserted) {
			t.Fatalf("removed %q, inserted %q", old, new)
		}
	})
}

// missing are the lines of a that b does not have at all.
func missing(a, b string) []string {
	var out []string
	for _, l := range strings.Split(strings.TrimSuffix(a, "\n"), "\n") {
		if !strings.Contains("\n"+b, "\n"+l+"\n") {
			out = append(out, l)
		}
	}
	return out
}

func contains(all, some []string) bool {
	for _, s := range some {
		found := false
		for _, a := range all {
			found = found || a == s
		}
		if !found {
			return false
		}
	}
	return true
}
