package translate

import (
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Envoy walks a list of routes one by one. An index is a trie over the literal starts of paths: the longest key that a
// path starts with ends the search, and the leaf below it holds, in their order, all routes that could take such a
// path: those whose literal start lies below the key, and those whose literal start the key goes on from.

const (
	// leafSize is up to how many routes stay together; smaller leaves are no faster in Envoy.
	leafSize = 64
	// Routes without a literal start stand in every leaf. Past this many copies a route on average, a list is smaller.
	maxCopies = 8
)

// leaf is one key and its routes, in their order.
type leaf struct {
	prefix string // "" for what no other leaf takes
	routes []*model.Route
}

// index builds the leaves over a host's routes, by prefix.
func index(routes []*model.Route) []leaf {
	if len(routes) <= leafSize {
		return []leaf{{routes: routes}}
	}
	b := indexer{routes: routes, budget: maxCopies*len(routes) + 1024}
	all := make([]int, len(routes))
	for i := range all {
		all[i] = i
	}
	slices.SortStableFunc(all, func(x, y int) int { return strings.Compare(routes[x].Literal, routes[y].Literal) })
	b.split(all, nil)
	if b.budget < 0 {
		return []leaf{{routes: routes}}
	}
	return b.leaves
}

type indexer struct {
	routes []*model.Route
	leaves []leaf
	budget int
}

// split takes routes sorted by their literal start, and those that every leaf below inherits.
func (b *indexer) split(group, inherited []int) {
	first, last := b.routes[group[0]].Literal, b.routes[group[len(group)-1]].Literal
	prefix := common(first, last)
	if len(group) <= leafSize {
		b.emit(prefix, group, inherited)
		return
	}
	here := 0
	for here < len(group) && b.routes[group[here]].Literal == prefix {
		here++
	}
	if here > 0 {
		b.emit(prefix, group[:here], inherited)
		inherited = append(slices.Clip(inherited), group[:here]...)
	}
	for rest := group[here:]; len(rest) > 0 && b.budget >= 0; {
		end := 1
		for end < len(rest) && b.routes[rest[end]].Literal[len(prefix)] == b.routes[rest[0]].Literal[len(prefix)] {
			end++
		}
		b.split(rest[:end], inherited)
		rest = rest[end:]
	}
}

// emit makes a leaf. The routes' numbers are their order.
func (b *indexer) emit(prefix string, own, inherited []int) {
	numbers := slices.Concat(own, inherited)
	slices.Sort(numbers)
	b.budget -= len(numbers)
	l := leaf{prefix: prefix, routes: make([]*model.Route, len(numbers))}
	for i, n := range numbers {
		l.routes[i] = b.routes[n]
	}
	b.leaves = append(b.leaves, l)
}

// common is the longest common start of two strings; of the first and last of a sorted list, that of all.
func common(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
