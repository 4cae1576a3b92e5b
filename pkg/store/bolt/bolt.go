// Package bolt keeps a store in one bbolt file: the default of one `sluice serve`. A commit writes what changed and
// is on disk before it is acknowledged; the head and the records are held in memory.
//
// The file is not trusted. bbolt maps it into memory and follows the offsets in it, so Open first reads its structure
// by plain reads, and every value carries a checksum over its bucket, its key and itself. A damaged file is refused
// with what to do, and left as it is; no empty store takes its place.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Store is a store.Store in a file.
type Store struct {
	db     *bbolt.DB
	file   *os.File // what db has open
	ledger *store.Ledger
	tables *store.Tables
	// broken is set when bbolt was cut off in the middle: its locks may be held for ever, so it is not called again.
	broken atomic.Pointer[error]
}

// Open opens the store file, or makes a new one where nothing is. It waits at most a second for another process to
// let go of it. Errors: ErrInUse, ErrNewerFormat, ErrNotAStore, store.ErrDamaged, or what the system said; each says
// what to do, and the file is as it was.
func Open(path string, o store.Options) (*Store, error) {
	if err := ensure(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db, file, err := openFile(path, false)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s := &Store{db: db, file: file, ledger: store.NewLedger(o), tables: store.NewTables()}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, errors.Join(err, s.Close()))
	}
	return s, nil
}

// Head implements store.Store.
func (s *Store) Head(ctx context.Context) (store.Revision, []policy.Object, error) {
	return s.ledger.Head(ctx)
}

// At implements store.Store.
func (s *Store) At(ctx context.Context, revision uint64) (store.Revision, []policy.Object, error) {
	return s.ledger.At(ctx, revision, s.steps)
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, change store.Change) (store.Revision, error) {
	return s.ledger.Commit(ctx, change, func(step store.Step) error {
		return s.update(func(w writer) error { return w.commit(step) })
	})
}

// History implements store.Store.
func (s *Store) History(ctx context.Context, limit int) ([]store.Revision, error) {
	return s.ledger.History(ctx, limit)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context) <-chan uint64 { return s.ledger.Watch(ctx) }

// Archive implements store.Store.
func (s *Store) Archive(ctx context.Context) (a store.Archive, err error) {
	err = s.ledger.Reading(ctx, func(head *store.Set, revisions []store.Revision) error {
		a, err = store.NewArchive(head, revisions, s.steps)
		return err
	})
	if err == nil {
		a.Records, err = s.tables.All(ctx)
	}
	return a, err
}

// Restore implements store.Store.
func (s *Store) Restore(ctx context.Context, a store.Archive, replace bool) error {
	return s.ledger.Restore(ctx, a, replace, func() error {
		return s.tables.Restore(a.Records, replace, func(records map[string][]store.Record) error {
			return s.update(func(w writer) error { return w.restore(a, records) })
		})
	})
}

// Backup writes a copy of the file as it is at one moment, while commits go on; Open opens the copy.
func (s *Store) Backup(ctx context.Context, to io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.view(func(r reader) error {
		_, err := r.tx.WriteTo(to)
		return err
	})
}

// Close implements store.Store; it waits for calls under way.
func (s *Store) Close() error {
	s.tables.Close()
	if !s.ledger.Close() {
		return nil
	}
	if s.broken.Load() != nil {
		return s.file.Close() // which lets go of the lock on it
	}
	return s.db.Close()
}

// load fills the ledger and the tables from the file.
func (s *Store) load() error {
	return s.view(func(r reader) error {
		if err := r.format(); err != nil {
			return err
		}
		head, err := r.head()
		if err != nil {
			return err
		}
		revisions, err := r.revisions()
		if err != nil {
			return err
		}
		records, err := r.records()
		if err != nil {
			return err
		}
		s.tables.Load(records)
		return s.ledger.Load(head, revisions)
	})
}

// steps reads in a transaction of its own, begun when the ledger's lock is held: a transaction that waited for the
// lock would keep a commit from growing the file.
func (s *Store) steps(from, to uint64) (steps [][]store.Edit, err error) {
	err = s.view(func(r reader) error {
		steps, err = r.steps(from, to)
		return err
	})
	return steps, err
}

func (s *Store) view(read func(reader) error) error {
	return s.call(func() error {
		return s.db.View(func(tx *bbolt.Tx) error { return read(newReader(tx)) })
	})
}

// update writes in one transaction. When it fails, the medium alone knows whether what was written stands there, so
// ledger and tables are filled from it again.
func (s *Store) update(write func(writer) error) error {
	err := s.call(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error { return write(writer{newReader(tx)}) })
	})
	if err != nil && s.broken.Load() == nil && !errors.Is(err, store.ErrClosed) {
		return errors.Join(err, s.load())
	}
	return err
}

// call calls bbolt, as long as it can be called.
func (s *Store) call(run func() error) error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	faulted, err := guard(run)
	if faulted {
		s.broken.Store(&err)
	}
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}

// guard turns what bbolt does about a file that changes under it, a panic or a fault in the mapped memory, into an
// error, and says that it did.
func guard(run func() error) (faulted bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			faulted, err = true, damaged("it changed or went bad while it was in use: %v", cause)
		}
	}()
	return false, run()
}
