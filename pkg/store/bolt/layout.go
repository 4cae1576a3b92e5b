package bolt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// formatVersion is the version of the layout below. The first had no records; such a file is read, and becomes one of
// the present version when the first record is written.
const (
	formatVersion = 2
	formatPlain   = 1
)

// The buckets. Every value begins with its checksum.
const (
	bucketMeta      = "meta"      // "format" → its number
	bucketHead      = "head"      // Kind/name → digest of the object at the head
	bucketObjects   = "objects"   // digest → object
	bucketUses      = "uses"      // digest → how often head and edits name it: 8 bytes
	bucketRevisions = "revisions" // number, 8 bytes → revision
	bucketEdits     = "edits"     // number and Kind/name → digests before and after, of the revisions above the floor
	bucketRecords   = "records"   // table, 0, key → version, 8 bytes, and value
)

const keyFormat = "format"

// buckets are those of a format.
func buckets(format int) []string {
	all := []string{bucketMeta, bucketHead, bucketObjects, bucketUses, bucketRevisions, bucketEdits}
	if format > formatPlain {
		all = append(all, bucketRecords)
	}
	return all
}

// edit is a store.Edit as it is written, one value each: a page of small values is rewritten when one is added, a
// page that held all edits of a large revision would be a large one.
type edit struct {
	ref           policy.Ref
	before, after string // digests, "" for none
}

func (e edit) key(revision uint64) []byte { return append(numberKey(revision), e.ref.String()...) }

// value is the two digests, zeros for none.
func (e edit) value() ([]byte, error) {
	value := make([]byte, 2*sha256.Size)
	for i, digest := range []string{e.before, e.after} {
		if digest == "" {
			continue
		}
		key, err := digestKey(digest)
		if err != nil {
			return nil, err
		}
		copy(value[i*sha256.Size:], key)
	}
	return value, nil
}

func parseEdit(key, value []byte) (edit, error) {
	if len(key) < 8 || len(value) != 2*sha256.Size {
		return edit{}, damaged("the edit %q cannot be read", key)
	}
	return edit{parseRef(key[8:]), digestIn(value[:sha256.Size]), digestIn(value[sha256.Size:])}, nil
}

func digestIn(value []byte) string {
	if bytes.Equal(value, make([]byte, sha256.Size)) {
		return ""
	}
	return hex.EncodeToString(value)
}

const sealSize = 8

// seal puts the checksum before a value.
func seal(bucket string, key, value []byte) []byte {
	return append(checksum(bucket, key, value), value...)
}

// unseal returns the value that was sealed for this place. It stays valid as long as the transaction.
func unseal(bucket string, key, sealed []byte) ([]byte, error) {
	if len(sealed) < sealSize || !bytes.Equal(sealed[:sealSize], checksum(bucket, key, sealed[sealSize:])) {
		return nil, damaged("the checksum of %s %q is wrong", bucket, key)
	}
	return sealed[sealSize:], nil
}

func checksum(bucket string, key, value []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d ", bucket, len(key))
	h.Write(key)
	h.Write(value)
	return h.Sum(nil)[:sealSize]
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// digestKey is the 32 bytes of a digest.
func digestKey(digest string) ([]byte, error) {
	key, err := hex.DecodeString(digest)
	if err != nil || len(key) != sha256.Size {
		return nil, damaged("%q is no digest", digest)
	}
	return key, nil
}

func parseRef(key []byte) policy.Ref {
	kind, name, _ := strings.Cut(string(key), "/")
	return policy.Ref{Kind: kind, Name: name}
}

// table is one bucket of a transaction, with the checksums put on and taken off.
type table struct {
	name   string
	bucket *bbolt.Bucket
}

// get returns nil when there is no such key.
func (t table) get(key []byte) ([]byte, error) {
	sealed := t.bucket.Get(key)
	if sealed == nil {
		return nil, nil
	}
	return unseal(t.name, key, sealed)
}

func (t table) put(key, value []byte) error { return t.bucket.Put(key, seal(t.name, key, value)) }

func (t table) delete(key []byte) error { return t.bucket.Delete(key) }

func (t table) each(visit func(key, value []byte) error) error {
	return t.bucket.ForEach(func(key, sealed []byte) error {
		value, err := unseal(t.name, key, sealed)
		if err != nil {
			return err
		}
		return visit(key, value)
	})
}

// under visits the keys that begin with the prefix.
func (t table) under(prefix []byte, visit func(key, value []byte) error) error {
	cursor := t.bucket.Cursor()
	for key, sealed := cursor.Seek(prefix); bytes.HasPrefix(key, prefix); key, sealed = cursor.Next() {
		value, err := unseal(t.name, key, sealed)
		if err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (t table) getJSON(key []byte, into any) error {
	value, err := t.get(key)
	if err != nil {
		return err
	}
	if value == nil {
		return damaged("%s %x is missing", t.name, key)
	}
	return decode(t.name, value, into)
}

func (t table) putJSON(key []byte, from any) error {
	value, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return t.put(key, value)
}

func decode(what string, value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return damaged("a value of %s cannot be read: %v", what, err)
	}
	return nil
}

// damaged says what is wrong with the file, and what can be done about it.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s; the file was left as it is: move it away, and put back the last backup, "+
		"or start a new store and import the last export or apply the policies again", store.ErrDamaged, fmt.Sprintf(format, args...))
}
