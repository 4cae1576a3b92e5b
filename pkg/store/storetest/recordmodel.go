package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// recordModel is what a table should hold, and what a watcher of it has been told.
type recordModel struct {
	opener  Opener
	place   string
	store   store.Store
	want    map[string]store.Record
	held    map[string]store.Record
	batches <-chan store.RecordBatch
}

func testRecordModel(t *testing.T, o Opener) {
	rapid.Check(t, func(r *rapid.T) {
		m := &recordModel{opener: o, place: t.TempDir(), want: map[string]store.Record{}}
		m.open(r)
		defer func() { m.store.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"write":  m.write,
			"watch":  m.watch,
			"reopen": m.reopen,
			"move":   m.move,
		})
	})
}

func (m *recordModel) open(r *rapid.T) {
	var err error
	if m.store, err = m.opener.Open(m.place, store.Options{}); err != nil {
		r.Fatal(err)
	}
	m.held, m.batches = map[string]store.Record{}, m.store.WatchRecords(r.Context(), table)
}

func (m *recordModel) write(r *rapid.T) {
	var changes []store.RecordChange
	conflict := false
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d/e", "ü"}), 0, 5, rapid.ID).Draw(r, "keys")
	for _, key := range keys {
		c := store.RecordChange{Record: m.want[key], Deleted: rapid.Bool().Draw(r, "delete")}
		c.Key, c.Value = key, nil
		if rapid.IntRange(0, 19).Draw(r, "stale") == 0 {
			c.Version += 7
		}
		if !c.Deleted {
			value := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "value")
			c.Value = []byte(strings.Repeat(string(value), rapid.SampledFrom([]int{1, 1, 1, 1000}).Draw(r, "times")))
		}
		conflict = conflict || c.Version != m.want[key].Version || c.Deleted && c.Version == 0
		changes = append(changes, c)
	}
	made, err := m.store.WriteRecords(r.Context(), table, changes...)
	if _, refused := errors.AsType[*store.RecordConflictError](err); refused != conflict {
		r.Fatalf("conflict %t: %v", conflict, err)
	} else if refused {
		return
	}
	if err != nil || len(made) != len(changes) {
		r.Fatalf("%d of %d records, %v", len(made), len(changes), err)
	}
	for i, c := range changes {
		if c.Deleted {
			delete(m.want, c.Key)
		} else {
			m.want[c.Key] = store.Record{Key: c.Key, Value: c.Value, Version: made[i].Version}
		}
	}
}

func (m *recordModel) check(r *rapid.T) {
	got, err := m.store.Records(r.Context(), table)
	if err != nil {
		r.Fatal(err)
	}
	if d := cmp.Diff(sorted(m.want), got, byBytes); d != "" {
		r.Fatalf("records (-want +got):\n%s", d)
	}
}

// watch takes what the watcher is told, which must lead to what there is.
func (m *recordModel) watch(r *rapid.T) {
	for cmp.Diff(sorted(m.want), sorted(m.held), byBytes) != "" {
		batch, ok := <-m.batches
		if !ok {
			r.Fatal("the watch ended")
		}
		take(m.held, batch)
	}
}

func (m *recordModel) reopen(r *rapid.T) {
	if !m.opener.Durable {
		r.Skip("it does not outlive its closing")
	}
	if err := m.store.Close(); err != nil {
		r.Fatal(err)
	}
	m.open(r)
}

// move takes the records to another store, where they have other versions.
func (m *recordModel) move(r *rapid.T) {
	a, err := m.store.Archive(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if err := m.store.Close(); err != nil {
		r.Fatal(err)
	}
	m.place = fmt.Sprint(m.place, "+")
	m.open(r)
	if err := m.store.Restore(r.Context(), a, false); err != nil {
		r.Fatal(err)
	}
	for key, want := range m.want {
		got, err := m.store.Record(r.Context(), table, key)
		if err != nil {
			r.Fatal(err)
		}
		want.Version = got.Version
		m.want[key] = want
	}
}

func take(held map[string]store.Record, batch store.RecordBatch) {
	if batch.Reset {
		clear(held)
	}
	for _, c := range batch.Changes {
		if c.Deleted {
			delete(held, c.Key)
		} else {
			held[c.Key] = c.Record
		}
	}
}

func sorted(held map[string]store.Record) []store.Record {
	return slices.SortedFunc(maps.Values(held), func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
}
