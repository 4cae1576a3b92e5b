package model

import (
	"slices"
	"strings"
)

// Decider is who decides whether a route's requests may go on. It is one for all that the route asks of its callers.
type Decider string

// The deciders; the empty one is of routes that ask nothing of their callers.
const (
	// Agent is the agent beside Envoy.
	Agent Decider = "agent"
	// Native is Envoy by itself: the data that it needs is part of its configuration. What is told to agents, such as
	// revoked tokens, does not reach such a route.
	Native Decider = "native"
)

// Identity is where the dynamic metadata of a request says who is calling. Of several places for the same thing the
// first that is there holds.
type Identity struct {
	// Namespace is the metadata's.
	Namespace string
	// User, Plan and Issuer are texts, or numbers.
	User, Plan, Issuer []MetadataPath
	// Permissions, Scopes and Roles are lists of words, or one text with spaces between them.
	Permissions, Scopes, Roles []MetadataPath
	// Claims is where all claims of the token are; nil where they are not told.
	Claims MetadataPath
}

// MetadataPath leads to a value below a namespace, field by field.
type MetadataPath []string

// Deciders are who decides on each rule, by its name.
func (c *Config) Deciders() map[string]Decider {
	out := map[string]Decider{}
	c.eachRule(func(name string, r *Route) { out[name] = r.Decider })
	return out
}

// Unrevoked are the rules that ask who is calling, but do not hear of what is revoked; sorted.
func (c *Config) Unrevoked() []string {
	var out []string
	c.eachRule(func(name string, r *Route) {
		hears := r.Runtime != nil && slices.ContainsFunc(r.Runtime.Data, func(d Data) bool { return d.Table == TableRevocations })
		if r.Decider != "" && !hears {
			out = append(out, name)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// eachRule visits the routes of rules: all that one match became.
func (c *Config) eachRule(visit func(name string, r *Route)) {
	for _, g := range c.Gateways {
		for _, v := range g.Hosts {
			for _, r := range v.Routes {
				if r.Route != "" {
					name, _, _ := strings.Cut(r.Name, "#")
					visit(name, r)
				}
			}
		}
	}
}
