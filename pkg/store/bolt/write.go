package bolt

import (
	"fmt"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// writer changes the file within one transaction.
type writer struct{ reader }

// commit writes a step: what it names, not what stands beside it.
func (w writer) commit(step store.Step) error {
	number := step.Revision.Number
	for _, e := range step.Edits {
		if err := w.record(number, edit{e.Ref, digestOf(e.Before), digestOf(e.After)}); err != nil {
			return err
		}
		if err := w.apply(e); err != nil {
			return err
		}
	}
	if err := w.table(bucketRevisions).putJSON(numberKey(number), step.Revision); err != nil {
		return err
	}
	for _, n := range step.Drop {
		if err := w.drop(n); err != nil {
			return err
		}
	}
	return nil
}

func (w writer) record(revision uint64, e edit) error {
	value, err := e.value()
	if err != nil {
		return err
	}
	return w.table(bucketEdits).put(e.key(revision), value)
}

// apply makes one edit at the head. What stood there before is named by the revision's edits from now on, so the
// number of its uses stays.
func (w writer) apply(e store.Edit) error {
	key := []byte(e.Ref.String())
	if e.After == nil {
		return w.table(bucketHead).delete(key)
	}
	return w.put(key, e.After)
}

func (w writer) put(ref []byte, e *store.Entry) error {
	digest, err := digestKey(e.Digest)
	if err != nil {
		return err
	}
	uses, err := w.uses(digest)
	if err != nil {
		return err
	}
	if uses == 0 {
		if err := w.table(bucketObjects).putJSON(digest, e.Object); err != nil {
			return err
		}
	}
	if err := w.table(bucketUses).put(digest, numberKey(uses+1)); err != nil {
		return err
	}
	return w.table(bucketHead).put(ref, digest)
}

// drop forgets revision n: the state there can no longer be gone back to, so what the next revision replaced is
// needed no more.
func (w writer) drop(n uint64) error {
	if err := w.table(bucketRevisions).delete(numberKey(n)); err != nil {
		return err
	}
	if n == 1 { // only revision 1 still has its own: the empty store before it needs no revision to go back to
		if err := w.dropEdits(1); err != nil {
			return err
		}
	}
	return w.dropEdits(n + 1)
}

func (w writer) dropEdits(n uint64) error {
	edits, err := w.edits(n)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if err := w.table(bucketEdits).delete(e.key(n)); err != nil {
			return err
		}
		if err := w.release(e.before); err != nil {
			return err
		}
	}
	return nil
}

// release takes back one use of an object, and the object with its last use.
func (w writer) release(digest string) error {
	if digest == "" {
		return nil
	}
	key, err := digestKey(digest)
	if err != nil {
		return err
	}
	uses, err := w.uses(key)
	switch {
	case err != nil:
		return err
	case uses == 0:
		return damaged("object %s is released but not in use", digest)
	case uses > 1:
		return w.table(bucketUses).put(key, numberKey(uses-1))
	}
	if err := w.table(bucketUses).delete(key); err != nil {
		return err
	}
	return w.table(bucketObjects).delete(key)
}

// restore replaces everything by the archive, and its records by those.
func (w writer) restore(a store.Archive, records map[string][]store.Record) error {
	if err := w.clear(); err != nil {
		return err
	}
	for _, e := range a.Base.Entries() {
		if err := w.put([]byte(e.Object.String()), e); err != nil {
			return err
		}
	}
	if n := a.BaseRevision.Number; n > 0 {
		if err := w.table(bucketRevisions).putJSON(numberKey(n), a.BaseRevision); err != nil {
			return err
		}
	}
	for _, step := range a.Steps {
		if err := w.commit(step); err != nil {
			return fmt.Errorf("revision %d: %w", step.Revision.Number, err)
		}
	}
	return w.putAllRecords(records)
}

// clear makes every bucket new, as in a store nobody has written to.
func (w writer) clear() error {
	for _, name := range buckets(formatVersion) {
		if w.tx.Bucket([]byte(name)) != nil {
			if err := w.tx.DeleteBucket([]byte(name)); err != nil {
				return err
			}
		}
		if _, err := w.tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return w.putFormat()
}

func (w writer) putFormat() error {
	return w.table(bucketMeta).put([]byte(keyFormat), fmt.Append(nil, formatVersion))
}

func digestOf(e *store.Entry) string {
	if e == nil {
		return ""
	}
	return e.Digest
}
