package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// pruneAtOnce bounds how many old revisions one commit drops, so that a lowered limit does not make one commit slow.
const pruneAtOnce = 16

// Options are what every store lets be chosen; the zero value is the usual one.
type Options struct {
	// Keep is how many revisions are kept at least; DefaultKeep when 0.
	Keep int
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Step is one commit, ready to be written.
type Step struct {
	Revision Revision
	// Edits is what it does, sorted by ref.
	Edits []Edit
	// Drop are the revisions that are no longer kept once this one is.
	Drop []uint64
}

// Ledger holds what every store holds in memory, the head and the list of revisions, and the rules of Store for them.
// A store adds the medium: it loads the ledger from there, and writes each Step there before the ledger moves on.
type Ledger struct {
	keep int
	now  func() time.Time
	// writing is held for writing by one commit at a time, and for reading by those who read the medium.
	writing sync.RWMutex

	mu        sync.RWMutex
	closed    bool
	head      *Set
	revisions []Revision // oldest first
	watchers  map[chan uint64]func() bool
}

// NewLedger is an empty one; Load fills it.
func NewLedger(o Options) *Ledger {
	l := &Ledger{keep: o.Keep, now: o.Now, head: NewSet(nil), watchers: map[chan uint64]func() bool{}}
	if l.keep <= 0 {
		l.keep = DefaultKeep
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// Load replaces what the ledger holds: revisions are oldest first and head is the set of the last of them. Watchers
// are told. It refuses what does not fit together with ErrDamaged.
func (l *Ledger) Load(head *Set, revisions []Revision) error {
	if err := checkChain(revisions); err != nil {
		return err
	}
	if last := latest(revisions); last.Digest != head.Digest() {
		return fmt.Errorf("%w: the objects are not those of revision %d", ErrDamaged, last.Number)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head, l.revisions = head, revisions
	l.tell()
	return nil
}

func checkChain(revisions []Revision) error {
	for i, r := range revisions {
		if r.Number == 0 || i > 0 && r.Number != revisions[i-1].Number+1 {
			return fmt.Errorf("%w: a revision is missing before revision %d", ErrDamaged, r.Number)
		}
	}
	return nil
}

// Commit decides what becomes of a change and, when it makes a revision, has it written before the ledger moves on.
func (l *Ledger) Commit(ctx context.Context, change Change, write func(Step) error) (Revision, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	head, revisions, err := l.view(ctx)
	if err != nil {
		return Revision{}, err
	}
	step, known, err := l.prepare(change, head, revisions)
	if err != nil || step == nil {
		return known, err
	}
	next := head.With(step.Edits)
	step.Revision.Digest = next.Digest()
	if err := write(*step); err != nil {
		return Revision{}, fmt.Errorf("write revision %d: %w", step.Revision.Number, err)
	}
	l.advance(next, *step)
	return step.Revision, nil
}

// prepare returns a nil step when there is nothing to write and the answer is known.
func (l *Ledger) prepare(c Change, head *Set, revisions []Revision) (*Step, Revision, error) {
	want, err := c.read(head)
	if err != nil {
		return nil, Revision{}, err
	}
	if known, ok := committed(revisions, c.RequestID); ok {
		if known.RequestDigest != want.digest() {
			return nil, Revision{}, fmt.Errorf("request %q is revision %d: %w", c.RequestID, known.Number, ErrRequestReused)
		}
		return nil, known, nil
	}
	last := latest(revisions)
	if c.Base != last.Number {
		return nil, Revision{}, &ConflictError{Base: c.Base, Head: last.Number}
	}
	edits := want.edits(head)
	if len(edits) == 0 {
		return nil, last, nil
	}
	rev := c.revision(edits, last.Number, l.now())
	if c.RequestID != "" {
		rev.RequestDigest = want.digest()
	}
	return &Step{Revision: rev, Edits: edits, Drop: overdue(revisions, l.keep)}, Revision{}, nil
}

func (c Change) revision(edits []Edit, parent uint64, now time.Time) Revision {
	r := Revision{Number: parent + 1, Parent: parent, Time: now.Round(0).UTC(), Who: c.Who, Message: c.Message,
		Snapshots: maps.Clone(c.Snapshots), RollbackOf: c.RollbackOf, RequestID: c.RequestID}
	if len(r.Snapshots) == 0 {
		r.Snapshots = nil
	}
	sources := map[string]bool{}
	for _, e := range edits {
		touched := e.After
		if touched != nil {
			r.Set++
		} else {
			r.Deleted++
			touched = e.Before
		}
		if touched.Object.Source != "" {
			sources[touched.Object.Source] = true
		}
	}
	r.Sources = slices.Sorted(maps.Keys(sources))
	return r
}

// overdue are the revisions to drop when one more comes.
func overdue(revisions []Revision, keep int) []uint64 {
	var drop []uint64
	for i := 0; i < len(revisions)+1-keep && i < pruneAtOnce; i++ {
		drop = append(drop, revisions[i].Number)
	}
	return drop
}

func (l *Ledger) advance(head *Set, step Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
	l.revisions = append(l.revisions, step.Revision)[len(step.Drop):]
	l.tell()
}

// Head is the newest revision and its set.
func (l *Ledger) Head(ctx context.Context) (Revision, []policy.Object, error) {
	head, revisions, err := l.view(ctx)
	if err != nil {
		return Revision{}, nil, err
	}
	return latest(revisions), head.Objects(), nil
}

// At goes back from the head by the edits of the revisions from to to, both included and oldest first, that the
// function reads from the medium; no commit happens while it reads.
func (l *Ledger) At(ctx context.Context, number uint64, edits func(from, to uint64) ([][]Edit, error)) (Revision, []policy.Object, error) {
	l.writing.RLock()
	defer l.writing.RUnlock()
	head, revisions, err := l.view(ctx)
	if err != nil {
		return Revision{}, nil, err
	}
	rev, err := lookup(revisions, number)
	if err != nil {
		return Revision{}, nil, err
	}
	last := latest(revisions).Number
	if number == last {
		return rev, head.Objects(), nil
	}
	steps, err := edits(number+1, last)
	if err != nil {
		return Revision{}, nil, fmt.Errorf("revision %d: %w", number, err)
	}
	set := head.Back(steps)
	if set.Digest() != rev.Digest {
		return Revision{}, nil, fmt.Errorf("revision %d: %w: its history does not lead back to it", number, ErrDamaged)
	}
	return rev, set.Objects(), nil
}

// Reading runs the function while no commit happens.
func (l *Ledger) Reading(ctx context.Context, read func(head *Set, revisions []Revision) error) error {
	l.writing.RLock()
	defer l.writing.RUnlock()
	head, revisions, err := l.view(ctx)
	if err != nil {
		return err
	}
	return read(head, revisions)
}

// Restore has an archive written and loads it, while no commit happens.
func (l *Ledger) Restore(ctx context.Context, a Archive, replace bool, write func() error) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, revisions, err := l.view(ctx)
	if err != nil {
		return err
	}
	if len(revisions) > 0 && !replace {
		return ErrNotEmpty
	}
	head, err := a.Head()
	if err != nil {
		return err
	}
	if err := write(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return l.Load(head, a.Revisions())
}

// History is the newest revisions, newest first; all when limit is 0.
func (l *Ledger) History(ctx context.Context, limit int) ([]Revision, error) {
	_, revisions, err := l.view(ctx)
	if err != nil {
		return nil, err
	}
	if limit > 0 && limit < len(revisions) {
		revisions = revisions[len(revisions)-limit:]
	}
	history := slices.Clone(revisions)
	slices.Reverse(history)
	return history, nil
}

// view is one moment's state; neither part changes afterwards.
func (l *Ledger) view(ctx context.Context) (*Set, []Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	return l.head, l.revisions, nil
}

func latest(revisions []Revision) Revision {
	if len(revisions) == 0 {
		return Revision{Digest: NewSet(nil).Digest()}
	}
	return revisions[len(revisions)-1]
}

func lookup(revisions []Revision, number uint64) (Revision, error) {
	if number == 0 && Floor(revisions) == 0 {
		return latest(nil), nil
	}
	last := latest(revisions).Number
	if number > last {
		return Revision{}, fmt.Errorf("revision %d: %w: the head is revision %d", number, ErrNoRevision, last)
	}
	if number < revisions[0].Number {
		return Revision{}, fmt.Errorf("revision %d: %w: it is no longer kept, the oldest is revision %d", number, ErrNoRevision, revisions[0].Number)
	}
	return revisions[number-revisions[0].Number], nil
}

// Floor is the oldest state that can be gone back to: 0, the empty store, until revision 1 has been dropped. The
// edits of every revision above it are kept.
func Floor(revisions []Revision) uint64 {
	if len(revisions) == 0 || revisions[0].Number == 1 {
		return 0
	}
	return revisions[0].Number
}

func committed(revisions []Revision, request string) (Revision, bool) {
	if request == "" {
		return Revision{}, false
	}
	for _, r := range slices.Backward(revisions) {
		if r.RequestID == request {
			return r, true
		}
	}
	return Revision{}, false
}
