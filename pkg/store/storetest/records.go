package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/store"
)

const table = store.TableKeys

// byBytes compares values as a whole: large ones would take long byte by byte.
// No record is as good as none.
var byBytes = cmp.Options{
	cmp.Comparer(bytes.Equal),
	cmp.FilterValues(func(a, b []store.Record) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
	cmp.FilterValues(func(a, b []store.RecordChange) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
}

// put is the change that makes a record, or replaces the given version of it.
func put(key, value string, version uint64) store.RecordChange {
	return store.RecordChange{Record: store.Record{Key: key, Value: []byte(value), Version: version}}
}

func gone(key string, version uint64) store.RecordChange {
	return store.RecordChange{Record: store.Record{Key: key, Version: version}, Deleted: true}
}

func write(t testing.TB, s store.Store, table string, changes ...store.RecordChange) []store.Record {
	t.Helper()
	records, err := s.WriteRecords(t.Context(), table, changes...)
	if err != nil {
		t.Fatalf("write to %s: %v", table, err)
	}
	return records
}

func records(t testing.TB, s store.Store, table string) []store.Record {
	t.Helper()
	records, err := s.Records(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// sameRecords compares also versions.
func sameRecords(t testing.TB, what string, want, got []store.Record) {
	t.Helper()
	if d := cmp.Diff(want, got, byBytes); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func testRecords(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	sameRecords(t, "an empty table", nil, records(t, s, table))
	made := write(t, s, table, put("b", "1", 0), put("a/ü", "\x00\xff", 0))
	if made[0].Key != "b" || made[0].Version == 0 || made[0].Version == made[1].Version {
		t.Errorf("the answer is %+v", made)
	}
	sameRecords(t, "after two", []store.Record{made[1], made[0]}, records(t, s, table))
	sameRecords(t, "another table", nil, records(t, s, store.TableSecrets))
	changed := write(t, s, table, put("b", "", made[0].Version))
	if got, err := s.Record(t.Context(), table, "b"); err != nil || got.Version != changed[0].Version || len(got.Value) != 0 {
		t.Errorf("b is %+v, %v", got, err)
	}
	write(t, s, table, gone("b", changed[0].Version), put("c", "1", 0))
	if _, err := s.Record(t.Context(), table, "b"); !errors.Is(err, store.ErrNoRecord) {
		t.Errorf("a deleted record: %v", err)
	}
	again := write(t, s, table, put("b", "1", 0))
	if again[0].Version == made[0].Version || again[0].Version == changed[0].Version {
		t.Error("the version of a deleted record came back")
	}
	write(t, s, store.TableSecrets, put("b", "other", 0))
	all, err := s.AllRecords(t.Context())
	if err != nil || len(all) != 2 || len(all[table]) != 3 || len(all[store.TableSecrets]) != 1 {
		t.Errorf("all tables: %+v, %v", all, err)
	}
}

func testRecordConflict(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	was := write(t, s, table, put("a", "1", 0))[0]
	now := write(t, s, table, put("a", "2", was.Version))[0]
	for _, test := range []struct {
		name   string
		change store.RecordChange
		want   store.RecordConflictError
	}{
		{"made although it is there", put("a", "3", 0), store.RecordConflictError{Table: table, Key: "a", Version: now.Version}},
		{"replaced by an old version", put("a", "3", was.Version), store.RecordConflictError{Table: table, Key: "a", Base: was.Version, Version: now.Version}},
		{"deleted by an old version", gone("a", was.Version), store.RecordConflictError{Table: table, Key: "a", Base: was.Version, Version: now.Version}},
		{"replaced although it is not there", put("x", "3", 5), store.RecordConflictError{Table: table, Key: "x", Base: 5}},
		{"deleted although it is not there", gone("x", 0), store.RecordConflictError{Table: table, Key: "x"}},
	} {
		_, err := s.WriteRecords(t.Context(), table, put("b", "1", 0), test.change)
		if conflict, ok := errors.AsType[*store.RecordConflictError](err); !ok || *conflict != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	sameRecords(t, "after refusals", []store.Record{now}, records(t, s, table))
}

func testRecordInvalid(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	for _, test := range []struct {
		name, table string
		changes     []store.RecordChange
	}{
		{"no key", table, []store.RecordChange{put("", "1", 0)}},
		{"key too long", table, []store.RecordChange{put(strings.Repeat("k", store.MaxRecordKey+1), "1", 0)}},
		{"key not UTF-8", table, []store.RecordChange{put("\xff", "1", 0)}},
		{"key with a zero", table, []store.RecordChange{put("a\x00b", "1", 0)}},
		{"value too long", table, []store.RecordChange{put("a", strings.Repeat("v", store.MaxRecord+1), 0)}},
		{"twice", table, []store.RecordChange{put("a", "1", 0), put("a", "2", 0)}},
		{"table with a slash", "a/b", []store.RecordChange{put("a", "1", 0)}},
		{"no table", "", []store.RecordChange{put("a", "1", 0)}},
	} {
		if _, err := s.WriteRecords(t.Context(), test.table, test.changes...); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := s.Records(t.Context(), "A"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("read of a table with a bad name: %v", err)
	}
	sameRecords(t, "after refusals", nil, records(t, s, table))
	large := put(strings.Repeat("k", store.MaxRecordKey), strings.Repeat("v", store.MaxRecord), 0)
	made := write(t, s, table, large)
	sameRecords(t, "the largest", []store.Record{{Key: large.Key, Value: large.Value, Version: made[0].Version}}, records(t, s, table))
}

func testRecordWatch(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	a := write(t, s, table, put("a", "1", 0))[0]
	ctx, cancel := context.WithCancel(t.Context())
	batches, slow := s.WatchRecords(ctx, table), s.WatchRecords(t.Context(), table)
	expectBatch(t, batches, store.RecordBatch{Reset: true, Changes: []store.RecordChange{{Record: a}}})
	b := write(t, s, table, put("b", "1", 0))[0]
	expectBatch(t, batches, store.RecordBatch{Changes: []store.RecordChange{{Record: b}}})
	write(t, s, table, gone("a", a.Version))
	write(t, s, store.TableSecrets, put("a", "1", 0))
	expectBatch(t, batches, store.RecordBatch{Changes: []store.RecordChange{gone("a", 0)}})
	expectBatch(t, slow, store.RecordBatch{Reset: true, Changes: []store.RecordChange{{Record: a}, {Record: b}, gone("a", 0)}})
	cancel()
	if _, open := next(t, batches); open {
		t.Error("the watch did not end with its context")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, ch := range map[string]<-chan store.RecordBatch{"open": slow, "new": s.WatchRecords(t.Context(), table)} {
		if batch, open := next(t, ch); open {
			t.Errorf("a watch of a closed store, %s: %+v", name, batch)
		}
	}
}

// testRecordSlow has a watcher that takes nothing for a long time: what waits for it is no more than the table.
func testRecordSlow(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	slow := s.WatchRecords(t.Context(), table)
	expectBatch(t, slow, store.RecordBatch{Reset: true})
	const many = 600
	for range 4 {
		var changes []store.RecordChange
		was := records(t, s, table)
		for i := range many {
			change := put(fmt.Sprintf("k%04d", i), "v", 0)
			if was != nil {
				change.Version = was[i].Version
			}
			changes = append(changes, change)
		}
		write(t, s, table, changes...)
	}
	batch, _ := next(t, slow)
	if !batch.Reset || len(batch.Changes) > 2*many {
		t.Errorf("reset %t, %d changes", batch.Reset, len(batch.Changes))
	}
	held := map[string]store.Record{}
	take(held, batch)
	sameRecords(t, "what the watcher holds", records(t, s, table), sorted(held))
}

func next(t testing.TB, batches <-chan store.RecordBatch) (store.RecordBatch, bool) {
	t.Helper()
	select {
	case batch, open := <-batches:
		return batch, open
	case <-time.After(10 * time.Second):
		t.Fatal("the watcher was told nothing")
		return store.RecordBatch{}, false
	}
}

func expectBatch(t testing.TB, batches <-chan store.RecordBatch, want store.RecordBatch) {
	t.Helper()
	if got, open := next(t, batches); !open || !cmp.Equal(want, got, byBytes) {
		t.Fatalf("open %t (-want +got):\n%s", open, cmp.Diff(want, got))
	}
}

// testRecordConcurrent has several writers add to one counter, and each make records of its own.
func testRecordConcurrent(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	const writers, each = 4, 10
	batches := s.WatchRecords(t.Context(), table)
	var group errgroup.Group
	for w := range writers {
		group.Go(func() error {
			for n := range each {
				if err := count(t.Context(), s); err != nil {
					return err
				}
				if _, err := s.WriteRecords(t.Context(), table, put(fmt.Sprint(w, "-", n), "x", 0)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	counter, err := s.Record(t.Context(), table, "counter")
	if err != nil || string(counter.Value) != strconv.Itoa(writers*each) {
		t.Errorf("the counter is %q, %v", counter.Value, err)
	}
	held := map[string]store.Record{}
	for len(held) < writers*each+1 || held["counter"].Version != counter.Version {
		batch, _ := next(t, batches)
		take(held, batch)
	}
	sameRecords(t, "what the watcher holds", records(t, s, table), sorted(held))
}

func count(ctx context.Context, s store.Store) error {
	for {
		r, err := s.Record(ctx, table, "counter")
		if err != nil && !errors.Is(err, store.ErrNoRecord) {
			return err
		}
		n, _ := strconv.Atoi(string(r.Value))
		_, err = s.WriteRecords(ctx, table, put("counter", strconv.Itoa(n+1), r.Version))
		if _, conflict := errors.AsType[*store.RecordConflictError](err); !conflict {
			return err
		}
	}
}

func testRecordClosed(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, listErr := s.Records(t.Context(), table)
	_, getErr := s.Record(t.Context(), table, "a")
	_, writeErr := s.WriteRecords(t.Context(), table, put("a", "1", 0))
	for i, err := range []error{listErr, getErr, writeErr} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func testRecordExport(t *testing.T, o Opener) {
	from, to := open(t, o, store.Options{}), open(t, o, store.Options{})
	commit(t, from, set(0, Object("a", 1)))
	plain := export(t, from, store.ExportOptions{})
	write(t, from, table, put("k2", "\xff", 0), put("k1", "v", 0))
	write(t, from, store.TableSecrets, put("s", "", 0))
	for _, headOnly := range []bool{false, true} {
		text := export(t, from, store.ExportOptions{HeadOnly: headOnly})
		importInto(t, to, text, store.ImportOptions{Replace: true})
		if back := export(t, to, store.ExportOptions{HeadOnly: headOnly}); back != text {
			t.Errorf("head only %t: the export of the import differs:\n%s", headOnly, cmp.Diff(text, back))
		}
	}
	batches := to.WatchRecords(t.Context(), table)
	next(t, batches)
	was := records(t, to, table)[0]
	importInto(t, to, plain, store.ImportOptions{Replace: true})
	expectBatch(t, batches, store.RecordBatch{Reset: true})
	made := write(t, to, table, put(was.Key, "v", 0))
	if made[0].Version == was.Version {
		t.Error("a version came back")
	}
	only := open(t, o, store.Options{})
	write(t, only, table, put("a", "1", 0))
	if _, err := store.Import(t.Context(), only, strings.NewReader(plain), store.ImportOptions{}); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("import into a store that has only records: %v", err)
	}
}
