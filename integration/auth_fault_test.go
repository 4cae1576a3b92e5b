package integration

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// rounds is an amount under SLUICE_SOAK, else a tenth of it, but never under 3.
func rounds(amount int) int {
	if os.Getenv("SLUICE_SOAK") != "" {
		return amount
	}
	return max(3, amount/10)
}

func TestAuth_AnAgentThatHangsOrIsSlowIsNoWayRound(t *testing.T) {
	idp, service, a := newIssuer(t), &echoHeaders{}, &gateway.Agent{}
	var proxy *faultProxy
	a.Front = func(socket string) string {
		proxy = startProxy(t, socket)
		return proxy.address
	}
	g := gateway.Start(t, authPolicies(idp, gateway.Backend(t, service)), gateway.WithAgent(a))
	good := idp.token(t)
	recovered := func(when string) {
		t.Helper()
		gateway.Eventually(t, when+": a good token passes", func() bool { status, _, _ := g.Get("/known/x", bearer(good)...); return status == 200 })
		if status, _, _ := g.Get("/known/x"); status != 401 {
			t.Errorf("%s, no token: %d", when, status)
		}
	}
	recovered("at first")
	for _, c := range []struct {
		name string
		mode proxyMode
	}{{"hangs", swallows}, {"is slow", delays}, {"breaks off", breaks}} {
		for range rounds(20) {
			proxy.set(c.mode)
			service.reached.Store(0)
			for _, headers := range [][]string{nil, bearer(good), bearer("x")} {
				if status, body, h := g.Get("/known/x", headers...); status != 503 || h.Get("content-type") != "application/problem+json" {
					t.Errorf("it %s: %d %s %s", c.name, status, h.Get("content-type"), body)
				}
			}
			if n := service.reached.Load(); n != 0 {
				t.Errorf("it %s: the service was reached %d times", c.name, n)
			}
			if status, _, _ := g.Get("/public/x"); status != 200 {
				t.Errorf("it %s: what needs no agent answers %d", c.name, status)
			}
			proxy.set(passes)
			recovered("after it " + c.name)
		}
	}
}

func TestAuth_AFloodedAgentLetsNobodyRound(t *testing.T) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, authPolicies(idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{Most: 1}))
	good := bearer(idp.token(t))
	gateway.Eventually(t, "a good token passes", func() bool { status, _, _ := g.Get("/known/x", good...); return status == 200 })
	service.reached.Store(0)
	var passed, shed atomic.Int64
	var wait sync.WaitGroup
	for n := range 400 {
		headers := good
		if n%2 == 1 {
			headers = bearer("forged")
		}
		wait.Go(func() {
			switch status, _, _ := g.Get("/known/x", headers...); {
			case status == 200 && n%2 == 0:
				passed.Add(1)
			case status == 503:
				shed.Add(1)
			case status != 401 || n%2 == 0:
				t.Errorf("request %d: %d", n, status)
			}
		})
	}
	wait.Wait()
	if service.reached.Load() != passed.Load() {
		t.Errorf("%d passed, and the service was reached %d times", passed.Load(), service.reached.Load())
	}
	t.Logf("%d passed, %d were turned away", passed.Load(), shed.Load())
	gateway.Eventually(t, "a good token passes at once", func() bool { status, _, _ := g.Get("/known/x", good...); return status == 200 })
}
