// Package diff shows what a change does to an object, line by line as its author wrote it, and marks the lines that
// bear on security or that drain connections.
package diff

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Action is what happens to an object.
type Action string

// The actions. An object is moved when only its place changes: its file, line or source.
const (
	Add    Action = "add"
	Modify Action = "change"
	Move   Action = "move"
	Delete Action = "delete"
)

// Mark says why a line deserves a second look.
type Mark string

// The marks.
const (
	Security Mark = "security" // who may do what, and how often
	Drains   Mark = "drains"   // changes a listener, whose connections are drained
	Raw      Mark = "raw"      // raw Envoy fields
)

// Object is what happens to one object.
type Object struct {
	Ref    policy.Ref `json:"ref"`
	Action Action     `json:"action"`
	// Place is file:line, afterwards where there is one.
	Place string `json:"place"`
	// Marks are those of the changed lines, each once, sorted.
	Marks []Mark `json:"marks,omitempty"`
	Lines []Line `json:"lines,omitempty"`
	// Content names the files beside the document whose text changes.
	Content []string `json:"content,omitempty"`
}

// Op is what happens to a line.
type Op string

// The operations.
const (
	Keep   Op = "keep"
	Insert Op = "insert"
	Remove Op = "remove"
	// Skip stands for lines that are left out.
	Skip Op = "skip"
)

// Line is one line of a diff.
type Line struct {
	Op   Op     `json:"op"`
	Text string `json:"text,omitempty"`
	Mark Mark   `json:"mark,omitempty"`
}

// context is how many unchanged lines are shown around a change.
const context = 2

// Of is what happens to an object; one of before and after may be nil.
func Of(features feature.Set, before, after *policy.Object) Object {
	m := marker{features}
	old, new := text(before), text(after)
	shown := after
	if after == nil {
		shown = before
	}
	out := Object{Ref: shown.Ref, Place: place(shown), Action: action(before, after)}
	out.Content = changedContent(before, after)
	out.Lines = lines(old, new, m.lines(before), m.lines(after))
	marks := map[Mark]bool{}
	for i, l := range out.Lines {
		if l.Mark == Drains && before == nil { // a listener that is new has no connections
			out.Lines[i].Mark = ""
		}
		if mark := out.Lines[i].Mark; mark != "" {
			marks[mark] = true
		}
	}
	out.Marks = slices.Sorted(maps.Keys(marks))
	return out
}

func text(o *policy.Object) string {
	if o == nil {
		return ""
	}
	if strings.HasSuffix(o.Text, "\n") {
		return o.Text
	}
	return o.Text + "\n"
}

func action(before, after *policy.Object) Action {
	switch {
	case before == nil:
		return Add
	case after == nil:
		return Delete
	case before.Text == after.Text && maps.Equal(before.Content, after.Content):
		return Move
	}
	return Modify
}

func changedContent(before, after *policy.Object) []string {
	all := map[string]string{}
	if before != nil {
		maps.Copy(all, before.Content)
	}
	for name, text := range content(after) {
		if old, had := all[name]; had && old == text {
			delete(all, name)
			continue
		}
		all[name] = text
	}
	return slices.Sorted(maps.Keys(all))
}

func content(o *policy.Object) map[string]string {
	if o == nil {
		return nil
	}
	return o.Content
}

// lines is the diff of two texts; the maps hold the marks of their lines, counted from 1.
func lines(old, new string, oldMarks, newMarks map[int]Mark) []Line {
	unified, err := udiff.ToUnifiedDiff("", "", old, udiff.Lines(old, new), context)
	if err != nil {
		return nil // the edits are the library's own
	}
	var out []Line
	end := 1
	for _, h := range unified.Hunks {
		if h.FromLine > end {
			out = append(out, Line{Op: Skip})
		}
		from, to := max(h.FromLine, 1), max(h.ToLine, 1)
		for _, l := range h.Lines {
			line := Line{Text: strings.TrimRight(l.Content, "\r\n")}
			switch l.Kind {
			case udiff.Delete:
				line.Op, line.Mark = Remove, oldMarks[from]
				from++
			case udiff.Insert:
				line.Op, line.Mark = Insert, newMarks[to]
				to++
			default:
				line.Op = Keep
				from, to = from+1, to+1
			}
			out = append(out, line)
		}
		end = from
	}
	if len(out) > 0 && end <= strings.Count(old, "\n") {
		out = append(out, Line{Op: Skip})
	}
	return out
}

// marker finds the lines that deserve a second look.
type marker struct {
	features feature.Set
}

// lines are the marks by line of the object's text.
func (m marker) lines(o *policy.Object) map[int]Mark {
	out := map[int]Mark{}
	if o == nil {
		return out
	}
	var ignored policy.Problems
	d := policy.Parse(*o, &ignored)
	if d == nil || d.Spec().Node == nil {
		return out
	}
	last := strings.Count(text(o), "\n")
	if m.ownsSecurity(o.Kind) {
		set(out, Security, 1, last)
		return out
	}
	m.fields(d.Spec().Node, last, out)
	return out
}

// fields marks the blocks of one mapping that ends on the line given.
func (m marker) fields(n *policy.Node, last int, out map[int]Mark) {
	for i, f := range n.Fields {
		end := last
		if i+1 < len(n.Fields) {
			end = n.Fields[i+1].At.Line - 1
		}
		if f.Key == "rules" && f.Value.Kind == policy.List {
			m.rules(f.Value.Items, end, out)
			continue
		}
		if mark := m.mark(f.Key); mark != "" {
			set(out, mark, f.At.Line, end)
		}
	}
}

func (m marker) rules(items []*policy.Node, last int, out map[int]Mark) {
	for i, rule := range items {
		end := last
		if i+1 < len(items) {
			end = items[i+1].Line - 1
		}
		m.fields(rule, max(end, rule.Line), out)
	}
}

// mark is the one of a field: a Policy that is used may hold anything, so using it bears on security too.
func (m marker) mark(field string) Mark {
	switch field {
	case "use":
		return Security
	case "listeners":
		return Drains
	case "ca", "crl": // of a Certificate: whom it is believed, and what is believed no more
		return Security
	}
	f, ok := m.features.Get(field)
	switch {
	case !ok:
		return ""
	case f.Info().Stage == feature.StageRaw:
		return Raw
	case bearsOnSecurity(f.Info().Stage):
		return Security
	}
	return ""
}

// bearsOnSecurity tells by a feature's stage: everything up to the limits decides who may do what, but compression.
func bearsOnSecurity(s feature.Stage) bool {
	return s <= feature.StageRateLimit && s != feature.StageCompressor
}

// ownsSecurity tells whether all of a kind's documents bear on security.
func (m marker) ownsSecurity(kind string) bool {
	for _, f := range m.features.All() {
		k, ok := f.(feature.Kinds)
		if !ok || !bearsOnSecurity(f.Info().Stage) {
			continue
		}
		if slices.ContainsFunc(k.Kinds(), func(k feature.Kind) bool { return k.Name == kind }) {
			return true
		}
	}
	return false
}

// set marks lines, but none that has a mark of more weight already.
func set(out map[int]Mark, mark Mark, first, last int) {
	for line := first; line <= max(first, last); line++ {
		out[line] = cmp.Or(strongest(out[line], mark), mark)
	}
}

func strongest(a, b Mark) Mark {
	if a == Security || b == Security {
		return Security
	}
	return cmp.Or(b, a)
}

func place(o *policy.Object) string { return o.Place() }
