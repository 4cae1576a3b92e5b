package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Severity is how much a Problem matters.
type Severity string

// An Error keeps the policies from being applied; a Warning does not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one thing that is wrong, and where.
type Problem struct {
	Severity   Severity `json:"severity"`
	Code       Code     `json:"code"`
	Message    string   `json:"message"`
	Suggestion string   `json:"suggestion,omitempty"`
	// Path is the field: spec.rules[0].match.
	Path string `json:"path,omitempty"`
	File string `json:"file,omitempty"`
	// Line and Column count from 1; 0 means that the Problem has no single place.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Excerpt is the source around the place, the line itself marked.
	Excerpt string `json:"excerpt,omitempty"`
	// Object is the document the Problem is in.
	Object *Ref `json:"object,omitempty"`

	// hides is how many lines from Line on may hold a secret: no excerpt shows them.
	hides int
}

// Place is file:line:column, as compilers print it.
func (p Problem) Place() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// String shows the whole Problem: place, code, message, excerpt, suggestion.
func (p Problem) String() string {
	var b strings.Builder
	if place := p.Place(); place != "" {
		fmt.Fprintf(&b, "%s: ", place)
	}
	fmt.Fprintf(&b, "%s: %s [%s]\n", p.Severity, p.Message, p.Code)
	if p.Excerpt != "" {
		b.WriteString(p.Excerpt)
	}
	if p.Suggestion != "" {
		fmt.Fprintf(&b, "  help: %s\n", p.Suggestion)
	}
	return b.String()
}

// maxProblems bounds what one run gathers; the rest is counted.
const maxProblems = 1000

// Problems gathers everything that is wrong in one run. The zero value is ready; not safe for concurrent use.
type Problems struct {
	list    []Problem
	dropped int
	errors  int
}

// Add gathers one Problem.
func (p *Problems) Add(problem Problem) {
	if problem.Severity == Error {
		p.errors++
	}
	if len(p.list) >= maxProblems {
		p.dropped++
		return
	}
	p.list = append(p.list, problem)
}

// Errorf gathers an error at a place.
func (p *Problems) Errorf(at At, code Code, format string, args ...any) {
	p.Add(at.problem(Error, code, "", fmt.Sprintf(format, args...)))
}

// Suggestf gathers an error at a place with a way out.
func (p *Problems) Suggestf(at At, code Code, suggestion, format string, args ...any) {
	p.Add(at.problem(Error, code, suggestion, fmt.Sprintf(format, args...)))
}

// Warnf gathers a warning at a place with a way out.
func (p *Problems) Warnf(at At, code Code, suggestion, format string, args ...any) {
	p.Add(at.problem(Warning, code, suggestion, fmt.Sprintf(format, args...)))
}

// Join gathers all of another's.
func (p *Problems) Join(o Problems) {
	for _, problem := range o.list {
		p.Add(problem)
	}
	p.dropped += o.dropped
}

// Failed tells whether any error was gathered.
func (p *Problems) Failed() bool { return p.errors > 0 }

// Dropped is how many Problems were counted but not kept.
func (p *Problems) Dropped() int { return p.dropped }

// List is what was gathered, by file, line and column, each once.
func (p *Problems) List() []Problem {
	out := slices.Clone(p.list)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	hideLines(out)
	return slices.CompactFunc(out, func(a, b Problem) bool {
		return a.Code == b.Code && a.Message == b.Message && a.Place() == b.Place() && a.Path == b.Path
	})
}

// hideLines takes away the excerpts that would show lines which may hold a secret, whatever else is wrong there.
func hideLines(list []Problem) {
	for _, secret := range list {
		if secret.hides == 0 {
			continue
		}
		for i, p := range list {
			if p.File == secret.File && p.Line >= secret.Line && p.Line-1 < secret.Line+secret.hides {
				list[i].Excerpt = "" // an excerpt shows the line and the one before
			}
		}
	}
}

// Render is the whole list as people read it, with a count at its end.
func (p *Problems) Render() string {
	return Render(p.List(), p.dropped)
}

// Render shows problems as people read them; dropped is how many more were counted.
func Render(list []Problem, dropped int) string {
	var b strings.Builder
	errors, warnings := 0, 0
	for _, problem := range list {
		if problem.Severity == Error {
			errors++
		} else {
			warnings++
		}
		b.WriteString(problem.String())
		b.WriteByte('\n')
	}
	switch {
	case dropped > 0:
		fmt.Fprintf(&b, "%s, %s, and %d more that are not shown\n", count(errors, "error"), count(warnings, "warning"), dropped)
	case len(list) > 0:
		fmt.Fprintf(&b, "%s, %s\n", count(errors, "error"), count(warnings, "warning"))
	}
	return b.String()
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// Errors is how many errors were gathered.
func (p *Problems) Errors() int { return p.errors }
