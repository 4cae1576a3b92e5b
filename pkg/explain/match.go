package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Describe is a match in one line: methods, path, conditions.
func Describe(m model.Match) string {
	parts := []string{m.Path.String()}
	if len(m.Methods) > 0 {
		parts = []string{strings.Join(m.Methods, ","), m.Path.String()}
	}
	for _, c := range m.Headers {
		parts = append(parts, "header "+describe(c))
	}
	for _, c := range m.Query {
		parts = append(parts, "query "+describe(c))
	}
	return strings.Join(parts, " ")
}

func describe(c model.Condition) string {
	switch c.Op {
	case model.Present:
		return c.Name + " present"
	case model.Absent:
		return c.Name + " absent"
	case model.Prefix:
		return fmt.Sprintf("%s starting with %q", c.Name, c.Value)
	case model.Regex:
		return fmt.Sprintf("%s like ~%s", c.Name, c.Value)
	}
	return fmt.Sprintf("%s = %q", c.Name, c.Value)
}

// maxMissed is how many near misses are shown.
const maxMissed = 20

// missed are the rules that take the path, are tried before the route that was found, and do not take the request.
func missed(routes []*model.Route, r model.Request, found *model.Route) []Miss {
	var out []Miss
	for _, route := range routes {
		if route == found || len(out) == maxMissed {
			break
		}
		if len(route.Allow) > 0 || !route.Match.Path.Matches(r.Path) {
			continue
		}
		out = append(out, Miss{Rule: route.Name, Origin: route.Origin, Because: because(route.Match, r)})
	}
	return out
}

// because is the first thing about a request that a match does not take.
func because(m model.Match, r model.Request) string {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, r.Method) {
		return "it takes " + strings.Join(m.Methods, ", ")
	}
	for _, c := range m.Headers {
		if !(model.Match{Path: m.Path, Headers: []model.Condition{c}}).Takes(r) {
			return "it asks for header " + describe(c)
		}
	}
	for _, c := range m.Query {
		if !(model.Match{Path: m.Path, Query: []model.Condition{c}}).Takes(r) {
			return "it asks for query parameter " + describe(c)
		}
	}
	return "it does not take the request"
}
