package model

import (
	"cmp"
	"encoding/binary"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Match tells which requests a route takes. Everything in it must hold.
type Match struct {
	Path    Path
	Methods []string // sorted; any when empty
	Except  []string // sorted; methods it does not take
	Headers []Condition
	Query   []Condition
}

// Path is a pattern over a normalised path without its query: literal and {parameter} segments, or an expression.
type Path struct {
	Segments []Segment
	// Tail lets any further segments, or none, follow.
	Tail bool
	// Regex, when set, is an RE2 expression for the whole path, in place of Segments and Tail.
	Regex string
}

// Segment is one part of a path between slashes.
type Segment struct {
	Literal string
	Param   string // the parameter's name; Literal is empty then
}

// Condition is what a header or query parameter must be.
type Condition struct {
	Name  string
	Op    Op
	Value string // for Exact, Prefix, Regex
}

// Op is how a Condition compares.
type Op uint8

// The comparisons.
const (
	Exact Op = iota
	Prefix
	Regex
	Present
	Absent
)

// String is the pattern as the short form writes it.
func (p Path) String() string {
	if p.Regex != "" {
		return "~" + p.Regex
	}
	var b strings.Builder
	for _, s := range p.Segments {
		b.WriteByte('/')
		if s.Param != "" {
			b.WriteString("{" + s.Param + "}")
		}
		b.WriteString(s.Literal)
	}
	if p.Tail {
		b.WriteString("/*")
	}
	return b.String()
}

// Literal is the longest text that every matching path starts with.
func (p Path) Literal() string {
	if p.Regex != "" {
		if re, err := regexp.Compile(p.Regex); err == nil {
			prefix, _ := re.LiteralPrefix()
			return prefix
		}
		return ""
	}
	var b strings.Builder
	for _, s := range p.Segments {
		b.WriteByte('/')
		if s.Param != "" {
			return b.String()
		}
		b.WriteString(s.Literal)
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// Params are the names of the parameters, in order.
func (p Path) Params() []string {
	var names []string
	for _, s := range p.Segments {
		if s.Param != "" {
			names = append(names, s.Param)
		}
	}
	return names
}

// HasParams tells whether any segment is a parameter.
func (p Path) HasParams() bool {
	return slices.ContainsFunc(p.Segments, func(s Segment) bool { return s.Param != "" })
}

// Expression is an RE2 expression for the whole path, each parameter one group.
func (p Path) Expression() string {
	if p.Regex != "" {
		return p.Regex
	}
	var b strings.Builder
	for _, s := range p.Segments {
		b.WriteByte('/')
		if s.Param != "" {
			b.WriteString("([^/]+)")
		} else {
			b.WriteString(regexp.QuoteMeta(s.Literal))
		}
	}
	if p.Tail {
		b.WriteString("(?:/.*)?")
	}
	return b.String()
}

// Matches tells whether the pattern takes a normalised path without its query.
func (p Path) Matches(path string) bool {
	if p.Regex != "" {
		re, err := regexp.Compile(`^(?:` + p.Regex + `)$`)
		return err == nil && re.MatchString(path)
	}
	rest := path
	for _, s := range p.Segments {
		if rest == "" || rest[0] != '/' {
			return false
		}
		part, _, _ := strings.Cut(rest[1:], "/")
		if s.Param != "" && part == "" || s.Param == "" && part != s.Literal {
			return false
		}
		rest = rest[1+len(part):]
	}
	return rest == "" || p.Tail && rest[0] == '/'
}

// Order is a key that sorts as paths are tried: segment by segment from the left, a literal before a parameter before
// the rest of a /* pattern; expressions after all others. Paths with equal keys take the same requests.
func (p Path) Order() string {
	if p.Regex != "" {
		longestFirst := binary.BigEndian.AppendUint32([]byte{0xff}, math.MaxUint32-uint32(len(p.Regex)))
		return string(longestFirst) + p.Regex
	}
	var b strings.Builder
	for _, s := range p.Segments {
		if s.Param != "" {
			b.WriteByte(2)
			continue
		}
		b.WriteByte(1)
		b.WriteString(s.Literal)
		b.WriteByte(0)
	}
	if p.Tail {
		b.WriteByte(3)
	}
	return b.String()
}

// Covers tells whether every path that o takes is taken by p too. Expressions cover only themselves.
func (p Path) Covers(o Path) bool {
	if p.Regex != "" || o.Regex != "" {
		return p.Regex == o.Regex
	}
	if len(o.Segments) < len(p.Segments) || !p.Tail && (o.Tail || len(o.Segments) > len(p.Segments)) {
		return false
	}
	for i, s := range p.Segments {
		if s.Param != "" && o.Segments[i].Param == "" && o.Segments[i].Literal == "" {
			return false
		}
		if s.Param == "" && (o.Segments[i].Param != "" || o.Segments[i].Literal != s.Literal) {
			return false
		}
	}
	return true
}

// matchOrderBytes is what Match.Order adds to Path.Order.
const matchOrderBytes = 2

// Order is a key that sorts as matches are tried: by path, then the one with more conditions.
func (m Match) Order() string {
	return m.Path.Order() + string([]byte{0, 0xff - byte(min(m.Conditions(), 0xfe))})
}

// Conditions counts what a match asks for beyond the path.
func (m Match) Conditions() int {
	n := len(m.Headers) + len(m.Query)
	if len(m.Methods) > 0 {
		n++
	}
	return n
}

// Compare orders conditions by name, comparison and value.
func (c Condition) Compare(o Condition) int {
	return cmp.Or(cmp.Compare(c.Name, o.Name), cmp.Compare(c.Op, o.Op), cmp.Compare(c.Value, o.Value))
}

// Disjoint tells whether no request can meet both matches' conditions, as far as that can be decided: other methods,
// or other exact values of one header or parameter.
func (m Match) Disjoint(o Match) bool {
	if len(m.Methods) > 0 && len(o.Methods) > 0 && !slices.ContainsFunc(m.Methods, func(s string) bool { return slices.Contains(o.Methods, s) }) {
		return true
	}
	return disjoint(m.Headers, o.Headers) || disjoint(m.Query, o.Query)
}

func disjoint(a, b []Condition) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Name == y.Name && x.excludes(y) {
				return true
			}
		}
	}
	return false
}

func (c Condition) excludes(o Condition) bool {
	switch {
	case c.Op == Absent || o.Op == Absent:
		return c.Op != o.Op
	case c.Op == Exact && o.Op == Exact:
		return c.Value != o.Value
	case c.Op == Exact && o.Op == Prefix:
		return !strings.HasPrefix(c.Value, o.Value)
	case c.Op == Prefix && o.Op == Exact:
		return !strings.HasPrefix(o.Value, c.Value)
	}
	return false
}

// Undecided tells whether it cannot be told if a request can meet both matches' conditions: an expression or a prefix
// on a header or parameter that both look at.
func (m Match) Undecided(o Match) bool {
	return undecided(m.Headers, o.Headers) || undecided(m.Query, o.Query)
}

func undecided(a, b []Condition) bool {
	return slices.ContainsFunc(a, func(x Condition) bool {
		return slices.ContainsFunc(b, func(y Condition) bool {
			return x.Name == y.Name && x != y && (x.Op == Regex || y.Op == Regex)
		})
	})
}
