package integration

import (
	"context"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// TestQuarantine_WhatEnvoyRefusesWithoutAnAuthorAnswers503 stores a route that the proof refuses, as one would be that an
// earlier Envoy took. It must not be served, nor its requests fall to the wider route; all else is served.
func TestQuarantine_WhatEnvoyRefusesWithoutAnAuthorAnswers503(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": routeTo("{name: wide, match: /*, direct: {status: 418}}") + "---\n" +
		service("orders", gateway.Echo(t, "orders"), "")})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Controller.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })

	var p policy.Problems
	bad, _ := policy.Split("later.yaml", `apiVersion: sluice/v1
kind: Route
metadata: {name: later}
spec:
  rules:
    - {name: refused, match: /refused, to: orders, envoy: {request_headers_to_add: [{header: {key: x-a, value: "%NO_SUCH_COMMAND%"}}]}}
    - {name: fine, match: /fine, to: orders}
`, "test", &p)
	head, _, err := g.Controller.Store.Head(ctx)
	if err != nil || p.Failed() {
		t.Fatal(err, p.Render())
	}
	if _, err := g.Controller.Store.Commit(ctx, store.Change{Base: head.Number, Set: bad}); err != nil {
		t.Fatal(err)
	}
	gateway.Eventually(t, "the good rule is served", func() bool {
		status, _, _ := g.Get("/fine")
		return status == 200
	})
	for path, want := range map[string]int{"/refused": 503, "/fine": 200, "/other": 418} {
		if status, _, _ := g.Get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	j, err := g.Controller.Why(ctx, policy.Ref{Kind: "Route", Name: "later"})
	if err != nil || j.Quarantined == "" {
		t.Errorf("why says %+v, %v", j, err)
	}
}
