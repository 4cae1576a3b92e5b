package store

import (
	"fmt"
	"slices"
)

// Archive is all that a store holds: a first state and the steps from there to the head.
type Archive struct {
	// Base is the oldest state and BaseRevision its revision: the empty set and revision 0 when nothing was dropped.
	Base         *Set
	BaseRevision Revision
	Steps        []Step
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

// HeadOnly is the archive without its history. Revision 1 has no history to leave out.
func (a Archive) HeadOnly() (Archive, error) {
	head, err := a.Head()
	last := latest(a.Revisions())
	if err != nil || last.Number <= 1 {
		return a, err
	}
	return Archive{Base: head, BaseRevision: last}, nil
}
