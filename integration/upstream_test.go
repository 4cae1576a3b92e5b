package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// instance is one instance of a service, which can be made to misbehave.
type instance struct {
	name, address string
	status        atomic.Int32 // of its answers; 0 hangs until the request is given up, -1 breaks the connection off
	health        atomic.Int32 // of its answers to /healthz
	requests      atomic.Int64
	checks        atomic.Int64 // those to /healthz since health was set
}

func startInstance(t *testing.T, name string) *instance {
	i := &instance{name: name}
	i.status.Store(http.StatusOK)
	i.health.Store(http.StatusOK)
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.address = s.Listener.Addr().String()
	return i
}

func startInstances(t *testing.T, names ...string) []*instance {
	var out []*instance
	for _, name := range names {
		out = append(out, startInstance(t, name))
	}
	return out
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		i.checks.Add(1)
		w.WriteHeader(int(i.health.Load()))
		return
	}
	i.requests.Add(1)
	w.Header().Set("x-instance", i.name)
	switch status := int(i.status.Load()); status {
	case 0:
		<-r.Context().Done()
	case -1:
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(status)
	}
}

// sick changes what the instance answers to health checks.
func (i *instance) sick(status int) {
	i.health.Store(int32(status))
	i.checks.Store(0)
}

// dead is the address of an instance that is not there.
func dead(t *testing.T) string { return "127.0.0.1:" + strconv.Itoa(gateway.FreePort(t)) }

func addresses(instances ...*instance) string {
	var out []string
	for _, i := range instances {
		out = append(out, i.address)
	}
	return strings.Join(out, ", ")
}

func total(instances []*instance) (n int64) {
	for _, i := range instances {
		n += i.requests.Load()
	}
	return n
}

// service is a Service document.
func service(name, endpoints, blocks string) string {
	return fmt.Sprintf("apiVersion: sluice/v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  endpoints: [%s]\n%s\n---\n", name, endpoints, blocks)
}

// routeTo is a Route document, api, with these rules.
func routeTo(rules ...string) string {
	return "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  rules:\n    - " + strings.Join(rules, "\n    - ") + "\n"
}

// tally counts who answers n requests, by instance; "" for answers of the gateway itself.
func tally(g *gateway.Gateway, n int, path string, headers func(i int) []string) map[string]int {
	out := map[string]int{}
	for i := range n {
		var h []string
		if headers != nil {
			h = headers(i)
		}
		_, _, answer := g.Get(path, h...)
		out[answer.Get("x-instance")]++
	}
	return out
}

func users(i int) []string { return []string{"x-user", "user-" + strconv.Itoa(i)} }

func TestLoadBalancing_SpreadsByPolicyAndWeight(t *testing.T) {
	all := startInstances(t, "heavy", "a", "b")
	endpoints := fmt.Sprintf("{address: %q, weight: 2}, %s", all[0].address, addresses(all[1:]...))
	g := gateway.Start(t, map[string]string{"policy.yaml": service("default", endpoints, "") +
		service("turn", endpoints, "  loadBalancing: {policy: roundRobin}") +
		service("least", endpoints, "  loadBalancing: {policy: leastRequest, choiceCount: 3}") +
		service("random", endpoints, "  loadBalancing: {policy: random}") +
		service("ring", endpoints, "  loadBalancing: {policy: ringHash, hashOn: {header: X-User}}") +
		service("maglev", endpoints, "  loadBalancing: {hashOn: {header: X-User}}") +
		routeTo("{match: /default, to: default}", "{match: /turn, to: turn}", "{match: /least, to: least}", "{match: /random, to: random}", "{match: /ring, to: ring}", "{match: /maglev, to: maglev}")})
	const n = 200
	for _, c := range []struct {
		name               string
		heavyMin, heavyMax int // of n requests; the fair share is half, or a third where weights mean nothing
	}{
		{"default", 95, 105}, {"turn", 95, 105}, {"least", 95, 105}, {"random", 35, 98}, {"ring", 50, 150}, {"maglev", 50, 150},
	} {
		got := tally(g, n, "/"+c.name, users)
		if got["heavy"] < c.heavyMin || got["heavy"] > c.heavyMax || got["a"] < n/10 || got["b"] < n/10 || got[""] > 0 {
			t.Errorf("%s: of %d requests %v, want %d to %d on heavy", c.name, n, got, c.heavyMin, c.heavyMax)
		}
	}
}

func TestLoadBalancing_StaysWithOneInstance(t *testing.T) {
	all := startInstances(t, "a", "b", "c")
	endpoints := addresses(all...)
	g := gateway.Start(t, map[string]string{"policy.yaml": service("header", endpoints, "  loadBalancing: {hashOn: {header: x-user}}") +
		service("query", endpoints, "  loadBalancing: {policy: ringHash, hashOn: {query: user}}") +
		service("address", endpoints, "  loadBalancing: {hashOn: {address: true}}") +
		service("ours", endpoints, "  loadBalancing: {hashOn: {cookie: {name: sluice, ttl: 1h}}}") +
		service("theirs", endpoints, "  loadBalancing: {hashOn: {cookie: {name: session}}}") +
		routeTo("{match: /header, to: header}", "{match: /query, to: query}", "{match: /address, to: address}", "{match: /ours, to: ours}", "{match: /theirs, to: theirs}")})
	for _, c := range []struct {
		name   string
		ask    func(user int) (path string, headers []string)
		spread bool // different users reach different instances
	}{
		{"header", func(u int) (string, []string) { return "/header", users(u) }, true},
		{"query", func(u int) (string, []string) { return "/query?x=1&user=" + strconv.Itoa(u), nil }, true},
		{"address", func(int) (string, []string) { return "/address", nil }, false},
		{"theirs", func(u int) (string, []string) { return "/theirs", []string{"cookie", "session=" + strconv.Itoa(u)} }, true},
	} {
		reached := map[string]bool{}
		for user := range 20 {
			path, headers := c.ask(user)
			got := tally(g, 5, path, func(int) []string { return headers })
			if len(got) != 1 {
				t.Errorf("%s: one user reached %v", c.name, got)
			}
			for name := range got {
				reached[name] = true
			}
		}
		if c.spread != (len(reached) > 1) {
			t.Errorf("%s: 20 users reached %v", c.name, reached)
		}
	}
	if _, _, answer := g.Get("/theirs"); answer.Get("set-cookie") != "" {
		t.Errorf("a cookie of the service was set: %s", answer.Get("set-cookie"))
	}
	reached := map[string]bool{}
	for range 20 {
		_, _, first := g.Get("/ours")
		cookie, attributes, _ := strings.Cut(first.Get("set-cookie"), ";")
		if !strings.HasPrefix(cookie, "sluice=") || !strings.Contains(attributes, "Max-Age=3600") || !strings.Contains(attributes, "Path=/") {
			t.Fatalf("set-cookie is %q", first.Get("set-cookie"))
		}
		reached[first.Get("x-instance")] = true
		got := tally(g, 5, "/ours", func(int) []string { return []string{"cookie", cookie} })
		if got[first.Get("x-instance")] != 5 {
			t.Errorf("with %s first %s, then %v", cookie, first.Get("x-instance"), got)
		}
	}
	if len(reached) < 2 {
		t.Errorf("20 new clients all reached %v", reached)
	}
}

func TestTargets_SplitByWeightAndCanaryByHeader(t *testing.T) {
	all := startInstances(t, "stable", "next", "off")
	g := gateway.Start(t, map[string]string{"policy.yaml": service("stable", all[0].address, "") + service("next", all[1].address, "") + service("off", all[2].address, "") +
		routeTo("{name: split, match: /split, to: [{service: stable, weight: 80}, {service: next, weight: 20}, {service: off, weight: 0}]}",
			"{name: shop, match: /shop, to: stable}",
			"{name: canary, match: {path: /shop, headers: {x-canary: always}}, to: next}")})
	const n = 500 // 100 expected on next, with a standard deviation of 9
	if got := tally(g, n, "/split", nil); got["next"] < 50 || got["next"] > 150 || got["off"] > 0 || got["stable"]+got["next"] != n {
		t.Errorf("of %d requests %v, want about a fifth on next", n, got)
	}
	for _, c := range []struct{ value, want string }{{"always", "next"}, {"never", "stable"}, {"", "stable"}} {
		got := tally(g, 10, "/shop", func(int) []string {
			if c.value == "" {
				return nil
			}
			return []string{"x-canary", c.value}
		})
		if got[c.want] != 10 {
			t.Errorf("x-canary %q: %v, want %s", c.value, got, c.want)
		}
	}
}
