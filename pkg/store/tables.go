package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Tables are the tables of a store that nobody else writes to, all of them in memory: what Ledger is for the policies.
type Tables struct {
	// writing is held by one writer at a time.
	writing sync.Mutex

	mu     sync.Mutex
	closed bool
	tables map[string]*Table
}

// NewTables are empty ones; Load fills them.
func NewTables() *Tables { return &Tables{tables: map[string]*Table{}} }

// Load replaces the records of all tables.
func (t *Tables) Load(records map[string][]Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range records {
		t.make(name)
	}
	for name, table := range t.tables {
		table.Load(records[name])
	}
}

// make is called with the lock.
func (t *Tables) make(name string) *Table {
	table := t.tables[name]
	if table == nil {
		table = NewTable(name)
		table.loaded = true
		if t.closed {
			table.Close()
		}
		t.tables[name] = table
	}
	return table
}

func (t *Tables) table(name string) (*Table, error) {
	if err := CheckTable(name); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.make(name), nil
}

// Records is the Records of Records.
func (t *Tables) Records(ctx context.Context, table string) ([]Record, error) {
	of, err := t.table(table)
	if err != nil {
		return nil, err
	}
	return of.Records(ctx)
}

// Record is the Record of Records.
func (t *Tables) Record(ctx context.Context, table, key string) (Record, error) {
	of, err := t.table(table)
	if err != nil {
		return Record{}, err
	}
	return of.Record(ctx, key)
}

// Watch is the WatchRecords of Records; the channel of a name that is no table's is closed.
func (t *Tables) Watch(ctx context.Context, table string) <-chan RecordBatch {
	of, err := t.table(table)
	if err != nil {
		of = NewTable(table)
		of.Close()
	}
	return of.Watch(ctx)
}

// Write is the WriteRecords of Records: changes that may be made are written before they are there.
func (t *Tables) Write(ctx context.Context, table string, changes []RecordChange, write func([]RecordChange) error) ([]Record, error) {
	of, err := t.table(table)
	if err != nil {
		return nil, err
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	prepared, err := of.Prepare(ctx, changes)
	if err != nil || len(prepared) == 0 {
		return nil, err
	}
	if err := write(prepared); err != nil {
		return nil, fmt.Errorf("write to %s: %w", table, err)
	}
	return of.Apply(prepared), nil
}

// Restore has the records of an archive written and loads them; ErrNotEmpty when there are some and replace is false.
func (t *Tables) Restore(records map[string][]Record, replace bool, write func(map[string][]Record) error) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	if !replace && t.len() > 0 {
		return ErrNotEmpty
	}
	records = Renewed(records)
	if err := write(records); err != nil {
		return err
	}
	t.Load(records)
	return nil
}

// Renewed are the records with versions of their own, so that none is taken for one that was there before.
func Renewed(records map[string][]Record) map[string][]Record {
	out := make(map[string][]Record, len(records))
	for name, table := range records {
		out[name] = slices.Clone(table)
		for i := range out[name] {
			out[name][i].Version = newVersion()
		}
	}
	return out
}

func (t *Tables) len() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, table := range t.tables {
		n += table.Len()
	}
	return n
}

// All are the records of all tables that have some.
func (t *Tables) All(ctx context.Context) (map[string][]Record, error) {
	t.mu.Lock()
	tables := maps.Clone(t.tables)
	t.mu.Unlock()
	out := map[string][]Record{}
	for name, table := range tables {
		records, err := table.Records(ctx)
		if err != nil {
			return nil, err
		}
		if len(records) > 0 {
			out[name] = records
		}
	}
	return out, nil
}

// Close waits for the writer under way, refuses all later calls and closes the watchers' channels.
func (t *Tables) Close() {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, table := range t.tables {
		table.Close()
	}
}
