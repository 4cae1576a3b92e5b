package consulkv

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Records are kept in shards, by a hash of their key: one value holds a shard's records, so that a change writes, and a
// reader reads, one shard. A table's index names the value of each shard. Only the index is ever overwritten, and it is
// compared and set: what it names is written before it or together with it.
const (
	recordsKey = "records/" // table / "index" → index; table / shard-ID → records
	indexName  = "index"
	// shardCount is fixed: with 100,000 records of 300 bytes, a shard has about 30 KB.
	shardCount = 1024
)

func indexKey(table string) string { return recordsKey + table + "/" + indexName }

func shardKey(table string, shard uint16, id uint64) string {
	return fmt.Sprintf("%s%s/%03x-%016x", recordsKey, table, shard, id)
}

// shardOf is the shard that a record stands in.
func shardOf(key string) uint16 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint16(sum[:]) % shardCount
}

// index names the values that count. A shard without records has none.
type index struct {
	// sweeps counts the deletions of what nothing names, as that of head does.
	sweeps uint64
	shards map[uint16]uint64 // shard → ID of its value
}

const indexEntry = 2 + 8

func (i index) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, i.sweeps)
	for _, shard := range slices.Sorted(maps.Keys(i.shards)) {
		b = binary.BigEndian.AppendUint16(b, shard)
		b = binary.BigEndian.AppendUint64(b, i.shards[shard])
	}
	return b
}

func decodeIndex(key string, b []byte) (index, error) {
	if len(b) < 8 || (len(b)-8)%indexEntry != 0 || len(b) > 8+shardCount*indexEntry {
		return index{}, damaged("%s has %d bytes", key, len(b))
	}
	i := index{sweeps: binary.BigEndian.Uint64(b), shards: map[uint16]uint64{}}
	for last, b := -1, b[8:]; len(b) > 0; b = b[indexEntry:] {
		shard := binary.BigEndian.Uint16(b)
		if int(shard) <= last || shard >= shardCount {
			return index{}, damaged("%s names its shards out of order", key)
		}
		last = int(shard)
		i.shards[shard] = binary.BigEndian.Uint64(b[2:])
	}
	return i, nil
}

// names tells whether the index names a key, or the value that a chunk belongs to. Keys that are not of this layout
// count as named: they are somebody else's.
func (i index) names(table, key string) bool {
	rest, ours := strings.CutPrefix(key, recordsKey+table+"/")
	name, _, _ := strings.Cut(rest, "/")
	shard, id, found := strings.Cut(name, "-")
	number, err := strconv.ParseUint(shard, 16, 16)
	value, bad := strconv.ParseUint(id, 16, 64)
	if !ours || !found || err != nil || bad != nil {
		return true
	}
	named, ok := i.shards[uint16(number)]
	return ok && named == value
}

func newShardID() uint64 { return rand.Uint64() }

// encodeShard writes records one after another: version, and key and value after their lengths.
func encodeShard(records []store.Record) []byte {
	var b []byte
	for _, r := range records {
		b = binary.AppendUvarint(b, r.Version)
		b = binary.AppendUvarint(b, uint64(len(r.Key)))
		b = append(b, r.Key...)
		b = binary.AppendUvarint(b, uint64(len(r.Value)))
		b = append(b, r.Value...)
	}
	return b
}

// decodeShard reads what encodeShard wrote: records of that shard, sorted by key.
func decodeShard(key string, shard uint16, b []byte) (records []store.Record, err error) {
	for len(b) > 0 {
		var r store.Record
		var name, value []byte
		var whole bool
		if r.Version, b, whole = number(b); whole {
			if name, b, whole = field(b); whole {
				value, b, whole = field(b)
			}
		}
		r.Key, r.Value = string(name), value
		if !whole || r.Version == 0 || store.CheckRecord(r) != nil || shardOf(r.Key) != shard {
			return nil, damaged("a record of %s cannot be read", key)
		}
		if n := len(records); n > 0 && records[n-1].Key >= r.Key {
			return nil, damaged("the records of %s are out of order", key)
		}
		records = append(records, r)
	}
	return records, nil
}

func number(b []byte) (uint64, []byte, bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

func field(b []byte) (value, rest []byte, whole bool) {
	n, b, whole := number(b)
	if !whole || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// changed is a shard after changes, all of them to its records.
func changed(records []store.Record, changes []store.RecordChange) []store.Record {
	out := slices.Clone(records)
	for _, c := range changes {
		at, found := slices.BinarySearchFunc(out, c.Key, func(r store.Record, key string) int { return cmp.Compare(r.Key, key) })
		switch {
		case c.Deleted && found:
			out = slices.Delete(out, at, at+1)
		case found:
			out[at] = c.Record
		case !c.Deleted:
			out = slices.Insert(out, at, c.Record)
		}
	}
	return out
}

// between is what makes the records of one shard out of those that it had.
func between(was, now []store.Record) (changes []store.RecordChange) {
	for len(was)+len(now) > 0 {
		order := 0
		switch {
		case len(was) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = cmp.Compare(was[0].Key, now[0].Key)
		}
		if order < 0 {
			changes = append(changes, store.RecordChange{Record: store.Record{Key: was[0].Key}, Deleted: true})
			was = was[1:]
			continue
		}
		if order > 0 || was[0].Version != now[0].Version {
			changes = append(changes, store.RecordChange{Record: now[0]})
		}
		if now = now[1:]; order == 0 {
			was = was[1:]
		}
	}
	return changes
}
