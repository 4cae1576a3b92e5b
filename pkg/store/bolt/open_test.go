package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// sample is a new store with some history in it, closed again, and its file.
func sample(t testing.TB) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sluice.db")
	s := mustOpen(t, path)
	for n := range 8 {
		change := store.Change{Base: uint64(n), Set: []policy.Object{storetest.Object("counter", n)}}
		for i := range 40 / (n + 1) {
			change.Set = append(change.Set, storetest.Object(fmt.Sprint("route-", i), n))
		}
		mustCommit(t, s, change)
		mustWrite(t, s, fmt.Sprint("record-", n), strings.Repeat("v", 50*n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, mustRead(t, path)
}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mustWrite makes a record, or gives it another value.
func mustWrite(t testing.TB, s *Store, key, value string) {
	t.Helper()
	was, err := s.Record(t.Context(), store.TableKeys, key)
	if err != nil && !errors.Is(err, store.ErrNoRecord) {
		t.Fatal(err)
	}
	r := store.Record{Key: key, Value: []byte(value), Version: was.Version}
	if _, err := s.WriteRecords(t.Context(), store.TableKeys, store.RecordChange{Record: r}); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t testing.TB, s *Store, change store.Change) {
	t.Helper()
	if _, err := s.Commit(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestOpenRefuses(t *testing.T) {
	_, whole := sample(t)
	meta, err := readMeta(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	used := int(meta.pages * meta.pageSize)
	for _, test := range []struct {
		name    string
		content []byte
		want    error
		says    string
	}{
		{"an empty file", nil, store.ErrDamaged, "the file is empty"},
		{"cut within the first page", whole[:40], store.ErrDamaged, "cut short"},
		{"cut within the second page", whole[:5000], store.ErrDamaged, "cut short"},
		{"cut by one byte that is used", whole[:used-1], store.ErrDamaged, fmt.Sprintf("at least %d bytes", used)},
		{"text", bytes.Repeat([]byte("kind: Route\n"), 1000), ErrNotAStore, "choose another path"},
		{"zeros", make([]byte, len(whole)), ErrNotAStore, "first bytes are damaged"},
		{"a flipped bit in the first meta page", flip(whole, 60), store.ErrDamaged, "meta page at byte 0"},
		{"a flipped bit in the second meta page", flip(whole, 4096+60), store.ErrDamaged, "meta page at byte 4096"},
		{"zeros after the meta pages", append(bytes.Clone(whole[:8192]), make([]byte, len(whole)-8192)...), store.ErrDamaged, "free list"},
		{"a flipped bit in a stored text", flip(whole, bytes.LastIndex(whole[:used], []byte("version: 7"))), store.ErrDamaged, "checksum of objects"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sluice.db")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			expectRefused(t, path, test.want, test.says)
			if !bytes.Equal(test.content, mustRead(t, path)) {
				t.Error("the file was changed")
			}
		})
	}
}

func flip(whole []byte, at int) []byte {
	b := bytes.Clone(whole)
	b[at] ^= 0x10
	return b
}

func expectRefused(t *testing.T, path string, want error, says string) {
	t.Helper()
	s, err := Open(path, store.Options{})
	if err == nil {
		s.Close()
		t.Fatal("it was opened")
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %q, want %q, saying %q", err, want, says)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Run("a newer format", func(t *testing.T) {
		path, _ := sample(t)
		editFile(t, path, func(tx *bbolt.Tx) error {
			return newReader(tx).table(bucketMeta).put([]byte(keyFormat), []byte("3"))
		})
		expectRefused(t, path, ErrNewerFormat, "its format is 3, this version reads up to 2")
	})
	t.Run("a bucket is gone", func(t *testing.T) {
		path, _ := sample(t)
		editFile(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketUses)) })
		expectRefused(t, path, store.ErrDamaged, "bucket uses is missing")
	})
	t.Run("an object is gone", func(t *testing.T) {
		path, _ := sample(t)
		editFile(t, path, func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bucketHead)).Delete([]byte("Route/counter"))
		})
		expectRefused(t, path, store.ErrDamaged, "the objects are not those of revision 8")
	})
	t.Run("a revision is gone", func(t *testing.T) {
		path, _ := sample(t)
		editFile(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketRevisions)).Delete(numberKey(4)) })
		expectRefused(t, path, store.ErrDamaged, "missing before revision 5")
	})
	t.Run("another program's file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "raft.db")
		editFile(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("logs")); return err })
		expectRefused(t, path, ErrNotAStore, "another program")
	})
	t.Run("a folder", func(t *testing.T) { expectRefused(t, t.TempDir(), ErrNotAStore, "it is a folder") })
	t.Run("no folder to be in", func(t *testing.T) {
		expectRefused(t, filepath.Join(t.TempDir(), "none", "sluice.db"), os.ErrNotExist, "make the folder first")
	})
	t.Run("in use", func(t *testing.T) {
		path, _ := sample(t)
		s := mustOpen(t, path)
		expectRefused(t, path, ErrInUse, "another `sluice serve`")
		if err := Check(path); !errors.Is(err, ErrInUse) {
			t.Errorf("check: %v", err)
		}
		mustCommit(t, s, store.Change{Base: 8, Set: []policy.Object{storetest.Object("later", 1)}})
	})
}

// editFile changes a store's file behind its back.
func editFile(t *testing.T, path string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(change), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sluice.db")
	mustOpen(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("the folder holds %v, %v", names, err)
	}
}

func TestBackup(t *testing.T) {
	path, _ := sample(t)
	s := mustOpen(t, path)
	var b bytes.Buffer
	if err := s.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, store.Change{Base: 8, Set: []policy.Object{storetest.Object("later", 1)}})
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(copied, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(copied); err != nil {
		t.Error(err)
	}
	want, wantObjects, _ := s.At(t.Context(), 8)
	got, gotObjects, err := mustOpen(t, copied).Head(t.Context())
	if err != nil || got.Digest != want.Digest || !cmp.Equal(wantObjects, gotObjects) {
		t.Errorf("head of the backup %+v, want %+v, %v", got, want, err)
	}
}

// TestCommitWritesLittle counts the pages that one changed object writes among many.
func TestCommitWritesLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	s := mustOpen(t, path)
	change := store.Change{}
	for i := range 2000 {
		change.Set = append(change.Set, storetest.Object(fmt.Sprint("route-", i), 1))
	}
	mustCommit(t, s, change)
	mustCommit(t, s, store.Change{Base: 1, Set: []policy.Object{storetest.Object("route-7", 2)}})
	before := mustRead(t, path)
	mustCommit(t, s, store.Change{Base: 2, Set: []policy.Object{storetest.Object("route-1000", 3)}})
	after, written := mustRead(t, path), 0
	for at := 0; at < len(after); at += 4096 {
		if at >= len(before) || !bytes.Equal(before[at:at+4096], after[at:at+4096]) {
			written++
		}
	}
	if pages := len(after) / 4096; written > 40 {
		t.Errorf("%d of %d pages were written", written, pages)
	}
	t.Logf("%d of %d pages were written", written, len(after)/4096)
}

// TestNoSpace lets the file grow no further: the commit fails whole, and the next that fits goes through.
func TestNoSpace(t *testing.T) {
	path, content := sample(t)
	s := mustOpen(t, path)
	s.db.MaxSize = len(content)
	large := storetest.Object("large", 1)
	large.Text = strings.Repeat("# a long policy\n", 100_000)
	if _, err := s.Commit(t.Context(), store.Change{Base: 8, Set: []policy.Object{large}}); err == nil {
		t.Fatal("a commit larger than the file was taken")
	}
	if head, _, err := s.Head(t.Context()); err != nil || head.Number != 8 {
		t.Errorf("head %d, %v", head.Number, err)
	}
	mustCommit(t, s, store.Change{Base: 8, Set: []policy.Object{storetest.Object("small", 1)}})
	s.db.MaxSize = 0
	mustCommit(t, s, store.Change{Base: 9, Set: []policy.Object{large}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Error(err)
	}
}

// TestCutWhileOpen takes the file's pages away from under the mapping: an error, not the end of the process.
func TestCutWhileOpen(t *testing.T) {
	path, _ := sample(t)
	s := mustOpen(t, path)
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.At(t.Context(), 1); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("reading: %v", err)
	}
	if _, err := s.Commit(t.Context(), store.Change{Base: 8, Set: []policy.Object{storetest.Object("x", 1)}}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("writing: %v", err)
	}
	if head, _, err := s.Head(t.Context()); err != nil || head.Number != 8 {
		t.Errorf("head %d, %v", head.Number, err)
	}
}
