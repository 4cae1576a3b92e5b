package bolt

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// TestRecords_FileOfTheFirstFormat opens a file that a version made which knew of no records: it is left as it is until
// there is one, and is of the present format from then on.
func TestRecords_FileOfTheFirstFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.db")
	mustOpen(t, path).Close()
	editFile(t, path, func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket([]byte(bucketRecords)); err != nil {
			return err
		}
		return newReader(tx).table(bucketMeta).put([]byte(keyFormat), []byte("1"))
	})
	format := func() (value string) {
		t.Helper()
		editFile(t, path, func(tx *bbolt.Tx) error {
			text, err := newReader(tx).table(bucketMeta).get([]byte(keyFormat))
			value = string(text)
			return err
		})
		return value
	}
	s := mustOpen(t, path)
	if records, err := s.Records(t.Context(), store.TableKeys); err != nil || len(records) != 0 {
		t.Errorf("records %v, %v", records, err)
	}
	s.Close()
	if err := Check(path); err != nil || format() != "1" {
		t.Errorf("the file is of format %s: %v", format(), err)
	}
	s = mustOpen(t, path)
	mustWrite(t, s, "a", "1")
	s.Close()
	if err := Check(path); err != nil || format() != "2" {
		t.Errorf("the file is of format %s: %v", format(), err)
	}
	if r, err := mustOpen(t, path).Record(t.Context(), store.TableKeys, "a"); err != nil || string(r.Value) != "1" {
		t.Errorf("record %+v, %v", r, err)
	}
}

func TestRecords_Damaged(t *testing.T) {
	for name, edit := range map[string]func(b table) error{
		"a value is altered": func(b table) error {
			v := b.bucket.Get(recordKey("api-keys", "record-3"))
			return b.bucket.Put(recordKey("api-keys", "record-3"), flip(v, 20))
		},
		"it stands under another": func(b table) error {
			return b.bucket.Put(recordKey("api-keys", "other"), b.bucket.Get(recordKey("api-keys", "record-3")))
		},
		"a key without its table":   func(b table) error { return b.put([]byte("no-table"), make([]byte, 20)) },
		"a value without a version": func(b table) error { return b.put(recordKey("api-keys", "x"), []byte("short")) },
		"a version of 0":            func(b table) error { return b.put(recordKey("api-keys", "x"), make([]byte, 8)) },
		"a table with a bad name":   func(b table) error { return b.put(recordKey("A", "x"), []byte("12345678")) },
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := sample(t)
			editFile(t, path, func(tx *bbolt.Tx) error { return edit(newReader(tx).table(bucketRecords)) })
			if s, err := Open(path, store.Options{}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("open: %v", err)
				if s != nil {
					s.Close()
				}
			}
			if err := Check(path); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("check: %v", err)
			}
		})
	}
}
