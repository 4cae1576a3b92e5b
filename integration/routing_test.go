package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

func TestRouting_SendsEachRequestWhereThePolicySays(t *testing.T) {
	orders, reports := gateway.Echo(t, "orders"), gateway.Echo(t, "reports")
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [` + orders + `]}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: reports}
spec: {endpoints: [` + reports + `]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {name: orders, match: [GET /orders, "GET /orders/{id}"], to: orders}
    - {name: reports, match: /reports/*, to: reports}
    - {name: gone, match: /old, direct: {status: 410, body: moved}}
`})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/orders", 200, "orders /orders"},
		{"GET", "/orders/7?x=1", 200, "orders /orders/7?x=1"},
		{"GET", "/orders/7/items", 404, ""},
		{"POST", "/orders", 405, ""},
		{"GET", "/reports", 200, "reports /reports"},
		{"GET", "/reports/a/b", 200, "reports /reports/a/b"},
		{"GET", "/reportsx", 404, ""},
		{"GET", "/old", 410, "moved"},
	} {
		status, body, header := g.Do(c.method, c.path, nil)
		if status != c.status || c.body != "" && body != c.body {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, status, body, c.status, c.body)
		}
		if status == http.StatusMethodNotAllowed && header.Get("allow") != "GET" {
			t.Errorf("%s %s: allow is %q", c.method, c.path, header.Get("allow"))
		}
	}
	if stats := g.Admin("/stats?filter=listener_modified"); !strings.Contains(stats, "listener_modified: 0") {
		t.Errorf("a listener was changed: %s", stats)
	}
}
