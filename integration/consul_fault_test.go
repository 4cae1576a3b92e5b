package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/control"
)

// ordersAndTemplate is a service that a policy names, beside what registers by itself.
var ordersAndTemplate = teamTemplate + fromConsul("orders", "orders", "") + routeTo("{match: /orders, to: orders}")

// startFaultSite has two instances of orders, and menu, which opted in.
func startFaultSite(t *testing.T, a *agents.Agent, change ...func(*consul.Config)) *consulSite {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		a.Register(instanceOf("orders", "orders-"+name, gateway.Echo(t, name)))
	}
	a.Register(optIn("menu", "menu", gateway.Echo(t, "menu"), "/team/menu"))
	s := startConsulSite(t, a, ordersAndTemplate, change...)
	s.reach("/orders", "a", "b")
	s.reach("/team/menu", "menu")
	return s
}

// heals checks that a change is seen again, and that nothing of the fault is left.
func (s *consulSite) heals(name string) {
	s.t.Helper()
	s.status("orders", "fresh", fresh)
	s.agent.Register(instanceOf("orders", "orders-"+name, gateway.Echo(s.t, name)))
	s.reach("/orders", "a", "b", name)
	s.agent.Deregister("orders-" + name)
	s.reach("/orders", "a", "b")
	s.isFreshStart()
}

func TestConsul_AgentKilledAndRestartedUnderLoad(t *testing.T) {
	s := startFaultSite(t, agents.Start(t, agents.Options{}))
	l := s.steady("/orders", "/team/menu")
	for n := range Amount(20) {
		s.agent.Kill()
		s.status("orders", "stale", stale)
		s.status("menu", "stale", stale)
		s.agent.Launch()
		s.agent.AwaitLeader()
		name := fmt.Sprintf("late-%d", n)
		s.agent.Register(optIn(name, name, gateway.Echo(t, name), "/team/"+name))
		s.reach("/team/"+name, name)
		s.status("orders", "fresh", fresh)
	}
	s.heals("c")
	l.end(t)
}

func TestConsul_NoLeader(t *testing.T) {
	cluster := agents.Cluster(t, agents.Options{})
	s := startFaultSite(t, cluster[0])
	l := s.steady("/orders", "/team/menu")
	for _, a := range cluster[1:] {
		a.Signal(syscall.SIGSTOP)
	}
	s.status("orders", "stale", stale)
	failed, since := s.metric("sluice_consul_errors_total", ""), time.Now()
	lasts := 5 * time.Second
	if os.Getenv("SLUICE_SOAK") != "" {
		lasts = 30 * time.Second
	}
	for time.Since(since) < lasts { // nothing is waited for: it is the load that must go on
		if status, _, _ := s.Get("/team/menu"); status != http.StatusOK {
			t.Fatalf("%d without a leader", status)
		}
		time.Sleep(20 * time.Millisecond)
	}
	const watches = 3 // orders, menu, and who opts in
	if n, most := s.metric("sluice_consul_errors_total", "")-failed, watches*(2*time.Since(since).Seconds()+5); n > most {
		t.Errorf("%v failed queries while there is no leader, at most %v are fine", n, most)
	}
	for _, a := range cluster[1:] {
		a.Signal(syscall.SIGCONT)
	}
	for _, a := range cluster {
		a.AwaitLeader()
	}
	s.heals("c")
	l.end(t)
}

func TestConsul_AgentCutOff(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	p := startProxy(t, a.Address)
	s := startFaultSite(t, a, func(c *consul.Config) { c.Address = p.address })
	l := s.steady("/orders", "/team/menu")
	for n, mode := range []proxyMode{swallows, breaks, swallows} {
		p.set(mode)
		s.status("orders", "stale", stale)
		late := fmt.Sprintf("late-%d", n)
		a.Register(optIn(late, late, gateway.Echo(t, late), "/team/"+late))
		p.set(breaks)
		p.set(passes)
		s.reach("/team/"+late, late)
	}
	s.heals("c")
	l.end(t)
}

func TestConsul_TokenRevokedAndRestored(t *testing.T) {
	a := agents.Start(t, agents.Options{ACL: true})
	created, _, err := a.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "sluice", Rules: `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	newToken := func() string {
		token, _, err := a.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: created.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return token.AccessorID
	}
	id := newToken()
	s := startFaultSite(t, a, func(c *consul.Config) { c.TokenFile = file })
	l := s.steady("/orders", "/team/menu")
	if _, err := a.Client.ACL().TokenDelete(id, nil); err != nil {
		t.Fatal(err)
	}
	a.Register(instanceOf("orders", "orders-late", gateway.Echo(t, "late"))) // wakes the query, which is refused then
	s.status("orders", "stale", stale)
	newToken()
	s.reach("/orders", "a", "b", "late")
	a.Deregister("orders-late")
	s.heals("c")
	l.end(t)
}

// twoAtOnce are options of an agent that is asked about a hundred services by two control planes at once, over HTTP/1.1.
var twoAtOnce = agents.Options{Settings: map[string]any{"limits": map[string]any{"http_max_conns_per_client": 1000}}}

// hundred registers services that opt in, so many of them by way of a node that can be taken away at once.
func hundred(t *testing.T, a *agents.Agent, n, elsewhere int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("svc-%d", i)
		r := optIn(name, name, gateway.Echo(t, name), "/team/"+name)
		if i >= elsewhere {
			a.Register(r)
			continue
		}
		_, err := a.Client.Catalog().Register(&api.CatalogRegistration{Node: "elsewhere", Address: "127.0.0.1", Service: &api.AgentService{
			ID: r.ID, Service: r.Name, Address: r.Address, Port: r.Port, Meta: r.Meta,
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestConsul_MassDeregistrationIsHeldUntilAnOperatorLetsGo(t *testing.T) {
	const all, gone = 100, 80
	a := agents.Start(t, twoAtOnce)
	hundred(t, a, all, gone)
	s := startConsulSite(t, a, teamTemplate)
	path := func(i int) string { return fmt.Sprintf("/team/svc-%d", i) }
	for i := range all {
		s.answers(path(i), http.StatusOK)
	}
	var living []string
	for i := gone; i < all; i++ {
		living = append(living, path(i))
	}
	l := s.steady(living...)
	if _, err := a.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "elsewhere"}, nil); err != nil {
		t.Fatal(err)
	}
	gateway.Eventually(t, "the loss is held", func() bool { return s.metric("sluice_consul_held_instances", "") == gone })
	for i := range all {
		s.answers(path(i), http.StatusOK)
	}
	if sum := s.source.Summary(); sum.FrozenUntil.IsZero() || !strings.Contains(sum.FrozenWhy, "shrank from 100 instances") {
		t.Errorf("%+v", sum)
	}
	if s.metric("sluice_consul_frozen", "") != 1 || !strings.Contains(s.log.String(), "frozen") {
		t.Error("neither metric nor log tell of the freeze")
	}
	if n, err := s.source.Release("svc-0"); n != 1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	s.answers(path(0), http.StatusServiceUnavailable)
	s.answers(path(1), http.StatusOK)
	if n, err := s.source.Release(""); n != gone-1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	for i := range gone {
		s.answers(path(i), http.StatusNotFound)
	}
	l.end(t)
	s.isFreshStart()
}

func TestConsul_AFlappingInstance(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	r := instanceOf("orders", "orders-flapping", gateway.Echo(t, "flapping"))
	r.Check = &api.AgentServiceCheck{CheckID: "flapping", TTL: "10m", Status: api.HealthPassing}
	a.Register(r)
	s := startFaultSiteWith(t, a, "flapping")
	l := s.steady("/orders", "/team/menu")
	before := s.metric("sluice_consul_updates_total", "")
	changes := Amount(300)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := range changes {
		<-tick.C
		if err := a.Client.Agent().UpdateTTL("flapping", "", []string{api.HealthCritical, api.HealthPassing}[n%2]); err != nil {
			t.Fatal(err)
		}
	}
	s.status("orders", "flapping", func(v consul.ServiceStatus) bool { return slices.Equal(v.Flapping, []string{"one/orders-flapping"}) })
	if n := s.metric("sluice_consul_updates_total", "") - before; n > 12 {
		t.Errorf("%d changes of an instance led to %v updates", changes, n)
	}
	s.reach("/orders", "a", "b")
	if err := a.Client.Agent().UpdateTTL("flapping", "", api.HealthPassing); err != nil {
		t.Fatal(err)
	}
	s.reach("/orders", "a", "b", "flapping") // once it has been steady for its time
	l.end(t)
	s.isFreshStart()
}

func startFaultSiteWith(t *testing.T, a *agents.Agent, more string) *consulSite {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		a.Register(instanceOf("orders", "orders-"+name, gateway.Echo(t, name)))
	}
	a.Register(optIn("menu", "menu", gateway.Echo(t, "menu"), "/team/menu"))
	s := startConsulSite(t, a, ordersAndTemplate, func(c *consul.Config) { c.Shield.FlapPin = 2 * time.Second })
	s.reach("/orders", "a", "b", more)
	s.reach("/team/menu", "menu")
	return s
}

func TestConsul_ServicesComeAndGo(t *testing.T) {
	const services = 100
	a := agents.Start(t, twoAtOnce)
	s := startFaultSite(t, a)
	backend := gateway.Echo(t, "churned")
	l := s.steady("/orders", "/team/menu")
	id := func(i, round int) string { return fmt.Sprintf("svc-%d-%d", i, round) }
	rounds := Amount(20)
	for round := range rounds {
		for _, i := range rand.Perm(services) {
			if round > 0 {
				a.Deregister(id(i, round-1))
			}
			name := fmt.Sprintf("svc-%d", i)
			a.Register(optIn(name, id(i, round), backend, "/team/"+name))
		}
	}
	for i := range services {
		s.answers(fmt.Sprintf("/team/svc-%d", i), http.StatusOK)
	}
	s.isFreshStart()
	for i := range 10 { // few enough to be no illness
		a.Deregister(id(i, rounds-1))
	}
	for i := range 10 {
		s.answers(fmt.Sprintf("/team/svc-%d", i), http.StatusNotFound)
	}
	l.end(t)
	s.isFreshStart()
}

// TestConsul_ServeRestartsWhileConsulIsAway is about the real program: neither it nor Consul is there for a while.
func TestConsul_ServeRestartsWhileConsulIsAway(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	a.Register(instanceOf("orders", "orders-a", gateway.Echo(t, "a")))
	a.Register(optIn("menu", "menu", gateway.Echo(t, "menu"), "/team/menu"))
	s := startServed(t, "--consul", a.Address)
	port := gateway.FreePort(t)
	text := strings.ReplaceAll(edge()+ordersAndTemplate, "$PORT", fmt.Sprintf("%d, address: 127.0.0.1", port))
	if _, err := s.client.Apply(context.Background(), admin.ApplyRequest{Request: control.Request{Set: objectsOf(t, text), Source: "test"}}); err != nil {
		t.Fatal(err)
	}
	s.startEnvoy()
	s.envoyIs("synced")
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	both := []string{"/orders", "/team/menu"}
	for _, path := range both {
		gateway.Eventually(t, path+" answers", func() bool { return statusOf(url+path) == http.StatusOK })
	}
	l := startLoad(t, url, 2, func(r *rand.Rand, get func(string) reply) string {
		if got := get(both[r.IntN(2)]); got.status != http.StatusOK {
			return got.String()
		}
		return ""
	})
	gateway.Eventually(t, "the catalog is saved", func() bool {
		saved, _ := os.ReadFile(filepath.Join(s.dir, "store.db.catalog"))
		return strings.Contains(string(saved), "orders-a") && strings.Contains(string(saved), "/team/menu")
	})
	says := func(want string, args ...string) {
		t.Helper()
		var out string
		gateway.Eventually(t, fmt.Sprintf("%v says %q", args, want), func() bool { out, _ = s.run(args...); return strings.Contains(out, want) })
	}
	verbose := func() string { return s.fetch(http.DefaultClient, "http://"+s.admin+"/readyz?verbose") }
	says("1/1     fresh", "catalog")
	if got := verbose(); !strings.Contains(got, "[+] consul: "+a.Address+", 2 services watched") {
		t.Error(got)
	}

	s.kill()
	a.Kill()
	for range Amount(20) {
		s.start()
		s.envoyIs("synced")
		says("live      as route team/menu", "why", "Registration/menu")
		s.kill()
	}
	s.start()
	s.envoyIs("synced")
	says("stale since", "catalog")
	says("usable, stale since", "why", "Service/orders")
	says("note: Consul "+a.Address, "envoys")
	if got := verbose(); !strings.Contains(got, "[!] consul: "+a.Address) || !strings.Contains(got, "see that the agent runs") || !strings.HasSuffix(got, "\nok\n") {
		t.Error(got)
	}
	if s.metric("sluice_consul_stale_services", "") != 2 {
		t.Error("the metric counts no stale services")
	}

	a.Launch()
	a.AwaitLeader()
	says("1/1     fresh", "catalog")
	a.Register(optIn("late", "late", gateway.Echo(t, "late"), "/team/late"))
	gateway.Eventually(t, "the new one answers", func() bool { return statusOf(url+"/team/late") == http.StatusOK })
	l.end(t)
	says("nothing was held", "catalog", "release", "--all")
	says("not watched", "catalog", "release", "nobody")
	says("no such object: Registration/nobody", "why", "registration", "nobody")
}

func statusOf(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
