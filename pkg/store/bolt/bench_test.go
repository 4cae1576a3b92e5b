package bolt

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

const manyObjects = 5000

// many is a store of 5,000 objects of 1 KB.
func many(b *testing.B) (path string, s *Store) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "sluice.db")
	s = mustOpen(b, path)
	change := store.Change{}
	for i := range manyObjects {
		change.Set = append(change.Set, large(i, 0))
	}
	mustCommit(b, s, change)
	return path, s
}

func large(i, version int) policy.Object {
	o := storetest.Object(fmt.Sprintf("route-%04d", i), version)
	o.Text += strings.Repeat("# a comment, as people write them\n", 25)
	return o
}

func BenchmarkCommitOneOf5000(b *testing.B) {
	_, s := many(b)
	for n := 1; b.Loop(); n++ {
		mustCommit(b, s, store.Change{Base: uint64(n), Set: []policy.Object{large(n%manyObjects, n)}})
	}
}

func BenchmarkCommitOneOf5000InMemory(b *testing.B) {
	_, from := many(b)
	a, err := from.Archive(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s := store.NewMemory(store.Options{})
	if err := s.Restore(b.Context(), a, false); err != nil {
		b.Fatal(err)
	}
	for n := 1; b.Loop(); n++ {
		if _, err := s.Commit(b.Context(), store.Change{Base: uint64(n), Set: []policy.Object{large(n%manyObjects, n)}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead5000(b *testing.B) {
	_, s := many(b)
	for b.Loop() {
		if _, _, err := s.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen5000(b *testing.B) {
	path, s := many(b)
	for b.Loop() {
		s.Close()
		s = mustOpen(b, path)
	}
}

func BenchmarkWriteRecordOf100000(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "sluice.db"))
	storetest.BenchWriteOne(b, s, s.WatchRecords(b.Context(), store.TableKeys))
}

func BenchmarkLoad100000Records(b *testing.B) {
	path := filepath.Join(b.TempDir(), "sluice.db")
	s := mustOpen(b, path)
	storetest.ManyRecords(b, s)
	for b.Loop() {
		s.Close()
		s = mustOpen(b, path)
	}
}
