package store

import (
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Archive is all that a store holds: a first state and the steps from there to the head, and the records beside them.
type Archive struct {
	// Base is the oldest state and BaseRevision its revision: the empty set and revision 0 when nothing was dropped.
	Base         *Set
	BaseRevision Revision
	Steps        []Step
	// Records are those of every table that has some, by table and sorted by key. Their versions mean nothing in
	// another store, which gives them new ones.
	Records map[string][]Record
}

// NewArchive reads the steps above the floor by the function that Ledger.At takes.
func NewArchive(head *Set, revisions []Revision, edits func(from, to uint64) ([][]Edit, error)) (Archive, error) {
	floor, last := Floor(revisions), latest(revisions).Number
	steps, err := edits(floor+1, last)
	if err != nil {
		return Archive{}, err
	}
	a := Archive{Base: head.Back(steps)}
	a.BaseRevision, err = lookup(revisions, floor)
	kept := revisions[len(revisions)-len(steps):]
	for i, edits := range steps {
		a.Steps = append(a.Steps, Step{Revision: kept[i], Edits: edits})
	}
	return a, err
}

// Revisions are the archive's revisions, oldest first.
func (a Archive) Revisions() []Revision {
	var revisions []Revision
	if a.BaseRevision.Number > 0 {
		revisions = append(revisions, a.BaseRevision)
	}
	for _, step := range a.Steps {
		revisions = append(revisions, step.Revision)
	}
	return revisions
}

// Head is the set of the last revision, found by taking every step and comparing every digest on the way: ErrDamaged
// when they do not lead there.
func (a Archive) Head() (*Set, error) {
	set, revisions := a.Base, a.Revisions()
	if set == nil {
		return nil, fmt.Errorf("%w: the archive has no base", ErrDamaged)
	}
	if err := checkChain(revisions); err != nil {
		return nil, err
	}
	if Floor(revisions) != a.BaseRevision.Number || set.Digest() != a.BaseRevision.Digest {
		return nil, fmt.Errorf("%w: the archive does not begin with the objects of revision %d", ErrDamaged, Floor(revisions))
	}
	for _, step := range a.Steps {
		if !slices.IsSortedFunc(step.Edits, compareEdits) {
			return nil, fmt.Errorf("%w: the changes of revision %d are out of order", ErrDamaged, step.Revision.Number)
		}
		if set = set.With(step.Edits); set.Digest() != step.Revision.Digest {
			return nil, fmt.Errorf("%w: the objects after step %d are not those of its revision", ErrDamaged, step.Revision.Number)
		}
	}
	return set, nil
}

// headArchive is a head without its history. It is made without reading any, so that it works where the history is
// damaged. Revision 1 is its own history: it begins at the empty store.
func headArchive(rev Revision, objects []policy.Object) Archive {
	entries := make([]*Entry, len(objects))
	edits := make([]Edit, len(objects))
	for i, o := range objects {
		entries[i] = NewEntry(o)
		edits[i] = Edit{Ref: o.Ref, After: entries[i]}
	}
	if rev.Number == 1 {
		return Archive{Base: NewSet(nil), BaseRevision: latest(nil), Steps: []Step{{Revision: rev, Edits: edits}}}
	}
	return Archive{Base: NewSet(entries), BaseRevision: rev}
}
