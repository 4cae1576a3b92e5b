package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// maxName bounds a ref and a request ID, in bytes: they are keys in every medium.
const maxName = 1024

// wanted is a change read against a set: the entries it sets, sorted, and the refs it deletes, sorted.
type wanted struct {
	set    []*Entry
	remove []policy.Ref
}

// read checks the change and gives each object it sets its entry; one that the set has already keeps the set's, so
// that only what is new is hashed.
func (c Change) read(head *Set) (wanted, error) {
	w := wanted{remove: slices.Clone(c.Delete)}
	for _, o := range c.Set {
		if err := checkObject(o); err != nil {
			return wanted{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if e := head.Get(o.Ref); e != nil && equal(e.Object, o) {
			w.set = append(w.set, e)
		} else {
			w.set = append(w.set, NewEntry(o))
		}
	}
	slices.SortFunc(w.set, func(a, b *Entry) int { return a.Object.Compare(b.Object.Ref) })
	slices.SortFunc(w.remove, policy.Ref.Compare)
	if err := c.check(w); err != nil {
		return wanted{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return w, nil
}

func (c Change) check(w wanted) error {
	for i, e := range w.set {
		if i > 0 && w.set[i-1].Object.Ref == e.Object.Ref {
			return fmt.Errorf("%s is set twice", e.Object.Ref)
		}
		if _, found := slices.BinarySearchFunc(w.remove, e.Object.Ref, policy.Ref.Compare); found {
			return fmt.Errorf("%s is both set and deleted", e.Object.Ref)
		}
	}
	for i, ref := range w.remove {
		if i > 0 && w.remove[i-1] == ref {
			return fmt.Errorf("%s is deleted twice", ref)
		}
	}
	if len(c.RequestID) > maxName {
		return fmt.Errorf("the request ID has %d bytes, more than %d", len(c.RequestID), maxName)
	}
	texts := append([]string{c.Who, c.Message, c.RequestID}, slices.Collect(maps.Keys(c.Snapshots))...)
	return checkText(append(texts, slices.Collect(maps.Values(c.Snapshots))...)...)
}

// checkObject refuses what a key cannot hold, and what JSON would silently replace: an object comes back byte for
// byte as it was stored, or it is not stored.
func checkObject(o policy.Object) error {
	switch {
	case o.Kind == "" || o.Name == "":
		return fmt.Errorf("object %q of %s:%d needs a kind and a name", o.Ref, o.File, o.Line)
	case strings.Contains(o.Kind, "/"):
		return fmt.Errorf("object %q has a slash in its kind", o.Ref)
	case len(o.Kind)+len(o.Name) > maxName:
		return fmt.Errorf("object %q has a name of more than %d bytes", o.Ref.String()[:64]+"…", maxName)
	}
	if err := checkText(o.Kind, o.Name, o.Text, o.File, o.Source); err != nil {
		return fmt.Errorf("object %q: %w", o.Ref, err)
	}
	for name, content := range o.Content {
		if err := checkText(name, content); err != nil {
			return fmt.Errorf("object %q: file %q that it names: %w", o.Ref, name, err)
		}
	}
	return nil
}

func checkText(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return fmt.Errorf("it is not UTF-8 text, which is all that can be stored")
		}
	}
	return nil
}

// digest is the content hash of what was asked for, whatever it met.
func (w wanted) digest() string {
	h := sha256.New()
	for _, e := range w.set {
		io.WriteString(h, e.Digest)
	}
	for _, ref := range w.remove {
		fmt.Fprintf(h, "%q%q", ref.Kind, ref.Name)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// edits is what the change really does to the set, sorted by ref.
func (w wanted) edits(head *Set) []Edit {
	var edits []Edit
	for _, e := range w.set {
		if before := head.Get(e.Object.Ref); before != e {
			edits = append(edits, Edit{Ref: e.Object.Ref, Before: before, After: e})
		}
	}
	for _, ref := range w.remove {
		if before := head.Get(ref); before != nil {
			edits = append(edits, Edit{Ref: ref, Before: before})
		}
	}
	slices.SortFunc(edits, compareEdits)
	return edits
}
