package model

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Request is what decides a route.
type Request struct {
	Host    string // lower case, without a port
	Method  string
	Path    string // normalised, without the query
	Query   url.Values
	Headers http.Header
}

// FindHost is the virtual host that a host name belongs to: exact, then the longest *.suffix, then *; nil when none.
// A host with routes of its own never falls back to a wider one.
func (g *Gateway) FindHost(host string) *VirtualHost {
	var best *VirtualHost
	for _, v := range g.Hosts {
		if v.Domain == host {
			return v
		}
		suffix, wild := strings.CutPrefix(v.Domain, "*")
		takes := v.Domain == "*" || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)
		if takes && (best == nil || len(v.Domain) > len(best.Domain)) {
			best = v
		}
	}
	return best
}

// Find is the route that takes a request, tried one by one as the order says; nil when none does. It is what the
// compiled index must agree with.
func (g *Gateway) Find(r Request) *Route {
	v := g.FindHost(r.Host)
	if v == nil {
		return nil
	}
	for _, route := range v.Routes {
		if route.Match.Takes(r) {
			return route
		}
	}
	return nil
}

// Takes tells whether everything in the match holds for a request.
func (m Match) Takes(r Request) bool {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, r.Method) || slices.Contains(m.Except, r.Method) {
		return false
	}
	if !m.Path.Matches(r.Path) {
		return false
	}
	for _, c := range m.Headers {
		if values := r.Headers.Values(c.Name); !c.holds(strings.Join(values, ","), len(values) > 0) {
			return false
		}
	}
	for _, c := range m.Query {
		if !c.holds(r.Query.Get(c.Name), r.Query.Has(c.Name)) {
			return false
		}
	}
	return true
}

func (c Condition) holds(value string, present bool) bool {
	switch c.Op {
	case Present:
		return present
	case Absent:
		return !present
	case Prefix:
		return present && strings.HasPrefix(value, c.Value)
	case Regex:
		re, err := regexp.Compile(`^(?:` + c.Value + `)$`)
		return err == nil && present && re.MatchString(value)
	}
	return present && value == c.Value
}
