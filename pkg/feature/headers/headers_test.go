package headers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// carryOut does to a header what the edits ask for: remove, set, add.
func (e Edits) carryOut(name string, values []string) []string {
	if slices.Contains(e.Remove, name) {
		values = nil
	}
	if v, ok := e.Set[name]; ok {
		values = []string{v}
	}
	return slices.Concat(values, e.Add[name])
}

func edits(names []string) *rapid.Generator[Edits] {
	return rapid.Custom(func(r *rapid.T) Edits {
		e := Edits{Set: map[string]string{}, Add: map[string]Values{}}
		for _, n := range names {
			switch rapid.IntRange(0, 3).Draw(r, n) {
			case 0:
				e.Set[n] = rapid.StringN(1, 3, 3).Draw(r, "set")
			case 1:
				e.Add[n] = Values{rapid.StringN(1, 3, 3).Draw(r, "add")}
			case 2:
				e.Remove = append(e.Remove, n)
			}
		}
		return e
	})
}

func TestJoin_IsOneAfterTheOther(t *testing.T) {
	names := []string{"x-a", "x-b", "x-c"}
	rapid.Check(t, func(r *rapid.T) {
		far, near := edits(names).Draw(r, "far"), edits(names).Draw(r, "near")
		was := []string{"was"}
		for _, n := range names {
			want := near.carryOut(n, far.carryOut(n, was))
			if diff := cmp.Diff(want, near.join(far).carryOut(n, was)); diff != "" {
				r.Fatalf("%s (-want +got):\n%s", n, diff)
			}
		}
	})
}

func TestSpec_SurvivesJSON(t *testing.T) {
	s := &Spec{Request: Edits{Set: map[string]string{"x-a": ""}, Add: map[string]Values{"x-b": {"1", "2"}}, Remove: []string{"x-c"}}}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again := (Feature{}).New()
	if err := json.Unmarshal(b, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{"100%", "%REQ(x)%", "{route}", "{{route}}", "{{{route}}}", "{x}", "{\"a\":1}", "%%", "{", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := format(s)
		if err != nil {
			return
		}
		for _, operator := range slices.Sorted(maps.Values(placeholders)) {
			out = strings.ReplaceAll(out, operator, "")
		}
		if strings.Contains(strings.ReplaceAll(out, "%%", ""), "%") {
			t.Errorf("%q holds an operator that nobody offers: %q", s, out)
		}
	})
}
