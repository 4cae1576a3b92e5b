package store

import (
	"context"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Memory is a Store that lives as long as the process.
type Memory struct {
	ledger *Ledger
	tables *Tables
	edits  map[uint64][]Edit // of the revisions above the floor; guarded by the ledger's order of reading and writing
}

// NewMemory is an empty one.
func NewMemory(o Options) *Memory {
	return &Memory{ledger: NewLedger(o), tables: NewTables(), edits: map[uint64][]Edit{}}
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
	if err == nil {
		a.Records, err = m.tables.All(ctx)
	}
	return a, err
}

// Restore implements Store.
func (m *Memory) Restore(ctx context.Context, a Archive, replace bool) error {
	return m.ledger.Restore(ctx, a, replace, func() error {
		return m.tables.Restore(a.Records, replace, func(map[string][]Record) error {
			m.edits = make(map[uint64][]Edit, len(a.Steps))
			for _, step := range a.Steps {
				m.edits[step.Revision.Number] = step.Edits
			}
			return nil
		})
	})
}

// Records implements Store.
func (m *Memory) Records(ctx context.Context, table string) ([]Record, error) {
	return m.tables.Records(ctx, table)
}

// Record implements Store.
func (m *Memory) Record(ctx context.Context, table, key string) (Record, error) {
	return m.tables.Record(ctx, table, key)
}

// AllRecords implements Store.
func (m *Memory) AllRecords(ctx context.Context) (map[string][]Record, error) {
	return m.tables.All(ctx)
}

// WriteRecords implements Store.
func (m *Memory) WriteRecords(ctx context.Context, table string, changes ...RecordChange) ([]Record, error) {
	return m.tables.Write(ctx, table, changes, func([]RecordChange) error { return nil })
}

// WatchRecords implements Store.
func (m *Memory) WatchRecords(ctx context.Context, table string) <-chan RecordBatch {
	return m.tables.Watch(ctx, table)
}

// Close implements Store; what was stored is gone.
func (m *Memory) Close() error {
	m.ledger.Close()
	m.tables.Close()
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
