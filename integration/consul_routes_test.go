package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/control"
)

func port(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// Nothing but Consul's own program is used from here on: a registration alone makes a path answer.
func TestConsul_ARegistrationAloneIsARoute(t *testing.T) {
	s := startConsulSite(t, agents.Start(t, agents.Options{}), teamTemplate)
	s.answers("/team/menu", http.StatusNotFound)
	register := func(id, address string) {
		s.command("services", "register", "-name=menu", "-id="+id, "-address=127.0.0.1", "-port="+port(t, address),
			"-meta=sluice-template=team", "-meta=sluice-path=/team/menu")
	}
	register("menu-a", gateway.Echo(t, "a"))
	s.reach("/team/menu/today", "a")
	register("menu-b", gateway.Echo(t, "b"))
	s.reach("/team/menu", "a", "b")
	if f := s.why("menu", control.FateLive); f.Route != "team/menu" || f.Path != "/team/menu" {
		t.Errorf("%+v", f)
	}

	s.command("services", "deregister", "-id=menu-a")
	s.reach("/team/menu", "b")
	s.command("services", "deregister", "-id=menu-b")
	s.answers("/team/menu", http.StatusServiceUnavailable)
	if _, _, header := s.Get("/team/menu"); header.Get("retry-after") != "10" {
		t.Errorf("retry-after is %q", header.Get("retry-after"))
	}
	s.why("menu", control.FateEmpty)
	s.answers("/team/menu", http.StatusNotFound)
	s.isFreshStart()

	register("menu-c", gateway.Echo(t, "c"))
	s.reach("/team/menu", "c")
}

func TestConsul_AServiceThatAPolicyNamesToo(t *testing.T) {
	s := startConsulSite(t, agents.Start(t, agents.Options{}), teamTemplate+fromConsul("menu", "menu", "")+routeTo("{match: /menu, to: menu}"))
	s.answers("/menu", http.StatusServiceUnavailable)
	s.agent.Register(optIn("menu", "menu-a", gateway.Echo(t, "a"), "/team/menu"))
	s.reach("/menu", "a")
	s.reach("/team/menu", "a")
	s.agent.Deregister("menu-a")
	s.answers("/team/menu", http.StatusServiceUnavailable)
	s.answers("/team/menu", http.StatusNotFound)
	s.answers("/menu", http.StatusServiceUnavailable)
}

func TestConsul_TagsAndOptingOutOfARoute(t *testing.T) {
	s := startConsulSite(t, agents.Start(t, agents.Options{}), teamTemplate)
	r := instanceOf("menu", "menu-a", gateway.Echo(t, "a"))
	r.Tags = []string{"sluice", "sluice-template=team", "sluice-path=/team/by-tag"}
	s.agent.Register(r)
	s.reach("/team/by-tag", "a")
	r.Tags[2] = "sluice-path=/team/moved"
	s.agent.Register(r)
	s.reach("/team/moved", "a")
	s.answers("/team/by-tag", http.StatusNotFound)
	r.Tags = nil
	s.agent.Register(r)
	s.answers("/team/moved", http.StatusNotFound)
}

func TestConsul_AFailedCheckTakesAnInstanceOut(t *testing.T) {
	s := startConsulSite(t, agents.Start(t, agents.Options{}), teamTemplate)
	for _, name := range []string{"a", "b"} {
		r := optIn("menu", "menu-"+name, gateway.Echo(t, name), "/team/menu")
		r.Check = &api.AgentServiceCheck{CheckID: "check-" + name, TTL: "10m", Status: api.HealthPassing}
		s.agent.Register(r)
	}
	s.reach("/team/menu", "a", "b")
	set := func(status string) {
		if err := s.agent.Client.Agent().UpdateTTL("check-a", "", status); err != nil {
			t.Fatal(err)
		}
	}
	set(api.HealthCritical)
	s.reach("/team/menu", "b")
	set(api.HealthPassing)
	s.reach("/team/menu", "a", "b")
	if err := s.agent.Client.Agent().EnableServiceMaintenance("menu-b", "repair"); err != nil {
		t.Fatal(err)
	}
	s.reach("/team/menu", "a")
}

func TestConsul_WeightsAndWhatNarrowsAService(t *testing.T) {
	a := agents.Start(t, agents.Options{Settings: map[string]any{"node_meta": map[string]any{"rack": "r1"}}})
	for n, name := range []string{"light", "heavy", "warned"} {
		r := instanceOf("orders", name, gateway.Echo(t, name))
		r.Tags, r.Meta = []string{name, "all"}, map[string]string{"version": fmt.Sprint(n)}
		r.Weights = &api.AgentWeights{Passing: map[string]int{"light": 1, "heavy": 9, "warned": 1}[name], Warning: 1}
		r.Check = &api.AgentServiceCheck{TTL: "10m", Status: map[bool]string{true: api.HealthWarning, false: api.HealthPassing}[name == "warned"]}
		a.Register(r)
	}
	var policies, rules strings.Builder
	for _, v := range []struct{ name, consul string }{
		{"two", "{service: orders, filter: '\"warned\" not in Service.Tags'}"},
		{"tagged", "{service: orders, tags: [heavy, all]}"},
		{"meta", "{service: orders, filter: 'Service.Meta.version == \"2\"'}"},
		{"rack", "{service: orders, filter: 'Node.Meta.rack == \"r1\"'}"},
		{"elsewhere", "{service: orders, filter: 'Node.Meta.rack == \"r2\"'}"},
		{"passing", "{service: orders, onlyPassing: true, near: _agent}"},
	} {
		policies.WriteString(fromConsul(v.name, v.consul, "  loadBalancing: {policy: roundRobin}"))
		rules.WriteString(fmt.Sprintf("\n    - {match: /%s, to: %s}", v.name, v.name))
	}
	s := startConsulSite(t, a, policies.String()+"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  rules:"+rules.String()+"\n")
	for path, want := range map[string][]string{
		"/two": {"heavy", "light"}, "/tagged": {"heavy"}, "/meta": {"warned"}, "/rack": {"heavy", "light", "warned"}, "/passing": {"heavy", "light"},
	} {
		s.reach(path, want...)
	}
	s.answers("/elsewhere", http.StatusServiceUnavailable)
	if got := tally(s.Gateway, 100, "/two", nil); got["heavy"] != 90 || got["light"] != 10 {
		t.Errorf("of weights 9 and 1 came %v", got)
	}
}

func TestConsul_WhatIsOutOfBoundsIsRefusedAndDisturbsNobody(t *testing.T) {
	const policies = "apiVersion: sluice/v1\nkind: RouteTemplate\nmetadata: {name: team}\nspec: {paths: [/team/*], hosts: [api.food.example, '*.team.example']}\n---\n" +
		"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: written}\nspec: {hosts: [api.food.example], match: /team/written/*, direct: {body: written}}\n"
	s := startConsulSite(t, agents.Start(t, agents.Options{}), policies)
	host := []string{"host", "api.food.example"}
	s.agent.Register(optIn("good", "good", gateway.Echo(t, "good"), "/team/good"))
	s.why("good", control.FateLive)
	gateway.Eventually(t, "the good one answers", func() bool { got, _, _ := s.Get("/team/good", host...); return got == http.StatusOK })
	before := s.Controller.Serving().Snapshots["edge"].Digest()

	long := strings.Repeat("x", 500)
	meta := func(template, path, host string) map[string]string {
		out := map[string]string{}
		for name, value := range map[string]string{catalog.MetaTemplate: template, catalog.MetaPath: path, catalog.MetaHost: host} {
			if value != "" {
				out[name] = value
			}
		}
		return out
	}
	for n, hostile := range []struct {
		name, service string
		meta          map[string]string
		tags          []string
		reason        string
	}{
		{"a path outside", "", meta("team", "/other", ""), nil, "not within /team/*"},
		{"a neighbour's beginning", "", meta("team", "/teams", ""), nil, "not within /team/*"},
		{"dots", "", meta("team", "/team/../admin", ""), nil, ". and .."},
		{"encoded dots", "", meta("team", "/team/%2e%2e/admin", ""), nil, "sluice-path"},
		{"another team's host", "", meta("team", "/team/x", "other.example"), nil, "not within api.food.example"},
		{"the host of a suffix", "", meta("team", "/team/x", "team.example"), nil, "not within"},
		{"a wildcard", "", meta("team", "/team/x", "*"), nil, "sluice-host"},
		{"a regular expression", "", meta("team", "/team/(a+)+$", ""), nil, "sluice-path"},
		{"a template in braces", "", meta("team", "/team/{x}", ""), nil, "sluice-path"},
		{"an asterisk", "", meta("team", "/team/*", ""), nil, "sluice-path"},
		{"a line break", "", meta("team", "/team/a\r\nx: y", ""), nil, "sluice-path"},
		{"512 characters", "", meta("team", "/team/"+long, ""), nil, "at most 200"},
		{"no such template", "", meta("nobody", "/team/x", ""), nil, `no RouteTemplate "nobody"`},
		{"a template's path", "", meta("../team", "/team/x", ""), nil, "sluice-template"},
		{"a word unknown", "", map[string]string{catalog.MetaTemplate: "team", "sluice-rewrite": "/x"}, nil, "not known"},
		{"tags that disagree", "", nil, []string{"sluice", "sluice-template=team", "sluice-path=/team/a", "sluice-path=/team/b"}, "twice"},
		{"a tag of 10,000 characters", "", nil, []string{"sluice", "sluice-template=team", "sluice-path=/team/" + strings.Repeat("y", 10_000)}, "at most 200"},
		{"a tag alone", "", nil, []string{"sluice"}, "sluice-template is missing"},
		{"a name that is no path", "Shop_1", meta("team", "", "api.food.example"), nil, "cannot stand for it"},
		{"a name that is no name", "shop (a+)+$", meta("team", "/team/x", ""), nil, "name of a service"},
		{"what is written already", "", meta("team", "/team/written", ""), nil, "written/written already has"},
		{"what another has", "", meta("team", "/team/good", ""), nil, "team/good already has"},
	} {
		t.Run(hostile.name, func(t *testing.T) {
			service := hostile.service
			if service == "" {
				service = fmt.Sprintf("hostile-%d", n)
			}
			r := instanceOf(service, service, "127.0.0.1:9")
			r.Meta, r.Tags = hostile.meta, hostile.tags
			s.agent.Register(r)
			f := s.why(service, control.FateRefused)
			text := f.Reason
			for _, p := range f.Problems {
				text += "; " + p.Reason
			}
			if !strings.Contains(text, hostile.reason) || len(text) > 400 {
				t.Errorf("reason: %s", text)
			}
		})
	}
	if after := s.Controller.Serving().Snapshots["edge"].Digest(); after != before {
		t.Error("what was refused changed what is published")
	}
	if status, body, _ := s.Get("/team/written/x", host...); status != http.StatusOK || body != "written" {
		t.Errorf("the written route: %d %s", status, body)
	}
	if n := s.metric("sluice_registrations", "refused") + s.metric("sluice_consul_refused_opt_ins", ""); n < 22 {
		t.Errorf("%v refused registrations are counted, want 22", n)
	}
	for _, text := range []string{"a registration was refused", "not within /team/*", "sluice-path"} {
		if !strings.Contains(s.log.String(), text) {
			t.Errorf("the log does not say %q", text)
		}
	}
	s.isFreshStart()
}

func TestConsul_OfTwoThatAskForTheSameTheEarlierHasIt(t *testing.T) {
	s := startConsulSite(t, agents.Start(t, agents.Options{}), teamTemplate)
	s.agent.Register(optIn("zebra", "zebra", gateway.Echo(t, "zebra"), "/team/shop"))
	s.reach("/team/shop", "zebra")
	s.agent.Register(optIn("ant", "ant", gateway.Echo(t, "ant"), "/team/shop"))
	s.why("ant", control.FateRefused)
	s.reach("/team/shop", "zebra")
	s.isFreshStart()
	s.agent.Deregister("zebra")
	s.answers("/team/shop", http.StatusServiceUnavailable)
	s.reach("/team/shop", "ant") // when the time of the first is over
}
