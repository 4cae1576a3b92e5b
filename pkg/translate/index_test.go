package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// words are few, so that patterns meet.
var words = []string{"a", "b", "ab", "abc", "orders", "orders2", "v1", ""}

func drawPath(t *rapid.T) model.Path {
	if rapid.IntRange(0, 9).Draw(t, "form") == 0 {
		return model.Path{Regex: rapid.SampledFrom([]string{"/a.*", "/(a|b)/.*", ".*", "/orders/[0-9]+", "/a/b", "(?i)/AB"}).Draw(t, "regex")}
	}
	p := model.Path{Tail: rapid.Bool().Draw(t, "tail")}
	for i := range rapid.IntRange(0, 4).Draw(t, "segments") {
		if rapid.IntRange(0, 3).Draw(t, "param") == 0 {
			p.Segments = append(p.Segments, model.Segment{Param: fmt.Sprint("p", i)})
			continue
		}
		p.Segments = append(p.Segments, model.Segment{Literal: rapid.SampledFrom(words[:len(words)-1]).Draw(t, "literal")})
	}
	if len(p.Segments) == 0 && !p.Tail {
		p.Segments = []model.Segment{{}} // the root
	}
	return p
}

func drawRequest(t *rapid.T) string {
	var b strings.Builder
	for range rapid.IntRange(1, 5).Draw(t, "depth") {
		b.WriteString("/" + rapid.SampledFrom(words).Draw(t, "part"))
	}
	return b.String()
}

// inOrder gives routes over the paths as compile does: sorted, sealed.
func inOrder(paths []model.Path) []*model.Route {
	var routes []*model.Route
	for i, p := range paths {
		m := model.Match{Path: p}
		routes = append(routes, &model.Route{Name: fmt.Sprint(i), Match: m, Order: m.Order(), Literal: p.Literal()})
	}
	slices.SortStableFunc(routes, func(a, b *model.Route) int { return strings.Compare(a.Order, b.Order) })
	return routes
}

// lookup does what Envoy does: the longest key that the path starts with decides, then the first route that matches.
func lookup(leaves []leaf, path string) *model.Route {
	best := -1
	for i, l := range leaves {
		if strings.HasPrefix(path, l.prefix) && (best < 0 || len(l.prefix) > len(leaves[best].prefix)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return first(leaves[best].routes, path)
}

func first(routes []*model.Route, path string) *model.Route {
	for _, r := range routes {
		if r.Match.Path.Matches(path) {
			return r
		}
	}
	return nil
}

func TestIndex_AgreesWithTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.SliceOfN(rapid.Custom(drawPath), 1, 400).Draw(t, "paths")
		routes := inOrder(paths)
		leaves := index(routes)
		for range 50 {
			path := drawRequest(t)
			if got, want := lookup(leaves, path), first(routes, path); got != want {
				t.Fatalf("%s: the index finds %v, the list %v", path, name(got), name(want))
			}
		}
	})
}

func name(r *model.Route) string {
	if r == nil {
		return "nothing"
	}
	return r.Name + " " + r.Match.Path.String()
}

func TestIndex_LeavesStaySmall(t *testing.T) {
	var paths []model.Path
	for i := range 10_000 {
		paths = append(paths, model.Path{Segments: []model.Segment{{Literal: fmt.Sprint("team", i%20)}, {Literal: fmt.Sprint("svc", i)}, {Literal: "api"}}})
	}
	total := 0
	for _, l := range index(inOrder(paths)) {
		if len(l.routes) > leafSize {
			t.Errorf("leaf %q has %d routes", l.prefix, len(l.routes))
		}
		total += len(l.routes)
	}
	if total != len(paths) {
		t.Errorf("the leaves hold %d routes of %d", total, len(paths))
	}
}

func TestIndex_ManyWithoutALiteralStartStayAList(t *testing.T) {
	var paths []model.Path
	for i := range 2000 {
		paths = append(paths, model.Path{Regex: fmt.Sprintf(".*/%d", i)}, model.Path{Segments: []model.Segment{{Literal: fmt.Sprint("x", i)}}})
	}
	if leaves := index(inOrder(paths)); len(leaves) != 1 {
		t.Errorf("%d leaves", len(leaves))
	}
}
