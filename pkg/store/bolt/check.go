package bolt

import (
	"errors"
	"fmt"
	"maps"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Check reads everything in the store file, the whole history included, and reports the first thing that is wrong.
// It changes nothing, and fails with ErrInUse while a store has the file open.
func Check(path string) error {
	db, file, err := openFile(path, true)
	if err != nil {
		return fmt.Errorf("check store %s: %w", path, err)
	}
	s := &Store{db: db, file: file, ledger: store.NewLedger(store.Options{}), tables: store.NewTables()}
	if err := errors.Join(s.view(reader.check), s.Close()); err != nil {
		return fmt.Errorf("check store %s: %w", path, err)
	}
	return nil
}

func (r reader) check() error {
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
	archive, err := store.NewArchive(head, revisions, r.steps)
	if err != nil {
		return err
	}
	last, err := archive.Head()
	if err != nil {
		return damaged("%v", err)
	}
	if last.Digest() != head.Digest() {
		return damaged("the head is not where the history leads")
	}
	if _, err := r.records(); err != nil {
		return err
	}
	return r.checkUses(head, archive)
}

// checkUses compares how often each object is named with what was counted.
func (r reader) checkUses(head *store.Set, archive store.Archive) error {
	named := map[string]uint64{}
	for _, e := range head.Entries() {
		named[e.Digest]++
	}
	for _, step := range archive.Steps {
		for _, e := range step.Edits {
			if e.Before != nil {
				named[e.Before.Digest]++
			}
		}
	}
	counted, err := r.counted()
	if err != nil {
		return err
	}
	if !maps.Equal(named, counted) {
		return damaged("the objects kept are not those that head and history name")
	}
	return nil
}

// counted is the uses of every object that is kept.
func (r reader) counted() (map[string]uint64, error) {
	counted := map[string]uint64{}
	err := r.table(bucketObjects).each(func(key, _ []byte) error {
		uses, err := r.uses(key)
		counted[fmt.Sprintf("%x", key)] = uses
		return err
	})
	return counted, err
}
