package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse says that another process holds the file.
	ErrInUse = errors.New("another process holds it: is another `sluice serve` running? Stop that one, or choose another file")
	// ErrNewerFormat refuses a file that a later version of this program wrote.
	ErrNewerFormat = errors.New("a newer sluice wrote it: run that version or a newer one, or export there and import here")
	// ErrNotAStore refuses a file that is something else.
	ErrNotAStore = errors.New("not a sluice store: choose another path, or move the file away to start a new store")
)

// lockWait is how long Open waits for another process.
const lockWait = time.Second

// ensure refuses what cannot be a store, and makes a new store where nothing is.
func ensure(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(path)
	case err != nil:
		return advise(err)
	case info.IsDir():
		return fmt.Errorf("%w: it is a folder; name a file in it", ErrNotAStore)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is no regular file", ErrNotAStore)
	case info.Size() == 0:
		return damaged("the file is empty")
	}
	return nil
}

// create makes the new file beside its place and puts it there whole, so that no crash leaves a part of a store. When
// another process was faster, its store stays.
func create(path string) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return advise(err)
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	if err := temp.Close(); err != nil {
		return err
	}
	if err := fill(temp.Name()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func fill(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error { return writer{newReader(tx)}.clear() })
	return errors.Join(err, db.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openFile has bbolt open the file, after the file has been locked and found to be sound.
func openFile(path string, readOnly bool) (*bbolt.DB, *os.File, error) {
	file, err := os.OpenFile(path, accessFlag(readOnly), 0)
	if err != nil {
		return nil, nil, advise(err)
	}
	if err := lockAndVerify(file, readOnly); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	db, err := hand(file, readOnly)
	if err != nil {
		file.Close() // after a panic in bbolt nobody else has, and the lock is on it
	}
	return db, file, err
}

// hand gives bbolt the open file, so that the lock is never let go of. What bbolt opens later, for a backup, is the
// file again, to read.
func hand(file *os.File, readOnly bool) (db *bbolt.DB, err error) {
	handed := false
	o := &bbolt.Options{Timeout: lockWait, ReadOnly: readOnly, NoStatistics: true,
		// The array needs time in proportion to all free pages, the map to those taken.
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if handed {
				return os.OpenFile(name, flag, mode)
			}
			handed = true
			return file, nil
		}}
	_, err = guard(func() error {
		db, err = bbolt.Open(file.Name(), 0o600, o)
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	return db, err
}

func accessFlag(readOnly bool) int {
	if readOnly {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

func lockAndVerify(file *os.File, shared bool) error {
	if err := lock(file, shared); err != nil {
		return err
	}
	return verify(file)
}

// advise adds what to do to what the system says.
func advise(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission) || isReadOnly(err):
		return fmt.Errorf("%w: the store's file and its folder must be writable for the user that runs sluice (uid %d)", err, os.Geteuid())
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: make the folder first", err)
	}
	return err
}
