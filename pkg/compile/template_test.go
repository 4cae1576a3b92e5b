package compile_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const templates = `
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: 8080}], timeout: 9s}
---
apiVersion: sluice/v1
kind: RouteTemplate
metadata: {name: team-a}
spec:
  paths: [/team-a/*]
  timeout: 3s
  loadBalancing: {policy: roundRobin}
---
apiVersion: sluice/v1
kind: RouteTemplate
metadata: {name: hosts}
spec: {hosts: [api.example.com, "*.apps.example.com"], paths: [/*]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: written}
spec: {match: /team-a/taken/*, direct: {}}
`

func objects(t *testing.T, text string) []policy.Object {
	t.Helper()
	var p policy.Problems
	out, _ := policy.Split("policy.yaml", text, "test", &p)
	if p.Failed() {
		t.Fatal(p.Render())
	}
	return out
}

func TestRegistrations(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  []compile.Registration
		want []string // route, or reason, by service
	}{
		{"within the bounds", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-a/menu"}}, []string{"team-a/menu"}},
		{"the prefix itself", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-a"}}, []string{"team-a/menu"}},
		{"another's path", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-b/menu"}}, []string{`path "/team-b/menu" is not within /team-a/*`}},
		{"a path that only begins alike", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-ab"}}, []string{`path "/team-ab" is not within /team-a/*`}},
		{"no path", []compile.Registration{{Service: "menu", Template: "hosts"}}, []string{"hosts/menu"}},
		{"no path, and none that fits", []compile.Registration{{Service: "menu", Template: "team-a"}}, []string{`path "/menu" is not within /team-a/*`}},
		{"a host of the wildcard", []compile.Registration{{Service: "menu", Template: "hosts", Host: "x.apps.example.com"}}, []string{"hosts/menu"}},
		{"another's host", []compile.Registration{{Service: "menu", Template: "hosts", Host: "www.example.com"}}, []string{`host "www.example.com" is not within api.example.com, *.apps.example.com`}},
		{"a host where none may be chosen", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-a/x", Host: "x.example.com"}}, []string{`host "x.example.com" is not within the template, which names none`}},
		{"no such template", []compile.Registration{{Service: "menu", Template: "team-b"}}, []string{`there is no RouteTemplate "team-b"`}},
		{"a written Route wins", []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-a/taken"}}, []string{`written/written already has /team-a/taken`}},
		{
			"the earlier of two has it",
			[]compile.Registration{{Service: "a", Template: "team-a", Path: "/team-a/x", Since: 9}, {Service: "b", Template: "team-a", Path: "/team-a/x", Since: 5}},
			[]string{"team-a/b already has /team-a/x", "team-a/b"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems, statuses := compile.New(all.Features()).CompileWith(objects(t, templates), compile.Further{Registrations: c.ask})
			if problems.Failed() {
				t.Fatal(problems.Render())
			}
			var got []string
			for _, s := range statuses {
				got = append(got, s.Route+s.Reason)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRegistrations_HaveTheTemplatesBlocksAndAClusterOfTheirOwn(t *testing.T) {
	compiler := compile.New(all.Features())
	ask := []compile.Registration{{Service: "menu", Template: "team-a", Path: "/team-a/menu"}}
	config, _, _ := compiler.CompileWith(objects(t, templates), compile.Further{Registrations: ask})
	g := config.Gateways[0]
	if len(g.Clusters) != 1 || g.Clusters[0].Name != "team-a/menu" || g.Clusters[0].Discovery == nil || g.Clusters[0].Discovery.Service != "menu" {
		t.Fatalf("clusters %+v", g.Clusters)
	}
	r := g.Find(model.Request{Method: "GET", Path: "/team-a/menu/7"})
	if r == nil || r.Name != "team-a/menu" || r.Backends[0].Cluster != "team-a/menu" {
		t.Fatalf("route %+v", r)
	}
	for _, a := range r.Attachments {
		if a.Feature == "timeout" && fmt.Sprint(a.Spec) != "&{3s 0s}" {
			t.Errorf("timeout %v", a.Spec)
		}
	}
	again, _, _ := compiler.CompileWith(objects(t, templates), compile.Further{Registrations: ask})
	if again.Gateways[0].Clusters[0] != g.Clusters[0] {
		t.Error("compiled anew although nothing changed")
	}
	ask[0].Empty = true
	gone, _, _ := compiler.CompileWith(objects(t, templates), compile.Further{Registrations: ask})
	if r := gone.Gateways[0].Find(model.Request{Method: "GET", Path: "/team-a/menu/7"}); r == nil || !r.Unavailable || r.RetryAfter == 0 {
		t.Errorf("without instances the route is %+v", r)
	}
}
