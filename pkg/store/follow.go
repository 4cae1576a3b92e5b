package store

import "context"

// Follow lets a store whose medium others write to bring the ledger up to date: the function is given what the ledger
// holds, and returns what the medium holds now, revisions oldest first, or a nil set when that is the same. No commit
// happens meanwhile. Watchers are told of what is new.
func (l *Ledger) Follow(ctx context.Context, read func(head *Set, revisions []Revision) (*Set, []Revision, error)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	head, revisions, err := l.view(ctx)
	if err != nil {
		return err
	}
	next, revisions, err := read(head, revisions)
	if err != nil || next == nil {
		return err
	}
	return l.Load(next, revisions)
}
