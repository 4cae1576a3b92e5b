package feature

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// pattern reads a match's path as policies write it.
func pattern(s string) model.Path {
	rest, tail := strings.CutSuffix(s, "/*")
	p := model.Path{Tail: tail}
	if rest == "" {
		return p
	}
	for _, part := range strings.Split(rest[1:], "/") {
		if m := templateParam.FindStringSubmatch(part); m != nil {
			p.Segments = append(p.Segments, model.Segment{Param: m[1]})
			continue
		}
		p.Segments = append(p.Segments, model.Segment{Literal: part})
	}
	return p
}

var backReference = regexp.MustCompile(`\\([0-9])`)

// apply does to a path what Envoy does with the template.
func (t PathTemplate) apply(p model.Path, path string) string {
	if prefix := t.Prefix(p); prefix != "" {
		matched := p.Literal()
		return prefix + path[len(matched):]
	}
	e := t.Expression(p)
	dollars := strings.ReplaceAll(e.Substitution, "$", "$$")
	return regexp.MustCompile(e.Pattern.Regex).ReplaceAllString(path, backReference.ReplaceAllString(dollars, `${$1}`))
}

func TestPathTemplate_PutsThePathTogether(t *testing.T) {
	for _, c := range []struct {
		name, match, template, path, want string
	}{
		{"whole", "/a", "/b", "/a", "/b"},
		{"to the root", "/a", "/", "/a", "/"},
		{"parameters swapped", "/u/{a}/{b}", "/{b}/{a}", "/u/1/2", "/2/1"},
		{"a parameter twice", "/u/{a}", "/{a}/{a}", "/u/x", "/x/x"},
		{"a digit after a parameter", "/u/{a}", "/{a}/1", "/u/x", "/x/1"},
		{"prefix by prefix", "/s/*", "/t/*", "/s/x", "/t/x"},
		{"prefix by prefix, bare", "/s/*", "/t/*", "/s", "/t"},
		{"prefix away", "/s/*", "/*", "/s/x/y", "/x/y"},
		{"prefix away, bare", "/s/*", "/*", "/s", "/"},
		{"prefix away, with a slash", "/s/*", "/*", "/s/", "/"},
		{"prefix before all", "/*", "/t/*", "/x", "/t/x"},
		{"prefix before the root", "/*", "/t/*", "/", "/t/"},
		{"all to all", "/*", "/*", "/x", "/x"},
		{"a parameter and the rest", "/u/{a}/*", "/{a}/v/*", "/u/1/x", "/1/v/x"},
		{"a parameter and no rest", "/u/{a}/*", "/{a}/v/*", "/u/1", "/1/v"},
		{"the rest behind a parameter alone", "/u/{a}/*", "/*", "/u/1/x", "/x"},
		{"the rest dropped", "/s/*", "/one", "/s/x/y", "/one"},
		{"a dot is a dot", "/a.b", "/c", "/a.b", "/c"},
		{"other letters are encoded", "/a", "/ü/{a}", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, template := pattern(c.match), PathTemplate(c.template)
			if err := template.Check(); err != nil {
				t.Fatal(err)
			}
			if err := template.CheckAgainst(p); (err != nil) != (c.want == "") {
				t.Fatal(err)
			}
			if c.want == "" {
				return
			}
			if got := template.apply(p, c.path); got != c.want {
				t.Errorf("%s by %s: %s becomes %s, want %s", c.match, c.template, c.path, got, c.want)
			}
		})
	}
}

func TestPathTemplate_NeverLeavesAnEmptySegment(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b.c", "x+y", "%2B", "$1", "{p}"})
	rapid.Check(t, func(r *rapid.T) {
		draw := func(label string, params bool) string {
			var b strings.Builder
			seen := false
			for _, s := range rapid.SliceOfN(segment, 0, 4).Draw(r, label) {
				if s == "{p}" && (!params || seen) {
					s = "p"
				}
				seen = seen || s == "{p}"
				b.WriteString("/" + s)
			}
			if rapid.Bool().Draw(r, label+" tail") || b.Len() == 0 {
				b.WriteString("/*")
			}
			return b.String()
		}
		p := pattern(draw("match", true))
		template := PathTemplate(draw("template", p.HasParams()))
		if template.Check() != nil || template.CheckAgainst(p) != nil {
			return
		}
		path := strings.NewReplacer("{p}", rapid.SampledFrom([]string{"1", "%2e%2e", `\1`, "$0"}).Draw(r, "value"), "/*", "").Replace(p.String())
		if p.Tail {
			path += rapid.SampledFrom([]string{"", "/", "/rest", "/re/st/"}).Draw(r, "rest")
		}
		if path == "" {
			path = "/"
		}
		got := template.apply(p, path)
		if !strings.HasPrefix(got, "/") || strings.Contains(got, "//") {
			r.Fatalf("%s by %s: %s becomes %s", p, template, path, got)
		}
	})
}

func FuzzPathTemplate(f *testing.F) {
	for _, s := range []string{"/", "/*", "/v2/{id}", "/{a}/*", "/a%2Fb", "/ü", "/..", "//", "/x*", "/{", `/\1`} {
		f.Add(s)
	}
	p := pattern("/u/{id}/*")
	f.Fuzz(func(t *testing.T, s string) {
		template := PathTemplate(s)
		if template.Check() != nil || template.CheckAgainst(p) != nil {
			return
		}
		got := template.apply(p, "/u/7/rest")
		if !strings.HasPrefix(got, "/") || strings.ContainsAny(got, " ?#\r\n\\") || strings.Contains(got, "//") {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}
