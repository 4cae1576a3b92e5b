package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// send sends n requests and counts the answers by status.
func send(g *gateway.Gateway, n int, method, path string) map[int]int {
	out := map[int]int{}
	for range n {
		status, _, _ := g.Do(method, path, nil)
		out[status]++
	}
	return out
}

// stat is the value of one of Envoy's counters and gauges; -1 when there is none.
func stat(g *gateway.Gateway, name string) int {
	for _, line := range strings.Split(g.Admin("/stats?filter=^"+name+"$"), "\n") {
		var value int
		if rest, ok := strings.CutPrefix(line, name+": "); ok {
			if _, err := fmt.Sscan(rest, &value); err == nil {
				return value
			}
		}
	}
	return -1
}

// reached tells whether an instance gets any of so many requests that it must when it is in use.
func reached(g *gateway.Gateway, i *instance, path string) bool {
	before := i.requests.Load()
	for range 12 {
		g.Get(path)
	}
	return i.requests.Load() > before
}

func TestHealthCheck_TakesASickInstanceOutAndBack(t *testing.T) {
	all := startInstances(t, "a", "b", "c")
	const check = "  loadBalancing: {policy: roundRobin}\n  healthCheck: {http: {path: /healthz}, interval: 100ms, unhealthyAfter: 3, healthyAfter: 1%s}"
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", addresses(all...), fmt.Sprintf(check, "")) +
		service("strict", addresses(all...), fmt.Sprintf(check, ", panicBelow: 0%")) +
		routeTo("{match: /orders, to: orders}", "{match: /strict, to: strict}")})
	sick := all[1]
	sick.sick(http.StatusServiceUnavailable)
	gateway.Eventually(t, "the sick instance is out", func() bool { return stat(g, "cluster.orders.membership_healthy") == 2 })
	if n := sick.checks.Load(); n < 3 { // both services ask: three each, at least
		t.Errorf("out after %d failed checks; unhealthyAfter is 3", n)
	}
	if reached(g, sick, "/orders") {
		t.Error("a sick instance got a request")
	}
	sick.sick(http.StatusOK)
	gateway.Eventually(t, "the instance is back", func() bool { return reached(g, sick, "/orders") })

	for _, i := range all {
		i.sick(http.StatusInternalServerError)
	}
	for _, name := range []string{"orders", "strict"} {
		gateway.Eventually(t, "all are sick at "+name, func() bool { return stat(g, "cluster."+name+".membership_healthy") == 0 })
	}
	gateway.Eventually(t, "none is healthy, so all are used", func() bool { return send(g, 6, "GET", "/orders")[200] == 6 })
	gateway.Eventually(t, "panicBelow: 0% uses none", func() bool { return send(g, 6, "GET", "/strict")[503] == 6 })
}

func TestEjection_AFailingInstanceIsOutForAWhile(t *testing.T) {
	all := startInstances(t, "a", "b", "c")
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", addresses(all...),
		"  loadBalancing: {policy: roundRobin}\n  retry: {retries: 0}\n  circuitBreaker: {eject: {consecutiveErrors: 3, for: 2s}}") +
		service("lost", addresses(all[:2]...)+", "+dead(t),
			"  loadBalancing: {policy: roundRobin}\n  retry: {retries: 0}\n  circuitBreaker: {eject: {consecutiveErrors: 3, for: 1m}}") +
		routeTo("{match: /orders, to: orders}", "{match: /lost, to: lost}")})
	bad := all[2]
	bad.status.Store(http.StatusServiceUnavailable)
	failed := 0
	gateway.Eventually(t, "the failing instance is ejected", func() bool {
		failed += send(g, 1, "GET", "/orders")[503]
		return stat(g, "cluster.orders.outlier_detection.ejections_active") == 1
	})
	if failed != 3 {
		t.Errorf("%d requests failed before the ejection, want 3", failed)
	}
	bad.status.Store(http.StatusOK)
	gateway.Eventually(t, "it is back after its time", func() bool { return reached(g, bad, "/orders") })

	if got := send(g, 9, "GET", "/lost"); got[503] != 3 {
		t.Errorf("of an instance that is gone: %v, want 3 failures", got)
	}
	if got := send(g, 60, "GET", "/lost"); got[200] != 60 {
		t.Errorf("after the ejection requests are lost: %v", got)
	}
}

func TestEjection_TriesThatTakeTooLongCount(t *testing.T) {
	all := startInstances(t, "a", "b", "slow")
	all[2].status.Store(0)
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", addresses(all...),
		"  loadBalancing: {policy: roundRobin}\n  retry: {on: [timeout], perTryTimeout: 100ms, retries: 2}\n  circuitBreaker: {eject: {consecutiveErrors: 2, for: 5m}}") +
		routeTo("{match: /orders, to: orders}")})
	gateway.Eventually(t, "the slow instance is ejected", func() bool {
		if got := send(g, 1, "GET", "/orders"); got[200] != 1 {
			t.Fatalf("a client saw %v", got)
		}
		return stat(g, "cluster.orders.outlier_detection.ejections_active") == 1
	})
	before := all[2].requests.Load()
	if send(g, 20, "GET", "/orders"); all[2].requests.Load() != before {
		t.Error("the slow instance still gets requests")
	}
}

func TestRetry_GoesToAnotherInstance(t *testing.T) {
	all := startInstances(t, "a", "b", "bad")
	bad := all[2]
	blocks := "  loadBalancing: {policy: roundRobin}\n"
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", addresses(all...), blocks+"  retry: {on: [5xx]}") +
		service("repeats", addresses(all...), blocks+"  retry: {on: [reset, 503], methods: [POST]}") +
		service("bounded", addresses(all...), blocks+"  retry: {on: [503]}\n  circuitBreaker: {maxRetries: 0}") +
		routeTo("{match: /mixed, to: orders}", "{match: POST /post, to: orders}", "{match: GET /get, to: orders}", "{match: /repeats, to: repeats}", "{match: /bounded, to: bounded}")})
	const n = 30
	for _, c := range []struct {
		name         string
		status       int32 // of the bad one
		method, path string
		lost         bool // a third of the requests fail, and none is sent twice
	}{
		{"a GET after 503", 503, "GET", "/mixed", false},
		{"a GET after a reset", -1, "GET", "/get", false},
		{"a PUT after 500", 500, "PUT", "/mixed", false},
		{"a POST after 503", 503, "POST", "/mixed", true},
		{"a POST after a reset", -1, "POST", "/mixed", true},
		{"a POST after 500, on a route of its own", 500, "POST", "/post", true},
		{"a PATCH after 503", 503, "PATCH", "/mixed", true},
		{"a POST that may be repeated, after 503", 503, "POST", "/repeats", false},
		{"a POST that may be repeated, after a reset", -1, "POST", "/repeats", false},
		{"a PATCH where POST may be repeated", 503, "PATCH", "/repeats", true},
		{"a GET when no retry may be under way", 503, "GET", "/bounded", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad.status.Store(c.status)
			before := total(all)
			got, sent := send(g, n, c.method, c.path), total(all)-before
			switch {
			case c.lost && (got[200] != n*2/3 || sent != total(all)-before || sent != n):
				t.Errorf("%v after %d tries; want two thirds to be fine, and %d tries", got, sent, n)
			case !c.lost && (got[200] != n || sent <= n):
				t.Errorf("%v after %d tries; want all to be fine, and retries", got, sent)
			}
		})
	}
}

func TestRetry_WithoutABlockRequestsThatNobodySawAreTriedAgain(t *testing.T) {
	all := startInstances(t, "a", "b")
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", addresses(all...)+", "+dead(t), "") +
		service("never", addresses(all...)+", "+dead(t), "  loadBalancing: {policy: roundRobin}\n  retry: {retries: 0}") +
		routeTo("{match: /orders, to: orders}", "{match: /never, to: never}")})
	for _, method := range []string{"POST", "GET"} {
		before := total(all)
		if got := send(g, 45, method, "/orders"); got[200] != 45 || total(all)-before != 45 {
			t.Errorf("%s with one of three instances gone: %v, %d seen", method, got, total(all)-before)
		}
	}
	if got := send(g, 9, "GET", "/never"); got[503] != 3 {
		t.Errorf("with retries: 0 %v, want 3 failures", got)
	}
}

func TestRetry_ATryIsGivenUpOnlyWhereAnotherMayFollow(t *testing.T) {
	slow := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(400 * time.Millisecond): // longer than a try may take
			w.WriteHeader(http.StatusCreated)
		case <-r.Context().Done():
		}
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", slow, "  retry: {on: [timeout], perTryTimeout: 100ms}") +
		routeTo("{match: /orders, to: orders}", "{match: /short, to: orders, timeout: 50ms, retry: {retries: 0}}")})
	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "/orders", 504}, {"POST", "/orders", 201}, {"POST", "/short", 504}} {
		if got := send(g, 1, c.method, c.path); got[c.want] != 1 {
			t.Errorf("%s %s: %v, want %d", c.method, c.path, got, c.want)
		}
	}
}

func TestCircuitBreaker_RefusesWhatIsTooMuch(t *testing.T) {
	entered, release := make(chan struct{}, 4), make(chan struct{})
	busy := gateway.Backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": service("orders", busy, "  circuitBreaker: {maxConnections: 1, maxPending: 1}") +
		routeTo("{match: /orders, to: orders}")})
	answers := make(chan int, 4)
	ask := func() {
		resp, err := http.Get(g.URL + "/orders")
		if err != nil {
			t.Error(err)
			answers <- 0
			return
		}
		resp.Body.Close()
		answers <- resp.StatusCode
	}
	go ask()
	<-entered
	for range 3 { // one of them may wait
		go ask()
	}
	for range 2 {
		if got := <-answers; got != http.StatusServiceUnavailable {
			t.Errorf("one too many: %d", got)
		}
	}
	if n := stat(g, "cluster.orders.upstream_rq_pending_overflow"); n != 2 {
		t.Errorf("%d were refused for being too many, want 2", n)
	}
	close(release)
	for range 2 {
		if got := <-answers; got != http.StatusOK {
			t.Errorf("within the bounds: %d", got)
		}
	}
}
