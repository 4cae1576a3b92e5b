package integration

import (
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// TestOneInstanceKilled kills one of three instances under load. Requests that it had begun may be lost; once it is
// ejected none is, and no client's connection is closed.
func TestOneInstanceKilled(t *testing.T) {
	victim := startMortal(t)
	g := gateway.Start(t, map[string]string{"policy.yaml": "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: $PORT}], accessLog: off}\n---\n" +
		service("orders", addresses(startInstances(t, "a", "b")...)+", "+victim.address,
			"  loadBalancing: {policy: roundRobin}\n  circuitBreaker: {eject: {consecutiveErrors: 3, for: 5m}}") +
		routeTo("{match: /orders, to: orders}")})
	var ejected atomic.Bool
	var early atomic.Int64
	l := startLoad(t, g.URL, 4, func(_ *rand.Rand, get func(string) reply) string {
		after := ejected.Load()
		switch got := get("/orders"); {
		case got.status == 200 && (got.instance != "victim" || !after):
			return ""
		case got.status == 503 && !after:
			early.Add(1)
			return ""
		default:
			return got.String()
		}
	})
	gateway.Eventually(t, "the instance is in use", func() bool { return victim.requests.Load() > 50 })
	victim.kill()
	gateway.Eventually(t, "it is ejected", func() bool { return stat(g, "cluster.orders.outlier_detection.ejections_active") == 1 })
	ejected.Store(true)
	before := l.requests.Load()
	wanted := int64(Amount(20_000))
	gateway.Eventually(t, "enough requests were made", func() bool { return l.requests.Load()-before > wanted })
	l.end(t)
	t.Logf("%d requests were lost before the ejection", early.Load())
}

// mortal is an instance that can be killed: its connections break, and then it is not there.
type mortal struct {
	address  string
	requests atomic.Int64
	server   http.Server
}

func startMortal(t *testing.T) *mortal {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{address: lis.Addr().String()}
	m.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.requests.Add(1)
		w.Header().Set("x-instance", "victim")
	})
	go func() { _ = m.server.Serve(lis) }()
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) kill() { _ = m.server.Close() }
