package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// seen is what a mirror of a backend says it was asked.
type seen struct {
	Host, URI, Body string
	Header          http.Header
}

// reflect is a backend that answers with what it was asked.
func reflect(t *testing.T) string {
	return gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("server", "backend")
		w.Header().Set("x-service", "1")
		_ = json.NewEncoder(w).Encode(seen{r.Host, r.URL.RequestURI(), string(body), r.Header})
	}))
}

func asked(t *testing.T, body string) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return s
}

func TestRewrite_ServicesSeeTheNewPath(t *testing.T) {
	backend := reflect(t)
	_, port, _ := strings.Cut(backend, ":")
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: [` + backend + `]}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: named}
spec: {dns: "localhost:` + port + `", envoy: {dns_lookup_family: V4_ONLY}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {match: /fixed, to: echo, rewrite: {path: /new}}
    - {match: "/users/{user}/orders/{id}", to: echo, rewrite: {path: "/v2/{id}/of/{user}"}}
    - {match: /static/*, to: echo, rewrite: {prefix: /}}
    - {match: /files/*, to: echo, rewrite: {prefix: /internal}}
    - {match: "/t/{tenant}/*", to: echo, rewrite: {path: "/{tenant}/*"}}
    - {match: /shop/*, to: echo, rewrite: {regex: {pattern: "/v([0-9]+)/", substitution: '/version-\1/'}}}
    - {match: /host, to: echo, rewrite: {host: internal.example}}
    - {match: /address, to: echo, rewrite: {hostFrom: service}}
    - {match: /dns, to: named, rewrite: {hostFrom: service}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: below}
spec: {hosts: [below.example], match: /*, to: echo, rewrite: {prefix: /base}}
`})
	for _, c := range []struct{ name, host, path, uri, wantHost string }{
		{"the query stays", "", "/fixed?a=1&b=/fixed", "/new?a=1&b=/fixed", ""},
		{"parameters in another order", "", "/users/ann/orders/7?x=1", "/v2/7/of/ann?x=1", ""},
		{"parameters stay encoded", "", "/users/a%20b%3Fc/orders/%C3%BC%25", "/v2/%C3%BC%25/of/a%20b%3Fc", ""},
		{"what looks like a group is text", "", `/users/$2/orders/$1`, `/v2/$1/of/$2`, ""},
		{"the prefix alone", "", "/static", "/", ""},
		{"the prefix and a slash", "", "/static/", "/", ""},
		{"below the prefix", "", "/static/a", "/a", ""},
		{"the prefix twice", "", "/static/static/a?q", "/static/a?q", ""},
		{"a path that climbs is resolved before", "", "/static/x/../a", "/a", ""},
		{"another prefix alone", "", "/files", "/internal", ""},
		{"another prefix and a slash", "", "/files/", "/internal/", ""},
		{"below another prefix", "", "/files/a/b", "/internal/a/b", ""},
		{"a parameter before the rest", "", "/t/acme/a/b?c=d", "/acme/a/b?c=d", ""},
		{"a parameter and no rest", "", "/t/acme", "/acme", ""},
		{"an expression", "", "/shop/v12/x?y=/v3/", "/shop/version-12/x?y=/v3/", ""},
		{"all below", "below.example", "/a", "/base/a", ""},
		{"all below, the root", "below.example", "/", "/base/", ""},
		{"a host", "", "/host", "/host", "internal.example"},
		{"an address has no name", "food.example", "/address", "/address", "food.example"},
		{"the host that was looked up", "", "/dns", "/dns", "localhost"},
	} {
		var headers []string
		if c.host != "" {
			headers = []string{"host", c.host}
		}
		status, body, _ := g.Get(c.path, headers...)
		if status != http.StatusOK {
			t.Errorf("%s: %s: status %d", c.name, c.path, status)
			continue
		}
		got := asked(t, body)
		if got.URI != c.uri || c.wantHost != "" && got.Host != c.wantHost {
			t.Errorf("%s: %s: the service saw %s on %s, want %s on %s", c.name, c.path, got.URI, got.Host, c.uri, c.wantHost)
		}
	}
}

func TestRedirect_LeadsToTheNewAddress(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {match: /secure/*, redirect: {scheme: https, status: 308}}
    - {match: /port, redirect: {scheme: https, port: 8443}}
    - {match: /host, redirect: {host: new.example, status: 301}}
    - {match: /bare, redirect: {path: /target, stripQuery: true, status: 303}}
    - {match: "/users/{id}", redirect: {path: "/people/{id}", status: 307}}
    - {match: /docs/*, redirect: {prefix: /manual}}
    - {match: /old/*, redirect: {prefix: /}}
`})
	for _, c := range []struct {
		path, location string
		status         int
	}{
		{"/secure/a?b=c", "https://food.example/secure/a?b=c", 308},
		{"/port", "https://food.example:8443/port", 302},
		{"/host?q=1", "http://new.example/host?q=1", 301},
		{"/bare?q=1", "http://food.example/target", 303},
		{"/users/a%2Bb?q=1", "http://food.example/people/a%2Bb?q=1", 307},
		{"/docs", "http://food.example/manual", 302},
		{"/docs/a?q=1", "http://food.example/manual/a?q=1", 302},
		{"/old", "http://food.example/", 302},
		{"/old/a?q=1", "http://food.example/a?q=1", 302},
		{"/old//evil.example/x", "http://food.example/evil.example/x", 302},
	} {
		status, _, header := g.Get(c.path, "host", "food.example")
		if got := header.Get("location"); status != c.status || got != c.location {
			t.Errorf("%s: %d to %s, want %d to %s", c.path, status, got, c.status, c.location)
		}
	}
}

func TestDirect_AnswersAtTheGateway(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {match: GET /json, direct: {body: '{"share":"100%"}', contentType: 'application/json; note="5%"'}}
    - {match: /teapot, direct: {status: 418, body: {file: teapot.txt}}}
    - {match: /empty, direct: {status: 204}}
`, "teapot.txt": "short\nand %REQ(host)% stout\n"})
	for _, c := range []struct {
		path, body, contentType string
		status                  int
	}{
		{"/json", `{"share":"100%"}`, `application/json; note="5%"`, 200},
		{"/teapot", "short\nand %REQ(host)% stout\n", "text/plain", 418},
		{"/empty", "", "", 204},
	} {
		status, body, header := g.Get(c.path)
		if got := header.Get("content-type"); status != c.status || body != c.body || got != c.contentType {
			t.Errorf("%s: %d %q %q, want %d %q %q", c.path, status, body, got, c.status, c.body, c.contentType)
		}
	}
}

func TestMirror_CopiesRequestsAndDropsTheAnswers(t *testing.T) {
	copies := make(chan seen, 16)
	shadow := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		copies <- seen{r.Host, r.URL.RequestURI(), string(body), r.Header}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [` + reflect(t) + `]}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: orders-next}
spec: {endpoints: [` + shadow + `]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {match: POST /orders, to: orders, mirror: orders-next}
    - {match: /other, to: orders}
`})
	status, body, _ := g.Do(http.MethodPost, "/orders?x=1", strings.NewReader("a pizza"), "host", "food.example")
	if got := asked(t, body); status != http.StatusOK || got.Body != "a pizza" {
		t.Errorf("the client got %d %+v", status, got)
	}
	got := <-copies
	got.Header = nil
	if diff := cmp.Diff(seen{Host: "food.example", URI: "/orders?x=1", Body: "a pizza"}, got); diff != "" {
		t.Errorf("the copy (-want +got):\n%s", diff)
	}
	g.Get("/other")
	g.Do(http.MethodPost, "/orders", nil)
	if next := <-copies; next.URI != "/orders" {
		t.Errorf("a request of another rule was copied: %s", next.URI)
	}
}

func TestHeaders_AreEditedOnBothSides(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: [` + reflect(t) + `]}
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
  headers:
    request: {set: {x-stage: prod}, remove: [x-debug]}
    response: {set: {strict-transport-security: max-age=31536000}, remove: [x-service]}
  rules:
    - name: edited
      match: /edited
      to: echo
      headers:
        request:
          set: {x-stage: test, x-share: "100% {{route}}", x-empty: ""}
          add: {x-tag: [a, b], x-who: "{clientAddress} {method} {host}{path} {route}"}
        response: {add: {x-service: mine}}
    - {name: gone, match: /gone, to: gone}
    - {name: direct, match: /direct, direct: {}}
`})
	status, body, header := g.Get("/edited?q=1", "x-debug", "1", "x-stage", "forged", "x-tag", "c", "x-who", "me", "host", "food.example")
	got := asked(t, body).Header
	for name, want := range map[string][]string{
		"X-Debug": nil, "X-Stage": {"test"}, "X-Share": {"100% {route}"}, "X-Empty": {""},
		"X-Tag": {"c", "a", "b"}, "X-Who": {"me", "127.0.0.1 GET food.example/edited api/edited"},
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("the service's %s (-want +got):\n%s", name, diff)
		}
	}
	if status != http.StatusOK || header.Get("x-service") != "mine" || len(header.Values("x-service")) != 1 {
		t.Errorf("%d, x-service %q", status, header.Values("x-service"))
	}
	for path, want := range map[string]int{"/edited": 200, "/gone": 503, "/direct": 200} {
		if status, _, header := g.Get(path); status != want || header.Get("strict-transport-security") == "" {
			t.Errorf("%s: %d without strict-transport-security: %v", path, status, header)
		}
	}
}
