package store

import (
	"context"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Memory is a Store that lives as long as the process.
type Memory struct {
	ledger *Ledger
	edits  map[uint64][]Edit // of the revisions above the floor; guarded by the ledger's order of reading and writing
}

// NewMemory is an empty one.
func NewMemory(o Options) *Memory {
	return &Memory{ledger: NewLedger(o), edits: map[uint64][]Edit{}}
}

// Head implements Store.
func (m *Memory) Head(ctx context.Context) (Revision, []policy.Object, error) {
	return m.ledger.Head(ctx)
}

// At implements Store.
func (m *Memory) At(ctx context.Context, revision uint64) (Revision, []policy.Object, error) {
	return m.ledger.At(ctx, revision, m.read)
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, change Change) (Revision, error) {
	return m.ledger.Commit(ctx, change, m.write)
}

// History implements Store.
func (m *Memory) History(ctx context.Context, limit int) ([]Revision, error) {
	return m.ledger.History(ctx, limit)
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context) <-chan uint64 { return m.ledger.Watch(ctx) }

// Archive implements Store.
func (m *Memory) Archive(ctx context.Context) (a Archive, err error) {
	err = m.ledger.Reading(ctx, func(head *Set, revisions []Revision) error {
		a, err = NewArchive(head, revisions, m.read)
		return err
	})
	return a, err
}

// Restore implements Store.
func (m *Memory) Restore(ctx context.Context, a Archive, replace bool) error {
	return m.ledger.Restore(ctx, a, replace, func() error {
		m.edits = make(map[uint64][]Edit, len(a.Steps))
		for _, step := range a.Steps {
			m.edits[step.Revision.Number] = step.Edits
		}
		return nil
	})
}

// Close implements Store; what was stored is gone.
func (m *Memory) Close() error {
	m.ledger.Close()
	return nil
}

func (m *Memory) read(from, to uint64) ([][]Edit, error) {
	var steps [][]Edit
	for n := from; n <= to; n++ {
		steps = append(steps, m.edits[n])
	}
	return steps, nil
}

func (m *Memory) write(step Step) error {
	m.edits[step.Revision.Number] = step.Edits
	for _, n := range step.Drop {
		delete(m.edits, n)
		delete(m.edits, n+1)
	}
	return nil
}
