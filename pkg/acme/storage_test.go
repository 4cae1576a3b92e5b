package acme

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

func newStorage(t *testing.T, records Records, owner string, key vault.Key) *storage {
	t.Helper()
	return &storage{records: records, sealer: vault.New(nil, key), owner: owner, locks: map[string]context.CancelFunc{}}
}

func newKey(t *testing.T) vault.Key {
	t.Helper()
	key, err := vault.ParseKey([]byte(vault.NewKeyText()))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestStorage_KeepsWhatTheLibraryStores(t *testing.T) {
	ctx, kept, key := t.Context(), store.NewMemory(store.Options{}), newKey(t)
	s := newStorage(t, kept, "one", key)
	for _, k := range []string{"a/x/1", "a/x/2", "a/y/1", "ab/1"} {
		if err := s.Store(ctx, k, []byte("value of "+k)); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := newStorage(t, kept, "two", key).Load(ctx, "a/x/2"); err != nil || string(v) != "value of a/x/2" {
		t.Errorf("%q %v", v, err)
	}
	if _, err := newStorage(t, kept, "three", newKey(t)).Load(ctx, "a/x/2"); !errors.Is(err, vault.ErrNoKey) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := s.Load(ctx, "a/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder: %v", err)
	}
	if info, err := s.Stat(ctx, "a/x/1"); err != nil || !info.IsTerminal || info.Modified.IsZero() || info.Size != int64(len("value of a/x/1")) {
		t.Errorf("%+v %v", info, err)
	}
	if info, err := s.Stat(ctx, "a/x"); err != nil || info.IsTerminal {
		t.Errorf("a folder: %+v %v", info, err)
	}
	if list, err := s.List(ctx, "a", false); err != nil || !slices.Equal(list, []string{"a/x", "a/y"}) {
		t.Errorf("%v %v", list, err)
	}
	if list, err := s.List(ctx, "a", true); err != nil || !slices.Equal(list, []string{"a/x/1", "a/x/2", "a/y/1"}) {
		t.Errorf("%v %v", list, err)
	}
	if err := s.Delete(ctx, "a"); err != nil || s.Exists(ctx, "a") || !s.Exists(ctx, "ab/1") {
		t.Errorf("after deleting a: %v", err)
	}
	if err := s.Delete(ctx, "a"); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	records, err := kept.Records(ctx, store.TableACME)
	if err != nil || len(records) != 1 || slices.Contains([]string{"value of ab/1"}, string(records[0].Value)) {
		t.Errorf("%d records, %v: not encrypted, or too many", len(records), err)
	}
}

func TestLock_OneAtATimeAndADeadOwnerLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, kept, key := t.Context(), store.NewMemory(store.Options{}), newKey(t)
		one, two := newStorage(t, kept, "one", key), newStorage(t, kept, "two", key)
		if err := one.Lock(ctx, "shop"); err != nil {
			t.Fatal(err)
		}
		waiting, cancel := context.WithTimeout(ctx, 10*lockFor)
		if err := two.Lock(waiting, "shop"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("held by another, and renewed: %v", err)
		}
		cancel()
		if err := two.Lock(ctx, "other"); err != nil {
			t.Errorf("another lock: %v", err)
		}
		one.locks["shop"]() // as if the process had died
		began := time.Now()
		if err := two.Lock(ctx, "shop"); err != nil || time.Since(began) > 2*lockFor {
			t.Errorf("a dead owner's lock after %v: %v", time.Since(began), err)
		}
		if err := errors.Join(two.Unlock(ctx, "shop"), two.Unlock(ctx, "other")); err != nil {
			t.Error(err)
		}
		if err := one.Lock(ctx, "shop"); err != nil {
			t.Errorf("after it was let go: %v", err)
		}
		if err := one.Unlock(ctx, "shop"); err != nil {
			t.Error(err)
		}
	})
}
