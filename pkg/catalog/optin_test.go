package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-gateway/sluice/pkg/catalog"
)

func meta(pairs ...string) catalog.Instance {
	m := map[string]string{}
	for n := 0; n < len(pairs); n += 2 {
		m[pairs[n]] = pairs[n+1]
	}
	return catalog.Instance{ID: "one", Meta: m}
}

func tags(list ...string) catalog.Instance { return catalog.Instance{ID: "one", Tags: list} }

func TestReadOptIn_OneInstance(t *testing.T) {
	for _, test := range []struct {
		name     string
		instance catalog.Instance
		want     *catalog.OptIn
		problem  string
	}{
		{name: "nothing", instance: meta("version", "2")},
		{name: "other tags", instance: tags("sluice-template=team", "v2")},
		{name: "metadata", instance: meta("sluice-template", "team", "sluice-path", "/orders/v1", "sluice-host", "api.food.example"),
			want: &catalog.OptIn{Service: "s", Template: "team", Path: "/orders/v1", Host: "api.food.example", Instances: 1}},
		{name: "tags", instance: tags("sluice", "v2", "sluice-template=team", "sluice-path=/orders/"), want: &catalog.OptIn{Service: "s", Template: "team", Path: "/orders", Instances: 1}},
		{name: "root", instance: meta("sluice-template", "team", "sluice-path", "/"), want: &catalog.OptIn{Service: "s", Template: "team", Path: "/", Instances: 1}},
		{name: "metadata wins over tags", instance: catalog.Instance{ID: "one", Meta: map[string]string{"sluice-template": "a"}, Tags: []string{"sluice", "sluice-template=b"}},
			want: &catalog.OptIn{Service: "s", Template: "a", Instances: 1}},
		{name: "no template", instance: tags("sluice", "sluice-path=/a"), problem: "sluice-template is missing"},
		{name: "empty template", instance: meta("sluice-template", ""), problem: "sluice-template is missing"},
		{name: "unknown key", instance: meta("sluice-template", "a", "sluice-paht", "/a"), problem: `"sluice-paht" is not known`},
		{name: "tag twice", instance: tags("sluice", "sluice-template=a", "sluice-template=b"), problem: "given twice"},
		{name: "template upper case", instance: meta("sluice-template", "Team"), problem: "a name has"},
		{name: "dots", instance: meta("sluice-template", "a", "sluice-path", "/a/../admin"), problem: "no segments . and .."},
		{name: "encoded dots", instance: meta("sluice-template", "a", "sluice-path", "/a/%2e%2e/admin"), problem: "a path begins with /"},
		{name: "regex", instance: meta("sluice-template", "a", "sluice-path", "/a.*|/(b)"), problem: "a path begins with /"},
		{name: "braces", instance: meta("sluice-template", "a", "sluice-path", "/{id}"), problem: "a path begins with /"},
		{name: "wildcard", instance: meta("sluice-template", "a", "sluice-path", "/*"), problem: "a path begins with /"},
		{name: "upper case", instance: meta("sluice-template", "a", "sluice-path", "/Orders"), problem: "a path begins with /"},
		{name: "double slash", instance: meta("sluice-template", "a", "sluice-path", "//a"), problem: "a path begins with /"},
		{name: "two slashes", instance: meta("sluice-template", "a", "sluice-path", "//"), problem: "a path begins with /"},
		{name: "relative", instance: meta("sluice-template", "a", "sluice-path", "a"), problem: "a path begins with /"},
		{name: "empty path", instance: meta("sluice-template", "a", "sluice-path", ""), problem: "a path begins with /"},
		{name: "long path", instance: meta("sluice-template", "a", "sluice-path", "/"+strings.Repeat("a", 511)), problem: "at most 200 characters"},
		{name: "long tag", instance: tags("sluice", "sluice-template="+strings.Repeat("a", 10_000)), problem: "(10000 characters)"},
		{name: "control characters", instance: meta("sluice-template", "a\n\x00\u202e"), problem: `"a\n\x00\u202e"`},
		{name: "host with port", instance: meta("sluice-template", "a", "sluice-host", "a:80"), problem: "a host is"},
		{name: "host wildcard", instance: meta("sluice-template", "a", "sluice-host", "*.food.example"), problem: "a host is"},
		{name: "host upper case", instance: meta("sluice-template", "a", "sluice-host", "API.food.example"), problem: "a host is"},
		{name: "host final dot", instance: meta("sluice-template", "a", "sluice-host", "food.example."), problem: "a host is"},
		{name: "host long", instance: meta("sluice-template", "a", "sluice-host", strings.Repeat("a.", 130)+"a"), problem: "a host is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := catalog.ReadOptIn("s", []catalog.Instance{test.instance})
			if test.problem == "" {
				if d := cmp.Diff(test.want, got); d != "" {
					t.Error(d)
				}
				return
			}
			if got == nil || got.Template != "" || len(got.Problems) != 1 || !strings.Contains(got.Problems[0].Reason, test.problem) {
				t.Errorf("got %+v, want the problem %q", got, test.problem)
			}
		})
	}
}

func TestReadOptIn_InstancesThatDisagree(t *testing.T) {
	ask := func(id, path string) catalog.Instance {
		i := meta("sluice-template", "team", "sluice-path", path)
		i.ID = id
		return i
	}
	list := []catalog.Instance{ask("a", "/b"), ask("b", "/a"), ask("c", "/b"), ask("d", "/../x"), {ID: "e"}}
	want := &catalog.OptIn{Service: "s", Template: "team", Path: "/b", Instances: 2, Problems: []catalog.OptInProblem{
		{Reason: `instances disagree: template "team", host "", path "/a", but 2 others ask for template "team", host "", path "/b"`, Instances: []string{"b"}, Count: 1},
		{Reason: `sluice-path "/../x": a path has no segments . and ..`, Instances: []string{"d"}, Count: 1},
	}}
	for range 20 { // the order of maps must not show
		if d := cmp.Diff(want, catalog.ReadOptIn("s", list)); d != "" {
			t.Fatal(d)
		}
	}
	if got := catalog.ReadOptIn("s", list[:2]); got.Path != "/a" {
		t.Errorf("of equally many the first: got %s", got.Path)
	}
}

func FuzzReadOptIn(f *testing.F) {
	f.Add("team", "/orders", "api.example", "sluice-path=/x", true)
	f.Add("a", "/../b", "A", "sluice", false)
	f.Add("", "%2e", "*.x", "sluice-template=", true)
	f.Fuzz(func(t *testing.T, template, path, host, tag string, tagged bool) {
		i := catalog.Instance{ID: "one", Meta: map[string]string{"sluice-template": template, "sluice-path": path, "sluice-host": host}}
		if tagged {
			i = tags("sluice", "sluice-template="+template, "sluice-path="+path, tag)
		}
		o := catalog.ReadOptIn("s", []catalog.Instance{i})
		if o == nil {
			t.Fatal("it asks, and nothing was read")
		}
		if (o.Template == "") != (len(o.Problems) == 1) {
			t.Fatalf("neither accepted nor refused: %+v", o)
		}
		for _, value := range []string{o.Template, o.Path, o.Host} {
			if strings.ToLower(value) != value || strings.Contains(value, "..") && strings.Contains(value, "/..") && strings.Contains(value+"/", "/../") ||
				strings.ContainsAny(value, " \t\r\n\x00%\\?#*(){}[]|^$+\"'<>:;,@&=!") || strings.Contains(value, "//") || len(value) > 253 {
				t.Fatalf("accepted %q", value)
			}
		}
		for _, p := range o.Problems {
			if len(p.Reason) > 1500 {
				t.Fatalf("a reason of %d characters", len(p.Reason))
			}
		}
	})
}

func TestReadOptIn_TheNameOfAService(t *testing.T) {
	for _, c := range []struct{ name, service, path, reason string }{
		{"a plain name", "menu", "", ""},
		{"capitals and _, with a path", "Menu_1.eu", "/team/menu", ""},
		{"capitals without a path", "Menu", "", "sluice-path is missing, and /Menu cannot stand for it"},
		{"what no name has", "menu (a+)+$", "/team/menu", "the name of a service that opts in"},
		{"dots", "..", "", "sluice-path is missing"},
		{"a slash", "team/../admin", "/team/menu", "the name of a service that opts in"},
		{"too long", strings.Repeat("m", 129), "/team/menu", "at most 128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			meta := map[string]string{catalog.MetaTemplate: "team"}
			if c.path != "" {
				meta[catalog.MetaPath] = c.path
			}
			o := catalog.ReadOptIn(c.service, []catalog.Instance{{ID: "a", Meta: meta}})
			switch {
			case c.reason == "" && len(o.Problems) > 0:
				t.Errorf("refused: %+v", o.Problems)
			case c.reason != "" && (len(o.Problems) != 1 || o.Template != "" || !strings.Contains(o.Problems[0].Reason, c.reason)):
				t.Errorf("%+v, want %q", o, c.reason)
			}
		})
	}
}

func TestOptIn_SinceWhen(t *testing.T) {
	at := func(id string, registered uint64, path string) catalog.Instance {
		return catalog.Instance{ID: id, Registered: registered, Meta: map[string]string{catalog.MetaTemplate: "team", catalog.MetaPath: path}}
	}
	first := catalog.ReadOptIn("menu", []catalog.Instance{at("a", 7, "/x"), at("b", 5, "/x"), at("c", 1, "/y")})
	if first.Path != "/x" || first.Since != 5 {
		t.Errorf("%+v: want that of the earliest that asks for the same", first)
	}
	next := catalog.ReadOptIn("menu", []catalog.Instance{at("d", 20, "/x")})
	if next.Follows(first); next.Since != 5 {
		t.Errorf("since %d: new instances took over what the old ones asked for", next.Since)
	}
	moved := catalog.ReadOptIn("menu", []catalog.Instance{at("d", 21, "/y")})
	if moved.Follows(next); moved.Since != 21 {
		t.Errorf("since %d: another path was asked for", moved.Since)
	}
}
