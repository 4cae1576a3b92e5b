package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// APIVersion is the version of the language that this program reads.
const APIVersion = "sluice/v1"

// Document is an Object, read: its tree, with the place of everything.
type Document struct {
	Object
	root   *Node
	lines  func() []string
	wanted []string
}

// Wanted are the files whose text the decoded fields asked for, as the document names them. A secret's file is never
// among them.
func (d *Document) Wanted() []string { return d.wanted }

// At is the place of the whole document.
func (d *Document) At() At { return At{Node: d.root, doc: d} }

// Spec is the place of its spec.
func (d *Document) Spec() At { return d.At().Field("spec") }

// Parse reads one object's text. Problems with its YAML, apiVersion, kind and name are gathered; nil is returned
// when there is nothing to go on with.
func Parse(o Object, p *Problems) *Document {
	d := newDocument(o)
	root, err := parseNode(o.Text)
	if err != nil {
		p.Add(d.syntaxProblem(err))
		return nil
	}
	d.root = root
	if !d.header(p) {
		return nil
	}
	return d
}

func newDocument(o Object) *Document {
	return &Document{Object: o, lines: sync.OnceValue(func() []string { return strings.Split(o.Text, "\n") })}
}

func (d *Document) syntaxProblem(err error) Problem {
	line, column := 1, 1
	var place *nodeError
	if errors.As(err, &place) {
		line, column = min(place.line, max(len(d.lines())-1, 1)), place.column // the reader may point past the end
	}
	at := At{Node: &Node{Line: line, Column: column}, doc: d}
	return at.problem(Error, CodeSyntax, "", err.Error())
}

// header checks what every document has.
func (d *Document) header(p *Problems) bool {
	at := d.At()
	if d.root == nil || d.root.Kind != Map {
		p.Errorf(at, CodeType, "a document is a mapping with apiVersion, kind, metadata and spec")
		return false
	}
	for _, f := range d.root.Fields {
		switch f.Key {
		case "apiVersion", "kind", "metadata", "spec":
		default:
			unknownField(p, at, f, []string{"apiVersion", "kind", "metadata", "spec"})
		}
	}
	var meta struct {
		Name string `json:"name" jsonschema:"required"`
	}
	Decode(at.Field("metadata"), &meta, p)
	if meta.Name != "" && !nameForm.MatchString(meta.Name) {
		p.Suggestf(at.Field("metadata").Field("name"), CodeValue,
			"use lower-case letters, digits and dashes, at most 63: "+suggestName(meta.Name), "%q is not a name", meta.Name)
	}
	if d.root.Get("spec") == nil {
		p.Suggestf(at, CodeRequired, "add a spec", "%s has no spec", d.Ref)
		return false
	}
	return meta.Name != ""
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName tells whether s may name an object, a rule or a listener.
func ValidName(s string) bool { return nameForm.MatchString(s) }

func suggestName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	return strings.Trim(s[:min(len(s), 63)], "-")
}

// Split cuts a file into its documents, each as an Object with the lines it stands on. Documents of other systems
// are skipped and counted; one whose apiVersion looks like ours but is not, is a Problem.
func Split(file, text, source string, p *Problems) (objects []Object, foreign int) {
	if len(text) > MaxFileBytes {
		p.Add(Problem{Severity: Error, Code: CodeSyntax, File: file, Message: fmt.Sprintf("the file is larger than %d MiB", MaxFileBytes>>20),
			Suggestion: "split it into several files; a folder may hold any number"})
		return nil, 0
	}
	for _, part := range cut(text) {
		o := Object{Text: part.text, File: file, Line: part.line, Source: source}
		switch ours, ok := identify(&o, p); {
		case ours && ok:
			objects = append(objects, o)
		case !ours:
			foreign++
		}
	}
	return objects, foreign
}

type part struct {
	text string
	line int
}

// cut finds the documents' boundaries: in YAML a line that starts with --- is one wherever it stands. Parts that
// hold nothing but comments are left out.
func cut(text string) []part {
	var parts []part
	var b strings.Builder
	first, line, empty := 1, 0, true
	flush := func() {
		if !empty {
			parts = append(parts, part{b.String(), first})
		}
		b.Reset()
		first, empty = line, true
	}
	for l := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line++
		content := strings.TrimSpace(l)
		if rest, marker := strings.CutPrefix(l, "---"); marker && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			flush()
			content = strings.TrimSpace(rest)
		}
		if content == "..." {
			flush()
			first = line + 1
			continue
		}
		empty = empty && (content == "" || content[0] == '#')
		b.WriteString(l)
	}
	flush()
	return parts
}

// identify reads what names an object. ours is false for a document of another system; ok is false when it is ours
// but cannot be told apart, which is then a Problem.
func identify(o *Object, p *Problems) (ours, ok bool) {
	d := newDocument(*o)
	root, err := parseNode(o.Text)
	if err != nil {
		if !strings.Contains(o.Text, "sluice") {
			return false, false
		}
		p.Add(d.syntaxProblem(err))
		return true, false
	}
	d.root = root
	version, kind := root.Get("apiVersion"), root.Get("kind")
	if version == nil || version.Value != APIVersion {
		return misspelt(d, version, p)
	}
	if kind == nil || kind.Value == "" {
		p.Errorf(d.At(), CodeRequired, "the document has no kind")
		return true, false
	}
	name := root.Get("metadata").Get("name")
	if name == nil || name.Value == "" {
		p.Errorf(d.At().Field("metadata"), CodeRequired, "the %s has no metadata.name", kind.Value)
		return true, false
	}
	o.Ref = Ref{Kind: kind.Value, Name: name.Value}
	return true, true
}

// misspelt tells a document of another system from one of ours with a wrong apiVersion.
func misspelt(d *Document, version *Node, p *Problems) (ours, ok bool) {
	if version == nil {
		if !isKind(d.root.Get("kind")) {
			return false, false
		}
		p.Suggestf(d.At(), CodeKind, "start it with apiVersion: "+APIVersion, "the document has no apiVersion")
		return true, false
	}
	group, _, _ := strings.Cut(version.Value, "/")
	if distance(strings.ToLower(group), "sluice") > 2 {
		return false, false
	}
	p.Suggestf(d.At().Field("apiVersion"), CodeKind, "write apiVersion: "+APIVersion, "apiVersion %q is not known", version.Value)
	return true, false
}

// isKind tells whether a document without an apiVersion looks like one of ours.
func isKind(kind *Node) bool {
	if kind == nil {
		return false
	}
	switch kind.Value {
	case "Gateway", "Route", "Policy":
		return true
	}
	return false
}
