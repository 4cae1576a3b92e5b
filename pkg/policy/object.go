package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Ref names one object: its kind and metadata.name.
type Ref struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String is the form people write: Kind/name.
func (r Ref) String() string { return r.Kind + "/" + r.Name }

// Compare orders refs by kind, then name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.Name, o.Name))
}

// Object is one document as its author wrote it, with the place it came from: what is stored, and what goes over
// the wire. Everything else is computed from it.
type Object struct {
	Ref
	// Text is the YAML of this one document, comments included.
	Text string `json:"text"`
	// File is where it stands, slash separated, relative to the folder that was applied.
	File string `json:"file"`
	// Line is the line of File that Text starts on, from 1.
	Line int `json:"line"`
	// Source names the apply that brought it, for pruning.
	Source string `json:"source,omitempty"`
	// Content holds the files that the document names (schemas, bodies), by the name written there.
	Content map[string]string `json:"content,omitempty"`
}

// Place is where the document begins to say something, past its marker and first comments: file:line.
func (o Object) Place() string {
	line := o.Line
	for l := range strings.Lines(o.Text) {
		if l = strings.TrimSpace(strings.TrimPrefix(l, "---")); l != "" && l[0] != '#' {
			break
		}
		line++
	}
	return o.File + ":" + strconv.Itoa(line)
}

// Digest is the content hash of everything in the object.
func (o Object) Digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q%q%q%q%d%q", o.Kind, o.Name, o.Text, o.File, o.Line, o.Source)
	for _, name := range slices.Sorted(maps.Keys(o.Content)) {
		fmt.Fprintf(h, "%q%q", name, o.Content[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
