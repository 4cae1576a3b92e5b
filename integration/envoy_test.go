package integration

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/control"
)

func TestEnvoy_RawFieldsReachTheirResource(t *testing.T) {
	backend := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-seen", r.Header.Get("x-raw"))
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners: [{name: http, port: $PORT}]
  envoy: {connectionManager: {server_header_transformation: OVERWRITE, server_name: raw-edge, merge_slashes: false}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [` + backend + `], envoy: {alt_stat_name: raw-orders}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - name: raw
      match: /raw
      to: orders
      envoy: {request_headers_to_add: [{header: {key: x-raw, value: "%ROUTE_NAME%"}}]}
    - {name: plain, match: /plain, to: orders}
    - {name: below, match: /*, direct: {status: 418}}
`})
	for path, want := range map[string]string{"/raw": "api/raw", "/plain": ""} {
		status, _, header := g.Get(path)
		if status != http.StatusOK || header.Get("x-seen") != want || header.Get("server") != "raw-edge" {
			t.Errorf("%s: %d %v, want x-seen %q", path, status, header, want)
		}
	}
	if status, _, _ := g.Get("//raw"); status != http.StatusTeapot {
		t.Errorf("slashes are merged although the listener was told not to: %d", status)
	}
	if stats := g.Admin("/clusters?format=text"); !strings.Contains(stats, "orders::") {
		t.Errorf("no cluster: %s", stats)
	}
}

func TestEnvoy_WhatEnvoyRefusesIsNamed(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec: {match: /a, direct: {}}
`})
	err := g.Apply(map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {name: fine, match: /a, direct: {}}
    - name: wrong
      match: /b
      direct: {}
      envoy: {response_headers_to_add: [{header: {key: x-a, value: "%NO_SUCH_OPERATOR%"}}]}
`})
	var problems *control.Problems
	if !errors.As(err, &problems) || len(problems.List) != 1 || problems.List[0].Line != 8 {
		t.Fatalf("%+v", err)
	}
	if status, _, _ := g.Get("/a"); status != http.StatusOK {
		t.Errorf("what was served before is gone: %d", status)
	}
}
