package consulkv

import (
	"context"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// replacement is a table that an archive replaces.
type replacement struct {
	table  *recordTable
	next   index
	shards map[uint16][]store.Record
}

// replaceRecords adds to a draft what makes the records those of an archive: the values of all shards, and with the
// last transaction the indexes. The tables stay locked until release is called.
func (s *Store) replaceRecords(ctx context.Context, d *draft, records map[string][]store.Record, replace bool) (out []replacement, release func(), err error) {
	release = func() {
		for _, r := range out {
			r.table.mu.Unlock()
		}
	}
	records = store.Renewed(records)
	names, err := s.kv.tables(ctx)
	if err != nil {
		return nil, release, err
	}
	for name := range records {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := s.recordTable(name)
		if err != nil {
			return out, release, err
		}
		t.mu.Lock()
		r := replacement{table: t}
		out = append(out, r)
		if out[len(out)-1], err = t.replace(ctx, d, records[name], replace); err != nil {
			return out, release, err
		}
	}
	return out, release, nil
}

// replace drafts a table that has these records and no others. What stands there need not be readable when it may be
// replaced.
func (t *recordTable) replace(ctx context.Context, d *draft, records []store.Record, replace bool) (replacement, error) {
	r := replacement{table: t, shards: map[uint16][]store.Record{}}
	if !replace {
		if err := t.refresh(ctx); err != nil {
			return r, err
		}
		if len(t.index.shards) > 0 {
			return r, store.ErrNotEmpty
		}
	}
	pair, err := t.s.kv.get(ctx, indexKey(t.name))
	if err != nil {
		return r, err
	}
	at := uint64(0)
	if pair != nil {
		at = pair.ModifyIndex
	}
	for _, record := range records {
		shard := shardOf(record.Key)
		r.shards[shard] = append(r.shards[shard], record)
	}
	r.next = t.put(d, index{}, r.shards)
	d.last = append(d.last, swap(d.kv, d.addPlain(indexKey(t.name), r.next.encode()), at))
	return r, nil
}

// done takes the table to what was written.
func (r replacement) done(ctx context.Context) {
	t := r.table
	t.index, t.shards = index{}, map[uint16][]store.Record{}
	t.loaded.Store(false)
	t.at = 0
	if err := t.refresh(ctx); err != nil {
		t.s.Log.Warn("restored records could not be read yet", "table", t.name, "error", err)
	}
}
