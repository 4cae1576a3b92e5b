package bolt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// reader reads what one transaction sees.
type reader struct {
	tx      *bbolt.Tx
	entries map[string]*store.Entry // by digest, those read so far
}

func newReader(tx *bbolt.Tx) reader {
	return reader{tx: tx, entries: map[string]*store.Entry{}}
}

func (r reader) table(name string) table { return table{name, r.tx.Bucket([]byte(name))} }

// format checks that the file is a store and one that can be read.
func (r reader) format() error {
	if r.tx.Bucket([]byte(bucketMeta)) == nil {
		return fmt.Errorf("%w: it is a bbolt file of another program", ErrNotAStore)
	}
	value, err := r.table(bucketMeta).get([]byte(keyFormat))
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(string(value))
	if err != nil || version < 1 {
		return damaged("its format version is %q", value)
	}
	if version > formatVersion {
		return fmt.Errorf("%w: its format is %d, this version reads up to %d", ErrNewerFormat, version, formatVersion)
	}
	for _, name := range buckets(version) {
		if r.tx.Bucket([]byte(name)) == nil {
			return damaged("its bucket %s is missing", name)
		}
	}
	return nil
}

func (r reader) head() (*store.Set, error) {
	var entries []*store.Entry
	err := r.table(bucketHead).each(func(key, value []byte) error {
		e, err := r.entry(hex.EncodeToString(value))
		if err != nil {
			return err
		}
		if ref := parseRef(key); ref != e.Object.Ref {
			return damaged("%s stands in the place of %s", e.Object.Ref, ref)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return store.NewSet(sorted(entries)), nil
}

func (r reader) revisions() ([]store.Revision, error) {
	var revisions []store.Revision
	err := r.table(bucketRevisions).each(func(_, value []byte) error {
		var rev store.Revision
		err := decode(bucketRevisions, value, &rev)
		revisions = append(revisions, rev)
		return err
	})
	return revisions, err
}

// entry is the stored object of that digest; a digest names the same entry each time.
func (r reader) entry(digest string) (*store.Entry, error) {
	if e, ok := r.entries[digest]; ok || digest == "" {
		return e, nil
	}
	key, err := digestKey(digest)
	if err != nil {
		return nil, err
	}
	var object policy.Object
	if err := r.table(bucketObjects).getJSON(key, &object); err != nil {
		return nil, err
	}
	e := &store.Entry{Object: object, Digest: digest}
	r.entries[digest] = e
	return e, nil
}

// steps are the edits of the revisions from to to, for store.Ledger.
func (r reader) steps(from, to uint64) ([][]store.Edit, error) {
	var steps [][]store.Edit
	for n := from; n <= to; n++ {
		written, err := r.edits(n)
		if err != nil {
			return nil, err
		}
		edits := make([]store.Edit, len(written))
		for i, w := range written {
			if edits[i], err = r.edit(w); err != nil {
				return nil, err
			}
		}
		steps = append(steps, edits)
	}
	return steps, nil
}

// edits are those of revision n, sorted by ref; every revision has some.
func (r reader) edits(n uint64) ([]edit, error) {
	var edits []edit
	err := r.table(bucketEdits).under(numberKey(n), func(key, value []byte) error {
		e, err := parseEdit(key, value)
		edits = append(edits, e)
		return err
	})
	if err == nil && len(edits) == 0 {
		err = damaged("the edits of revision %d are missing", n)
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.ref.Compare(b.ref) })
	return edits, err
}

func (r reader) edit(w edit) (store.Edit, error) {
	before, err := r.entry(w.before)
	if err != nil {
		return store.Edit{}, err
	}
	after, err := r.entry(w.after)
	return store.Edit{Ref: w.ref, Before: before, After: after}, err
}

// uses is how often the object is named, 0 when it is not kept.
func (r reader) uses(digest []byte) (uint64, error) {
	value, err := r.table(bucketUses).get(digest)
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, damaged("the uses of %x cannot be read", digest)
	}
	return binary.BigEndian.Uint64(value), nil
}

// sorted puts entries in the order of their refs: that of the keys differs where a kind is the beginning of another.
func sorted(entries []*store.Entry) []*store.Entry {
	slices.SortFunc(entries, func(a, b *store.Entry) int { return a.Object.Compare(b.Object.Ref) })
	return entries
}
