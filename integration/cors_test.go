package integration

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

func TestCORS_PreflightsEndAtTheGateway(t *testing.T) {
	var options atomic.Int64
	backend := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			options.Add(1)
		}
		w.Header().Set("access-control-allow-origin", "*") // what the gateway says holds, not this
		w.Header().Set("access-control-allow-credentials", "true")
		w.Header().Set("vary", "accept")
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [` + backend + `]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - name: place
      match: POST,GET /orders
      to: orders
      cors: {origins: [https://app.food.example, "https://*.partner.example"], headers: [content-type], exposeHeaders: [x-total], credentials: true, maxAge: 10m}
    - {name: remove, match: DELETE /orders, to: orders, cors: {origins: [https://admin.food.example]}}
    - {name: any, match: /any, to: orders, cors: {origins: ["*"]}}
    - {name: canary, match: {path: /canary, headers: {x-canary: "1"}}, to: orders, cors: {origins: ["*"]}}
    - {name: stable, match: /canary, to: orders, cors: {origins: ["*"]}}
    - {name: own, match: OPTIONS /own, to: orders, cors: {origins: [https://app.food.example]}}
`})
	for _, c := range []struct {
		name, path, origin, method string // the method asked about
		status                     int
		allowOrigin, allowMethods  string
	}{
		{"an allowed one", "/orders", "https://app.food.example", "POST", 200, "https://app.food.example", "POST"},
		{"another method of the rule", "/orders", "https://app.food.example", "GET", 200, "https://app.food.example", "GET"},
		{"below a wildcard", "/orders", "https://a.b.partner.example", "POST", 200, "https://a.b.partner.example", "POST"},
		{"the wildcard's own domain", "/orders", "https://partner.example", "POST", 403, "", ""},
		{"a domain that ends alike", "/orders", "https://evilpartner.example", "POST", 403, "", ""},
		{"a domain that starts alike", "/orders", "https://app.food.example.evil.example", "POST", 403, "", ""},
		{"another scheme", "/orders", "http://app.food.example", "POST", 403, "", ""},
		{"a sibling's origin", "/orders", "https://admin.food.example", "POST", 403, "", ""},
		{"the sibling's own", "/orders", "https://admin.food.example", "DELETE", 200, "https://admin.food.example", "DELETE"},
		{"a method nobody takes", "/orders", "https://app.food.example", "PATCH", 405, "", ""},
		{"any method, any origin", "/any", "https://x.example", "PATCH", 200, "https://x.example", "GET, HEAD, POST, PUT, PATCH, DELETE"},
		{"rules told apart by headers", "/canary", "https://x.example", "PUT", 200, "https://x.example", "GET, HEAD, POST, PUT, PATCH, DELETE"},
		{"a rule that takes OPTIONS itself", "/own", "https://evil.example", "PUT", 200, "", "OPTIONS"},
	} {
		status, _, header := g.Do(http.MethodOptions, c.path, nil, "origin", c.origin, "access-control-request-method", c.method)
		if status != c.status || header.Get("access-control-allow-origin") != c.allowOrigin || header.Get("access-control-allow-methods") != c.allowMethods {
			t.Errorf("%s: %d %v, want %d %q %q", c.name, status, header, c.status, c.allowOrigin, c.allowMethods)
		}
		if refused := c.status == http.StatusForbidden; refused && (header.Get("access-control-allow-headers") != "" || header.Get("access-control-allow-credentials") != "") {
			t.Errorf("%s: a refusal tells %v", c.name, header)
		}
		if c.status == http.StatusOK && !strings.HasSuffix(header.Get("vary"), "origin") {
			t.Errorf("%s: vary is %q", c.name, header.Values("vary"))
		}
	}
	if status, _, header := g.Do(http.MethodOptions, "/any", nil, "origin", "https://x.example", "access-control-request-method", ""); status != http.StatusForbidden {
		t.Errorf("a preflight about no method: %d %v", status, header)
	}
	if n := options.Load(); n != 0 {
		t.Errorf("%d preflights reached the service", n)
	}
	_, _, header := g.Do(http.MethodOptions, "/orders", nil, "origin", "https://app.food.example", "access-control-request-method", "POST")
	for name, want := range map[string]string{"access-control-allow-headers": "content-type", "access-control-max-age": "600", "access-control-allow-credentials": "true"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if status, _, _ := g.Do(http.MethodOptions, "/any", nil, "origin", "https://x.example"); status != http.StatusOK || options.Load() != 1 {
		t.Errorf("an OPTIONS that is no preflight: %d, %d reached the service", status, options.Load())
	}
}

func TestCORS_AnswersSayWhoMayRead(t *testing.T) {
	backend := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("access-control-allow-origin", "*")
		w.Header().Set("access-control-allow-credentials", "true")
		w.Header().Set("vary", "accept")
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [` + backend + `]}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: gone}
spec: {endpoints: []}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  cors: {origins: [https://app.food.example], exposeHeaders: [x-total]}
  rules:
    - {match: GET /orders, to: orders}
    - {match: GET /gone, to: gone}
`})
	for _, c := range []struct {
		path, origin, allow, expose string
		status                      int
	}{
		{"/orders", "https://app.food.example", "https://app.food.example", "x-total", 200},
		{"/orders", "https://evil.example", "", "", 200},
		{"/orders", "", "", "", 200},
		{"/gone", "https://app.food.example", "https://app.food.example", "x-total", 503}, // scripts may read the failure too
	} {
		var headers []string
		if c.origin != "" {
			headers = []string{"origin", c.origin}
		}
		status, _, header := g.Get(c.path, headers...)
		if status != c.status || header.Get("access-control-allow-origin") != c.allow || header.Get("access-control-expose-headers") != c.expose {
			t.Errorf("%s from %q: %d %v", c.path, c.origin, status, header)
		}
		if header.Get("access-control-allow-credentials") != "" {
			t.Errorf("%s from %q: the service's own credentials header passed", c.path, c.origin)
		}
		if vary := header.Get("vary"); !strings.HasSuffix(vary, "origin") || c.status == http.StatusOK && !strings.HasPrefix(vary, "accept") {
			t.Errorf("%s from %q: vary is %q", c.path, c.origin, vary)
		}
	}
}
