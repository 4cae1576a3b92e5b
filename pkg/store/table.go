package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Table holds the records of one table in memory, with the rules of Records for them, and tells its watchers. A store
// adds the medium, and the order of writing: Prepare, what it writes, and Apply are one step of one writer.
type Table struct {
	name string

	mu       sync.RWMutex
	loaded   bool
	closed   bool
	records  map[string]Record
	watchers map[chan RecordBatch]func() bool
}

// NewTable is one whose records are not known yet: Load says them.
func NewTable(name string) *Table {
	return &Table{name: name, records: map[string]Record{}, watchers: map[chan RecordBatch]func() bool{}}
}

// Load replaces all records; watchers are told by a reset.
func (t *Table) Load(records []Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = make(map[string]Record, len(records))
	for _, r := range records {
		t.records[r.Key] = r
	}
	t.loaded = true
	for ch := range t.watchers {
		drain(ch)
		ch <- t.all()
	}
}

// Prepare checks changes against the records and gives each its version and a value of its own. It changes nothing.
func (t *Table) Prepare(ctx context.Context, changes []RecordChange) ([]RecordChange, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	out := make([]RecordChange, len(changes))
	seen := make(map[string]bool, len(changes))
	for i, c := range changes {
		if err := CheckRecord(c.Record); err != nil {
			return nil, err
		}
		if seen[c.Key] {
			return nil, fmt.Errorf("%w: the record %q is changed twice", ErrInvalid, c.Key)
		}
		seen[c.Key] = true
		if now := t.records[c.Key].Version; now != c.Version || c.Deleted && now == 0 {
			return nil, &RecordConflictError{Table: t.name, Key: c.Key, Base: c.Version, Version: now}
		}
		out[i] = RecordChange{Record{Key: c.Key}, c.Deleted}
		if !c.Deleted {
			out[i].Value, out[i].Version = bytes.Clone(c.Value), newVersion()
		}
	}
	return out, nil
}

// Apply makes changes that are written and tells the watchers. It returns the records as they are now.
func (t *Table) Apply(changes []RecordChange) []Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Record, len(changes))
	for i, c := range changes {
		out[i] = c.Record
		if c.Deleted {
			delete(t.records, c.Key)
		} else {
			t.records[c.Key] = c.Record
		}
	}
	if len(changes) > 0 && !t.closed {
		t.tell(changes)
	}
	return out
}

// tell adds changes to what each watcher has not taken yet. The lock is held, so nobody else sends.
func (t *Table) tell(changes []RecordChange) {
	for ch := range t.watchers {
		batch := drain(ch)
		if batch.Changes == nil {
			batch.Changes = slices.Clone(changes) // its own: what comes is added there
		} else {
			batch.Changes = append(batch.Changes, changes...)
		}
		if len(batch.Changes) > len(t.records)+manyChanges {
			batch = t.all()
		}
		ch <- batch
	}
}

// manyChanges is how many more changes than records are kept for a slow watcher.
const manyChanges = 1000

func drain(ch chan RecordBatch) RecordBatch {
	select {
	case batch := <-ch:
		return batch
	default:
		return RecordBatch{}
	}
}

func (t *Table) all() RecordBatch {
	changes := make([]RecordChange, 0, len(t.records))
	for _, r := range t.records {
		changes = append(changes, RecordChange{Record: r})
	}
	slices.SortFunc(changes, func(a, b RecordChange) int { return cmp.Compare(a.Key, b.Key) })
	return RecordBatch{Reset: true, Changes: changes}
}

// Records are all of them, sorted by key.
func (t *Table) Records(ctx context.Context) ([]Record, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(t.records), func(a, b Record) int { return cmp.Compare(a.Key, b.Key) }), nil
}

// Record is that of a key; ErrNoRecord when there is none.
func (t *Table) Record(ctx context.Context, key string) (Record, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.usable(ctx); err != nil {
		return Record{}, err
	}
	r, ok := t.records[key]
	if !ok {
		return Record{}, fmt.Errorf("%s: %q: %w", t.name, key, ErrNoRecord)
	}
	return r, nil
}

// Watch is the WatchRecords of Records.
func (t *Table) Watch(ctx context.Context) <-chan RecordBatch {
	ch := make(chan RecordBatch, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || ctx.Err() != nil {
		close(ch)
		return ch
	}
	if t.loaded {
		ch <- t.all()
	}
	t.watchers[ch] = context.AfterFunc(ctx, func() { t.unwatch(ch) })
	return ch
}

func (t *Table) unwatch(ch chan RecordBatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.watchers[ch]; ok {
		delete(t.watchers, ch)
		close(ch)
	}
}

// Len is how many records there are.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.records)
}

// Close refuses all later calls and closes the watchers' channels.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for ch, stop := range t.watchers {
		stop()
		close(ch)
	}
	t.watchers = nil
}

func (t *Table) usable(ctx context.Context) error {
	if t.closed {
		return ErrClosed
	}
	return ctx.Err()
}
