package explain_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const site = `apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners: [{name: http, port: 8080}]
  use: [baseline]
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: inner}
spec: {listeners: [{name: http, port: 8090}]}
---
apiVersion: sluice/v1
kind: Policy
metadata: {name: baseline}
spec: {timeout: 9s}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [127.0.0.1:9001, "[::1]:9001"], timeout: 2s}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: next}
spec: {dns: next.internal:80}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  gateway: edge
  hosts: [api.example, "*.api.example"]
  rules:
    - {name: place, match: POST /orders, to: [{service: orders, weight: 95}, {service: next, weight: 5}]}
    - {name: read, match: "GET /orders/{id}", to: orders, timeout: 1s}
    - {name: beta, match: {path: /beta, headers: {x-beta: "1"}, query: {v: {present: true}}}, to: next}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: inside}
spec: {gateway: inner, match: /*, direct: {status: 204}}
`

func config(t testing.TB) *model.Config {
	t.Helper()
	var p policy.Problems
	objects, _ := policy.Split("site.yaml", site, "test", &p)
	c, compiled := compile.New(all.Features()).Compile(objects)
	p.Join(*compiled)
	if p.Failed() {
		t.Fatal(p.Render())
	}
	return c
}

func TestExplain(t *testing.T) {
	c := config(t)
	for _, test := range []struct {
		name string
		ask  explain.Request
		want explain.Result
	}{
		{"a rule with weights", explain.Request{Method: "post", URL: "http://API.example:8080//x/../orders?a=1#top"}, explain.Result{
			Gateway: "edge", Method: "POST", Host: "api.example", Path: "/orders", Query: "a=1", Domain: "api.example",
			Rule: "api/place", Origin: "site.yaml:35", Match: "POST /orders",
			Services: []explain.Service{{Name: "orders", Share: 95, Endpoints: []string{"127.0.0.1:9001", "[::1]:9001"}}, {Name: "next", Share: 5, Endpoints: []string{"next.internal:80"}}},
			Blocks:   []explain.Block{{Feature: "timeout", Level: "service", From: "site.yaml:21", Config: []byte(`{"request":"2s"}`)}},
		}},
		{"a parameter, below a wildcard host", explain.Request{Method: "GET", URL: "http://x.api.example/orders/42", Gateway: "edge"}, explain.Result{
			Gateway: "edge", Method: "GET", Host: "x.api.example", Path: "/orders/42", Domain: "*.api.example",
			Rule: "api/read", Origin: "site.yaml:36", Match: "GET /orders/{id}", Params: map[string]string{"id": "42"},
			Services: []explain.Service{{Name: "orders", Share: 100, Endpoints: []string{"127.0.0.1:9001", "[::1]:9001"}}},
			Blocks:   []explain.Block{{Feature: "timeout", Level: "rule", From: "site.yaml:36", Config: []byte(`{"request":"1s"}`)}},
		}},
		{"other methods", explain.Request{Method: "DELETE", URL: "http://api.example/orders", Gateway: "edge"}, explain.Result{
			Gateway: "edge", Method: "DELETE", Host: "api.example", Path: "/orders", Domain: "api.example",
			Status: 405, Reason: "the path exists with other methods", Allow: []string{"POST"},
			Missed: []explain.Miss{{Rule: "api/place", Origin: "site.yaml:35", Because: "it takes POST"}},
		}},
		{"no path", explain.Request{Method: "GET", URL: "http://api.example/none", Gateway: "edge"}, explain.Result{
			Gateway: "edge", Method: "GET", Host: "api.example", Path: "/none", Domain: "api.example", Status: 404, Reason: "no rule of host api.example takes this path",
		}},
		{"a condition", explain.Request{Method: "GET", URL: "http://api.example/beta?v", Gateway: "edge", Headers: http.Header{"X-Beta": {"2"}}}, explain.Result{
			Gateway: "edge", Method: "GET", Host: "api.example", Path: "/beta", Query: "v", Domain: "api.example",
			Status: 404, Reason: "rules take this path, but not this request",
			Missed: []explain.Miss{{Rule: "api/beta", Origin: "site.yaml:37", Because: `it asks for header x-beta = "1"`}},
		}},
		{"no host", explain.Request{Method: "GET", URL: "http://other.example/", Gateway: "edge"}, explain.Result{
			Gateway: "edge", Method: "GET", Host: "other.example", Path: "/", Status: 404, Reason: "no rule is for this host; there are rules for: *.api.example, api.example",
		}},
		{"a refused header", explain.Request{Method: "GET", URL: "/", Gateway: "edge", Headers: http.Header{"X_b": {""}}}, explain.Result{
			Gateway: "edge", Method: "GET", Path: "/", Status: 400, Reason: "header x_b: names with an underscore are refused",
		}},
		{"the port decides the gateway", explain.Request{Method: "GET", URL: "http://api.example:8090/a%2Fb"}, explain.Result{
			Gateway: "inner", Method: "GET", Host: "api.example", Path: "/a/b", Domain: "*", Rule: "inside/inside", Origin: "site.yaml:42", Match: "/*",
			Blocks: []explain.Block{{Feature: "direct", Level: "route", From: "site.yaml:42", Config: []byte(`{"status":204}`)}},
			Notes:  []string{"the path holds an escaped slash: the client is first redirected (307) to /a/b"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := explain.Explain(c, test.ask)
			if err != nil {
				t.Fatal(err)
			}
			// Services speak for themselves elsewhere: only what was written is compared, not the features' defaults.
			got.Blocks = written(got.Blocks)
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func written(blocks []explain.Block) []explain.Block {
	var out []explain.Block
	for _, b := range blocks {
		if b.Level != "default" {
			out = append(out, b)
		}
	}
	return out
}

func TestExplainRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		ask  explain.Request
		want string
	}{
		{"no scheme", explain.Request{Method: "GET", URL: "api.example/x"}, "is not a URL"},
		{"another scheme", explain.Request{Method: "GET", URL: "ftp://api.example/x"}, "is not a URL"},
		{"no host", explain.Request{Method: "GET", URL: "http:///x"}, "has no host"},
		{"a blank", explain.Request{Method: "GET", URL: "http://a/b c"}, "position 11"},
		{"a user", explain.Request{Method: "GET", URL: "http://a:b@c/"}, "is not a host"},
		{"no method", explain.Request{URL: "http://a/"}, "is not an HTTP method"},
		{"unknown gateway", explain.Request{Method: "GET", URL: "/", Gateway: "x"}, "there are: edge, inner"},
		{"several gateways", explain.Request{Method: "GET", URL: "http://api.example/"}, "name one with --gateway"},
		{"very long", explain.Request{Method: "GET", URL: "/" + strings.Repeat("x", 70_000)}, "longer than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := explain.Explain(config(t), test.ask)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := explain.Explain(&model.Config{}, explain.Request{Method: "GET", URL: "/"}); err == nil {
		t.Error("no error without a Gateway")
	}
}

func FuzzExplain(f *testing.F) {
	for _, seed := range []string{"http://api.example/orders", "/a/../b%2f", "https://[::1]:8080/?a=b", "http://api.example:8090/%zz//..", "//x"} {
		f.Add("GET", seed)
	}
	c := config(f)
	f.Fuzz(func(t *testing.T, method, url string) {
		got, err := explain.Explain(c, explain.Request{Method: method, URL: url, Gateway: "edge"})
		if err != nil {
			return
		}
		if !strings.HasPrefix(got.Path, "/") || strings.Contains(got.Path, "//") || strings.Contains(got.Path+"/", "/../") {
			t.Errorf("%q becomes path %q", url, got.Path)
		}
		if got.Rule == "" && got.Status == 0 {
			t.Error("nobody answers")
		}
	})
}
