package main

import (
	"fmt"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// sharedServices is how many services the rules of a site without own ones have between them.
const sharedServices = 10

// site is a gateway of so many rules, each on a Route of its own.
type site struct {
	rules int
	own   bool // each rule has a service of its own
}

func (s site) String() string {
	if s.own {
		return fmt.Sprintf("%d/own", s.rules)
	}
	return fmt.Sprintf("%d/shared", s.rules)
}

// objects are the whole site, listening on port, with all services at the backend.
func (s site) objects(port int, backend string) []policy.Object {
	out := []policy.Object{gatewayOn(port)}
	services := s.rules
	if !s.own {
		services = min(s.rules, sharedServices)
	}
	for i := range services {
		out = append(out, service(serviceName(i), backend, ""))
	}
	for i := range s.rules {
		out = append(out, rule(ruleName(i), rulePath(i), serviceName(i%services), ""))
	}
	return out
}

func serviceName(i int) string { return fmt.Sprintf("svc-%d", i) }
func ruleName(i int) string    { return fmt.Sprintf("route-%d", i) }
func rulePath(i int) string    { return fmt.Sprintf("/team%d/svc%d/api", i%20, i) }

func gatewayOn(port int) policy.Object {
	return object("Gateway", "edge", fmt.Sprintf("  listeners: [{name: http, address: 127.0.0.1, port: %d}]\n", port))
}

// service is a Service with one endpoint and further lines of its spec.
func service(name, endpoint, more string) policy.Object {
	return object("Service", name, fmt.Sprintf("  endpoints: [%s]\n%s", endpoint, more))
}

// rule is a Route that takes everything below a path, with further lines of its spec.
func rule(name, path, to, more string) policy.Object {
	return object("Route", name, fmt.Sprintf("  match: GET %s/*\n  to: %s\n%s", path, to, more))
}

// direct is a Route that Envoy answers itself.
func direct(name, path string) policy.Object {
	return object("Route", name, fmt.Sprintf("  match: GET %s/*\n  direct: {body: ok}\n", path))
}

func object(kind, name, spec string) policy.Object {
	return policy.Object{
		Ref:  policy.Ref{Kind: kind, Name: name},
		Text: fmt.Sprintf("apiVersion: sluice/v1\nkind: %s\nmetadata: {name: %s}\nspec:\n%s", kind, name, spec),
		File: "bench.yaml", Line: 1,
	}
}
