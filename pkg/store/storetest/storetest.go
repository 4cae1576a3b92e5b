// Package storetest holds every store to the contract of store.Store, by the same tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Opener opens the store at a place; a store that outlives its process is opened there again with what it had.
type Opener struct {
	// Open opens the store, new or as it was left.
	Open func(place string, o store.Options) (store.Store, error)
	// Durable says that a store which was closed is opened again with what it had.
	Durable bool
}

// Run runs all of the contract's tests.
func Run(t *testing.T, o Opener) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"an empty store is revision 0", testEmpty},
		{"a commit is the head and stays in the history", testCommit},
		{"a change on an old head is refused", testConflict},
		{"a change that changes nothing makes no revision", testNothing},
		{"equal sets have equal digests", testDigest},
		{"a request ID is committed once", testRequest},
		{"what cannot be kept is refused", testInvalid},
		{"old revisions are dropped, the others stay whole", testKeep},
		{"a watcher sees every newest head", testWatch},
		{"many who commit at once", testConcurrent},
		{"a closed store refuses", testClosed},
		{"a site moves by export and import", testExport},
		{"a head moves without its history", testHeadOnly},
		{"an import replaces only when told", testReplace},
		{"any order of calls agrees with the model", testModel},
		{"records come, change and go", testRecords},
		{"a change on an old version of a record is refused", testRecordConflict},
		{"records that cannot be kept are refused", testRecordInvalid},
		{"a watcher of records is told what changed", testRecordWatch},
		{"what waits for a slow watcher is bounded", testRecordSlow},
		{"many who write records at once", testRecordConcurrent},
		{"a closed store refuses records", testRecordClosed},
		{"records move by export and import", testRecordExport},
		{"any order of calls with records agrees with the model", testRecordModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, o) })
	}
}

// Object is a Route of that name, the same for the same version.
func Object(name string, version int) policy.Object {
	return policy.Object{
		Ref:  policy.Ref{Kind: "Route", Name: name},
		Text: fmt.Sprintf("apiVersion: sluice/v1\nkind: Route\nmetadata: {name: %s}\nspec: {version: %d} # <ü>\n", name, version),
		File: "routes/" + name + ".yaml", Line: 1, Source: "shop",
		Content: map[string]string{"schema.json": fmt.Sprintf(`{"minimum": %d}`, version)},
	}
}

func open(t testing.TB, o Opener, options store.Options) store.Store {
	t.Helper()
	s, err := o.Open(t.TempDir(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func commit(t testing.TB, s store.Store, c store.Change) store.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatalf("commit on %d: %v", c.Base, err)
	}
	return rev
}

func set(base uint64, objects ...policy.Object) store.Change {
	return store.Change{Base: base, Set: objects}
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func at(t testing.TB, s store.Store, revision uint64) []policy.Object {
	t.Helper()
	rev, objects, err := s.At(t.Context(), revision)
	if err != nil {
		t.Fatal(err)
	}
	if rev.Number != revision {
		t.Fatalf("At(%d) is revision %d", revision, rev.Number)
	}
	return objects
}

func testEmpty(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	head, objects, err := s.Head(t.Context())
	if err != nil || head.Number != 0 || len(objects) != 0 {
		t.Errorf("head %+v, %d objects, %v", head, len(objects), err)
	}
	if objects := at(t, s, 0); len(objects) != 0 {
		t.Errorf("revision 0 has %d objects", len(objects))
	}
	if _, _, err := s.At(t.Context(), 1); !errors.Is(err, store.ErrNoRevision) {
		t.Errorf("revision 1: %v", err)
	}
	history, err := s.History(t.Context(), 0)
	if err != nil || len(history) != 0 {
		t.Errorf("history %v, %v", history, err)
	}
}

func testCommit(t *testing.T, o Opener) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("CET", 3600))
	s := open(t, o, store.Options{Now: func() time.Time { return now }})
	a, b := Object("a", 1), Object("b", 1)
	b.Source = "base"
	first := commit(t, s, store.Change{Who: "ana", Message: "start", Set: []policy.Object{b, a},
		Snapshots: map[string]string{"edge": "d1"}, RequestID: "r1"})
	second := commit(t, s, store.Change{Base: 1, Who: "ben", Set: []policy.Object{Object("a", 2), b}, RollbackOf: 7,
		Delete: []policy.Ref{{Kind: "Route", Name: "gone"}}})
	third := commit(t, s, store.Change{Base: 2, Delete: []policy.Ref{b.Ref}})

	diff(t, "revision 1", store.Revision{Number: 1, Time: now.UTC(), Who: "ana", Message: "start", Set: 2,
		Sources: []string{"base", "shop"}, Snapshots: map[string]string{"edge": "d1"}, RequestID: "r1",
		Digest: first.Digest, RequestDigest: first.RequestDigest}, first)
	diff(t, "revision 2", store.Revision{Number: 2, Parent: 1, Time: now.UTC(), Who: "ben", Set: 1,
		Sources: []string{"shop"}, RollbackOf: 7, Digest: second.Digest}, second)
	diff(t, "revision 3", store.Revision{Number: 3, Parent: 2, Time: now.UTC(), Deleted: 1,
		Sources: []string{"base"}, Digest: third.Digest}, third)

	diff(t, "objects at 1", []policy.Object{a, b}, at(t, s, 1))
	diff(t, "objects at 2", []policy.Object{Object("a", 2), b}, at(t, s, 2))
	diff(t, "objects at 3", []policy.Object{Object("a", 2)}, at(t, s, 3))
	history, err := s.History(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "history", []store.Revision{third, second}, history)
}

func testConflict(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	commit(t, s, set(0, Object("a", 1)))
	for _, base := range []uint64{0, 2} {
		_, err := s.Commit(t.Context(), set(base, Object("b", 1)))
		if conflict, ok := errors.AsType[*store.ConflictError](err); !ok || conflict.Head != 1 || conflict.Base != base {
			t.Errorf("a change on revision %d: %v", base, err)
		}
	}
	diff(t, "objects", []policy.Object{Object("a", 1)}, at(t, s, 1))
}

func testNothing(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	first := commit(t, s, set(0, Object("a", 1)))
	same := commit(t, s, store.Change{Base: 1, Who: "ana", Set: []policy.Object{Object("a", 1)}, Delete: []policy.Ref{{Kind: "Route", Name: "x"}}})
	diff(t, "the answer", first, same)
}

func testDigest(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	first := commit(t, s, set(0, Object("a", 1)))
	second := commit(t, s, set(1, Object("b", 1)))
	third := commit(t, s, store.Change{Base: 2, Delete: []policy.Ref{Object("b", 1).Ref}})
	if first.Digest != third.Digest || first.Digest == second.Digest {
		t.Errorf("digests %s, %s, %s: the first and the last sets are equal", first.Digest, second.Digest, third.Digest)
	}
	empty, _, err := s.At(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	fourth := commit(t, s, store.Change{Base: 3, Delete: []policy.Ref{Object("a", 1).Ref}})
	if fourth.Digest != empty.Digest {
		t.Errorf("the emptied set is %s, the empty one %s", fourth.Digest, empty.Digest)
	}
}

func testRequest(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	change := store.Change{Set: []policy.Object{Object("a", 1)}, RequestID: "r1"}
	first := commit(t, s, change)
	commit(t, s, set(1, Object("a", 2)))
	diff(t, "the answer to a retry", first, commit(t, s, change))
	change.Set[0] = Object("a", 3)
	if _, err := s.Commit(t.Context(), change); !errors.Is(err, store.ErrRequestReused) {
		t.Errorf("another change with the same request ID: %v", err)
	}
}

func testInvalid(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	with := func(change func(*policy.Object)) store.Change {
		object := Object("a", 1)
		change(&object)
		return set(0, object)
	}
	a := Object("a", 1)
	for _, test := range []struct {
		name   string
		change store.Change
	}{
		{"set twice", set(0, a, Object("a", 2))},
		{"deleted twice", store.Change{Delete: []policy.Ref{a.Ref, a.Ref}}},
		{"set and deleted", store.Change{Set: []policy.Object{a}, Delete: []policy.Ref{a.Ref}}},
		{"no name", with(func(o *policy.Object) { o.Name = "" })},
		{"slash in the kind", with(func(o *policy.Object) { o.Kind = "Route/x" })},
		{"name too long", with(func(o *policy.Object) { o.Name = strings.Repeat("x", 2000) })},
		{"text not UTF-8", with(func(o *policy.Object) { o.Text = "\xff" })},
		{"content not UTF-8", with(func(o *policy.Object) { o.Content = map[string]string{"body.bin": "\xff"} })},
		{"message not UTF-8", store.Change{Message: "\xff", Set: []policy.Object{a}}},
	} {
		if _, err := s.Commit(t.Context(), test.change); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if head, _, err := s.Head(t.Context()); head.Number != 0 || err != nil {
		t.Errorf("head %d, %v", head.Number, err)
	}
}

func testKeep(t *testing.T, o Opener) {
	s := open(t, o, store.Options{Keep: 3})
	for n := range 10 { // a comes and goes, so that the same object is named by several revisions
		change := set(uint64(n), Object("a", n%2), Object("b", n))
		commit(t, s, change)
	}
	history, err := s.History(t.Context(), 0)
	if err != nil || len(history) != 3 || history[2].Number != 8 {
		t.Fatalf("history %+v, %v", history, err)
	}
	for n := 8; n <= 10; n++ {
		diff(t, fmt.Sprint("objects at ", n), []policy.Object{Object("a", (n-1)%2), Object("b", n-1)}, at(t, s, uint64(n)))
	}
	for _, n := range []uint64{0, 1, 7, 11} {
		if _, _, err := s.At(t.Context(), n); !errors.Is(err, store.ErrNoRevision) {
			t.Errorf("revision %d: %v", n, err)
		}
	}
}

func testWatch(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	heads, slow := s.Watch(ctx), s.Watch(t.Context())
	for n := range uint64(3) {
		expectHead(t, heads, n)
		commit(t, s, set(n, Object("a", int(n))))
	}
	expectHead(t, heads, 3)
	expectHead(t, slow, 3)
	cancel()
	expectClosed(t, heads)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expectClosed(t, slow)
	expectClosed(t, s.Watch(t.Context()))
}

func expectHead(t *testing.T, heads <-chan uint64, want uint64) {
	t.Helper()
	select {
	case got, ok := <-heads:
		if !ok || got != want {
			t.Fatalf("watched head %d (open %t), want %d", got, ok, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("head %d was not announced", want)
	}
}

func expectClosed(t *testing.T, heads <-chan uint64) {
	t.Helper()
	select {
	case got, ok := <-heads:
		if ok {
			t.Fatalf("watched head %d, want the end", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch did not end")
	}
}

// testConcurrent has several writers add to one counter, each on the head it has read, while others read.
func testConcurrent(t *testing.T, o Opener) {
	s := open(t, o, store.Options{Keep: 4})
	const writers, each = 4, 10
	var group errgroup.Group
	for range writers {
		group.Go(func() error {
			for range each {
				if err := increment(t.Context(), s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	heads := s.Watch(t.Context())
	group.Go(func() error {
		for n := range heads {
			if _, _, err := s.At(t.Context(), n); err != nil && !errors.Is(err, store.ErrNoRevision) {
				return err
			}
			if n == writers*each {
				return nil
			}
		}
		return errors.New("the watch ended")
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	diff(t, "the counter", []policy.Object{Object("counter", writers*each)}, at(t, s, writers*each))
}

func increment(ctx context.Context, s store.Store) error {
	for {
		head, _, err := s.Head(ctx)
		if err != nil {
			return err
		}
		_, err = s.Commit(ctx, set(head.Number, Object("counter", int(head.Number)+1)))
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict {
			return err
		}
	}
}

func testClosed(t *testing.T, o Opener) {
	s := open(t, o, store.Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, headErr := s.Head(t.Context())
	_, _, atErr := s.At(t.Context(), 0)
	_, commitErr := s.Commit(t.Context(), set(0, Object("a", 1)))
	_, historyErr := s.History(t.Context(), 0)
	_, archiveErr := s.Archive(t.Context())
	restoreErr := s.Restore(t.Context(), store.Archive{}, true)
	for i, err := range []error{headErr, atErr, commitErr, historyErr, archiveErr, restoreErr} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func testExport(t *testing.T, o Opener) {
	for _, keep := range []int{3, 100} {
		from, to := store.NewMemory(store.Options{Keep: keep}), open(t, o, store.Options{})
		for n := range uint64(6) {
			commit(t, from, store.Change{Base: n, Who: "ana", Set: []policy.Object{Object("a", int(n%2)), Object(fmt.Sprint("n", n), 1)},
				RequestID: fmt.Sprint("r", n), Snapshots: map[string]string{"edge": fmt.Sprint(n)}})
		}
		commit(t, from, store.Change{Base: 6, Delete: []policy.Ref{Object("n0", 1).Ref}})

		there := export(t, from, store.ExportOptions{})
		importInto(t, to, there, store.ImportOptions{})
		if back := export(t, to, store.ExportOptions{}); back != there {
			t.Errorf("keep %d: the export of the import differs (-want +got):\n%s", keep, cmp.Diff(there, back))
		}
		commit(t, to, set(7, Object("later", 1)))
		diff(t, "objects at 6", at(t, from, 6), at(t, to, 6))
	}
}

func testHeadOnly(t *testing.T, o Opener) {
	from := open(t, o, store.Options{})
	for n := range uint64(3) {
		text := export(t, from, store.ExportOptions{HeadOnly: true})
		to := store.NewMemory(store.Options{})
		head, err := store.Import(t.Context(), to, strings.NewReader(text), store.ImportOptions{})
		if err != nil || head.Number != n {
			t.Fatalf("head %d, want %d, %v", head.Number, n, err)
		}
		diff(t, fmt.Sprint("objects at ", n), at(t, from, n), at(t, to, n))
		commit(t, from, set(n, Object(fmt.Sprint("n", n), 1)))
		commit(t, to, set(n, Object("other", 1)))
	}
}

func testReplace(t *testing.T, o Opener) {
	from, to := store.NewMemory(store.Options{}), open(t, o, store.Options{})
	commit(t, from, set(0, Object("a", 1)))
	commit(t, from, set(1, Object("b", 1)))
	text := export(t, from, store.ExportOptions{HeadOnly: true})
	commit(t, to, set(0, Object("mine", 1)))
	before := export(t, to, store.ExportOptions{})

	if _, err := store.Import(t.Context(), to, strings.NewReader(text), store.ImportOptions{}); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("import into a store that is not empty: %v", err)
	}
	cut := strings.NewReader(text[:len(text)-2])
	if _, err := store.Import(t.Context(), to, cut, store.ImportOptions{Replace: true}); !errors.Is(err, store.ErrBadExport) {
		t.Errorf("import of an export cut short: %v", err)
	}
	diff(t, "the store after refused imports", before, export(t, to, store.ExportOptions{}))

	watch := to.Watch(t.Context())
	expectHead(t, watch, 1)
	importInto(t, to, text, store.ImportOptions{Replace: true})
	expectHead(t, watch, 2)
	diff(t, "the head", []policy.Object{Object("a", 1), Object("b", 1)}, at(t, to, 2))
	if _, _, err := to.At(t.Context(), 1); !errors.Is(err, store.ErrNoRevision) {
		t.Errorf("revision 1 after an import of the head only: %v", err)
	}
	commit(t, to, set(2, Object("c", 1)))
}

func export(t testing.TB, s store.Store, o store.ExportOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := store.Export(t.Context(), s, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func importInto(t testing.TB, s store.Store, text string, o store.ImportOptions) {
	t.Helper()
	head, err := store.Import(t.Context(), s, strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	history, err := s.History(t.Context(), 1)
	if err != nil || history[0].Digest != head.Digest {
		t.Fatalf("head %s, history %+v, %v", head.Digest, history, err)
	}
}
