package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// At is a place in a document: a value and the path to it. The zero value is nowhere.
type At struct {
	Path string
	Node *Node
	doc  *Document
}

// Object is the document the place is in; the zero Ref when it is nowhere.
func (a At) Object() Ref {
	if a.doc == nil {
		return Ref{}
	}
	return a.doc.Ref
}

// Field is the place of a field's value; of the mapping itself when the field is absent.
func (a At) Field(name string) At {
	path := name
	if a.Path != "" {
		path = a.Path + "." + name
	}
	if v := a.Node.Get(name); v != nil {
		return At{Path: path, Node: v, doc: a.doc}
	}
	return At{Path: path, Node: a.Node, doc: a.doc}
}

// Index is the place of a list's item; of the list itself when it is shorter, or is a single value.
func (a At) Index(i int) At {
	path := a.Path + "[" + strconv.Itoa(i) + "]"
	if a.Node != nil && a.Node.Kind == List && i < len(a.Node.Items) {
		return At{Path: path, Node: a.Node.Items[i], doc: a.doc}
	}
	return At{Path: path, Node: a.Node, doc: a.doc}
}

// key is the place of the key itself.
func (a At) key(f Field) At {
	at := a.Field(f.Key)
	at.Node = f.At
	return at
}

// File is the file the place is in.
func (a At) File() string {
	if a.doc == nil {
		return ""
	}
	return a.doc.File
}

// Line is the line in the file, from 1; 0 when the place is nowhere.
func (a At) Line() int {
	if a.doc == nil || a.Node == nil {
		return 0
	}
	return a.doc.Line + a.Node.Line - 1
}

// String is file:line.
func (a At) String() string {
	if a.doc == nil {
		return ""
	}
	return a.doc.File + ":" + strconv.Itoa(a.Line())
}

func (a At) problem(s Severity, code Code, suggestion, message string) Problem {
	p := Problem{Severity: s, Code: code, Message: message, Suggestion: suggestion, Path: a.Path}
	if a.doc == nil {
		return p
	}
	ref := a.doc.Ref
	p.File, p.Object = a.doc.File, &ref
	if a.Node != nil {
		p.Line, p.Column = a.Line(), a.Node.Column
		p.Excerpt = excerpt(a.doc.lines(), a.doc.Line, a.Node.Line, a.Node.Column)
	}
	return p
}

// maxExcerptColumns bounds a shown line; a file may hold lines of megabytes.
const maxExcerptColumns = 160

// excerpt shows the line and the one before it, numbered as in the file, with a caret under the column.
func excerpt(lines []string, first, line, column int) string {
	if line < 1 || line > len(lines) {
		return ""
	}
	width := len(strconv.Itoa(first + line - 1))
	var b strings.Builder
	for n := max(line-1, 1); n <= line; n++ {
		shown := strings.TrimRight(lines[n-1], "\r")
		if len(shown) > maxExcerptColumns {
			shown = shown[:maxExcerptColumns] + "…"
		}
		fmt.Fprintf(&b, "  %*d | %s\n", width, first+n-1, shown)
	}
	if column >= 1 && column <= maxExcerptColumns {
		fmt.Fprintf(&b, "  %*s | %s^\n", width, "", strings.Repeat(" ", column-1))
	}
	return b.String()
}
