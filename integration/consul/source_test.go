package consul_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog/saved"
)

var orders = catalog.Key{Service: "orders"}

func TestSource_FollowsRegistrationsAndChecks(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	w := watch(t, config(a.Address), orders, catalog.Key{Service: "absent"})
	w.until("the first send is complete", func() bool { return len(w.view.Services()) == 2 })
	if w.sends != 1 {
		t.Errorf("complete after %d sends, want 1", w.sends)
	}

	first := registration("orders", 1)
	first.Tags, first.Meta, first.Weights = []string{"v2"}, map[string]string{"version": "2"}, &api.AgentWeights{Passing: 7, Warning: 3}
	first.Check = &api.AgentServiceCheck{CheckID: "orders-1", TTL: "10m", Status: api.HealthPassing}
	a.Register(first)
	w.untilUsable(orders, "orders-1")
	s, _ := w.view.Get(orders)
	want := []catalog.Instance{{
		ID: "one/orders-1", Address: "127.0.0.1", Port: 20001, Weight: 7, Health: catalog.Passing, Meta: map[string]string{"version": "2"},
		Tags: []string{"v2"}, Node: "one", Datacenter: "dc1", NodeMeta: s.Instances[0].NodeMeta,
		Registered: s.Instances[0].Registered,
	}}
	if d := cmp.Diff(want, s.Instances); d != "" {
		t.Error(d)
	}

	second := registration("orders", 2)
	second.Address = "::ffff:127.0.0.2"
	a.Register(second)
	w.untilUsable(orders, "orders-1", "orders-2")
	if s, _ := w.view.Get(orders); s.Instances[1].Address != "127.0.0.2" {
		t.Errorf("address %s is not in its canonical form", s.Instances[1].Address)
	}

	health := func(want catalog.Health, weight uint32) func() bool {
		return func() bool {
			s, _ := w.view.Get(orders)
			return s.Instances[0].Health == want && s.Instances[0].Weight == weight
		}
	}
	for _, step := range []struct {
		status string
		health catalog.Health
		weight uint32
	}{{api.HealthWarning, catalog.Warning, 3}, {api.HealthCritical, catalog.Critical, 7}, {api.HealthPassing, catalog.Passing, 7}} {
		if err := a.Client.Agent().UpdateTTL("orders-1", "", step.status); err != nil {
			t.Fatal(err)
		}
		w.until("the check is "+step.status, health(step.health, step.weight))
	}
	a.Deregister("orders-1")
	w.untilUsable(orders, "orders-2")
	a.Deregister("orders-2")
	w.untilUsable(orders)
}

func TestSource_KeysNarrow(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	for n, tags := range [][]string{{"v1"}, {"v2", "eu"}, {"v2"}} {
		r := registration("orders", n)
		r.Tags = tags
		if n == 2 {
			r.Check = &api.AgentServiceCheck{TTL: "10m", Status: api.HealthCritical}
			r.Meta = map[string]string{"size": "large"}
		}
		a.Register(r)
	}
	tagged := catalog.Key{Service: "orders", Tags: catalog.TagsOf("v2", "eu")}
	filtered := catalog.Key{Service: "orders", Filter: `Service.Meta.size == "large"`}
	passing := catalog.Key{Service: "orders", OnlyPassing: true, Near: "_agent"}
	elsewhere := catalog.Key{Service: "orders", Datacenter: "dc1"}
	w := watch(t, config(a.Address), tagged, filtered, passing, elsewhere)
	w.untilUsable(tagged, "orders-1")
	w.untilUsable(passing, "orders-0", "orders-1")
	w.until("the filter chose one", func() bool { s, _ := w.view.Get(filtered); return len(s.Instances) == 1 })
	w.untilUsable(elsewhere, "orders-0", "orders-1")

	w.wanted <- []catalog.Key{orders, tagged}
	w.untilUsable(orders, "orders-0", "orders-1")
	if n := len(w.source.Status()); n != 2 {
		t.Errorf("%d services are watched, want 2", n)
	}
}

func TestSource_AddressesThatCannotBe(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	for n, address := range []string{"localhost", "169.254.169.254", "fe80::1", "no such.host!", "nowhere.invalid", "", "::1"} {
		r := registration("orders", n)
		r.Address = address
		a.Register(r)
	}
	portless := registration("orders", 9)
	portless.Port = 0
	a.Register(portless)
	w := watch(t, config(a.Address), orders)
	w.until("names were looked up", func() bool { s, _ := w.view.Get(orders); return len(s.Instances) >= 3 })
	s, _ := w.view.Get(orders)
	for _, i := range s.Instances {
		if i.Address != "127.0.0.1" && i.Address != "::1" {
			t.Errorf("%s has the address %s", i.ID, i.Address)
		}
	}
	if problems := w.source.Status()[0].Problems; len(problems) != 5 {
		t.Errorf("problems: %q", problems)
	}
}

func TestSource_OptIns(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(a.Address)
	c.Discover, c.Linger = true, 300*time.Millisecond
	a.Register(registration("plain", 1))
	w := watch(t, c)
	w.until("the first send is there", func() bool { return w.sends > 0 || len(w.view.Services()) == 0 })

	menu, tagged := catalog.Key{Service: "menu"}, catalog.Key{Service: "tagged"}
	r := registration("menu", 1)
	r.Meta = map[string]string{catalog.MetaTemplate: "team", catalog.MetaPath: "/menu", catalog.MetaHost: "api.food.example"}
	a.Register(r)
	w.until("menu opted in", func() bool { s, _ := w.view.Get(menu); return s.OptIn != nil && len(s.Instances) == 1 })
	s, _ := w.view.Get(menu)
	if d := cmp.Diff(&catalog.OptIn{Service: "menu", Template: "team", Path: "/menu", Host: "api.food.example", Instances: 1, Since: s.OptIn.Since}, s.OptIn); d != "" {
		t.Error(d)
	}
	r = registration("tagged", 1)
	r.Tags = []string{"sluice", "sluice-template=team", "sluice-path=/../admin"}
	a.Register(r)
	w.until("tagged was refused", func() bool { s, _ := w.view.Get(tagged); return s.OptIn != nil && len(s.OptIn.Problems) == 1 })

	a.Deregister("menu-1")
	w.until("menu is empty, its route kept", func() bool { s, ok := w.view.Get(menu); return ok && len(s.Instances) == 0 && s.OptIn != nil })
	w.until("menu is gone", func() bool { _, ok := w.view.Get(menu); return !ok })
	a.Register(registration("tagged", 1)) // again, without tags
	w.until("tagged is gone", func() bool { _, ok := w.view.Get(tagged); return !ok })
	if _, ok := w.view.Get(catalog.Key{Service: "plain"}); ok {
		t.Error("plain is reported, which nobody wants")
	}
}

func TestSource_SurvivesConsulAndItsOwnRestart(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	file := saved.NewFile(filepath.Join(t.TempDir(), "services.json"))
	c := config(a.Address)
	c.Saver, c.Discover, c.FirstWait = file, true, 500*time.Millisecond
	r := registration("menu", 1)
	r.Meta = map[string]string{catalog.MetaTemplate: "team"}
	a.Register(r)
	a.Register(registration("orders", 1))
	w := watch(t, c, orders)
	w.untilUsable(orders, "orders-1")
	menu := catalog.Key{Service: "menu"}
	w.untilUsable(menu, "menu-1")

	a.Kill()
	w.untilStatus(orders, "stale", func(s consul.ServiceStatus) bool { return s.Error != "" && s.Usable == 1 && s.Staleness > 0 })
	w.stop()
	again := watch(t, c, orders)
	again.untilUsable(orders, "orders-1")
	again.untilUsable(menu, "menu-1")
	if s, _ := again.view.Get(orders); !s.Stale {
		t.Error("not marked as stale")
	}
	a.Launch()
	again.untilStatus(orders, "fresh", func(s consul.ServiceStatus) bool { return s.Error == "" && s.Staleness == 0 })
	a.Register(registration("orders", 2))
	again.untilUsable(orders, "orders-1", "orders-2")
}

func TestSource_AgentKilledAndRestarted(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	a.Register(registration("orders", 0))
	w := watch(t, config(a.Address), orders)
	w.untilUsable(orders, "orders-0")
	for n := 1; n <= amount(20); n++ {
		a.Kill()
		w.untilStatus(orders, "stale, and served", func(s consul.ServiceStatus) bool { return s.Error != "" && s.Usable == 1 })
		a.Launch()
		a.AwaitLeader()
		w.untilStatus(orders, "fresh", func(s consul.ServiceStatus) bool { return s.Error == "" })
		if got := w.usable(orders); len(got) != 1 {
			t.Fatalf("after restart %d: %v", n, got)
		}
	}
	a.Register(registration("orders", 1))
	w.untilUsable(orders, "orders-0", "orders-1")
}

func TestSource_TokenRevokedAndRestored(t *testing.T) {
	a := agent.Start(t, agent.Options{ACL: true})
	rules := `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`
	policy, _, err := a.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "sluice", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	create := func() *api.ACLToken {
		token, _, err := a.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := create()
	c := config(a.Address)
	c.Wait = 2 * time.Second // a waiting query does not notice that rights are taken away
	c.TokenFile = filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(c.TokenFile, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token.SecretID)
	for n := range 3 {
		a.Register(registration("orders", n))
	}
	w := watch(t, c, orders)
	w.untilUsable(orders, "orders-0", "orders-1", "orders-2")

	if _, err := a.Client.ACL().TokenDelete(token.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	a.Deregister("orders-0") // the waiting query wakes, and is refused
	w.untilStatus(orders, "refused", func(s consul.ServiceStatus) bool { return s.Error != "" && s.Usable == 3 })
	write(create().SecretID)
	w.untilUsable(orders, "orders-1", "orders-2")

	t.Run("rights taken away", func(t *testing.T) {
		policy.Rules = `node_prefix "" { policy = "read" }`
		if _, _, err := a.Client.ACL().PolicyUpdate(policy, nil); err != nil {
			t.Fatal(err)
		}
		a.Register(registration("orders", 3))
		w.untilStatus(orders, "refused", func(s consul.ServiceStatus) bool { return s.Error != "" && s.Usable == 2 })
		policy.Rules = rules
		if _, _, err := a.Client.ACL().PolicyUpdate(policy, nil); err != nil {
			t.Fatal(err)
		}
		w.untilUsable(orders, "orders-1", "orders-2", "orders-3")
	})
}
