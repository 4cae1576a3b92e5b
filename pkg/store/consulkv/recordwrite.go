package consulkv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// dropsAtOnce bounds how many replaced values go with the change that replaces them; the rest is swept.
const dropsAtOnce = maxOps - 8

// write makes changes. An index that another replica moved is read, and the changes made on it, unless they were made
// on other versions of their records.
func (t *recordTable) write(ctx context.Context, changes []store.RecordChange) ([]store.Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	prepared, err := t.prepare(ctx, changes)
	if err != nil || len(prepared) == 0 {
		return nil, err
	}
	// From here on the changes may happen, whether or not somebody still waits for them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.s.Patience)
	defer cancel()
	doubt := false // whether an attempt may have happened
	for failures := 1; ; failures++ {
		err := t.try(ctx, prepared)
		switch {
		case err == nil:
			return t.table.Apply(prepared), nil
		case undone(err) && !doubt:
			return nil, err
		case !errors.Is(err, errMoved):
			doubt = true
		}
		done, settled := t.settle(ctx, changes, prepared, doubt)
		if settled != nil || done {
			return recordsOf(prepared), settled
		}
		if !sleep(ctx, backoff(failures, t.s.Backoff/10, t.s.BackoffMax)) {
			if !doubt {
				return nil, fmt.Errorf("gave up after %d attempts: %w", failures, err)
			}
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
}

// prepare decides on the changes, on a version of the table that is read anew when they do not fit the one held.
func (t *recordTable) prepare(ctx context.Context, changes []store.RecordChange) ([]store.RecordChange, error) {
	prepared, err := t.table.Prepare(ctx, changes)
	if _, conflict := errors.AsType[*store.RecordConflictError](err); conflict {
		if err := t.refresh(ctx); err != nil {
			return nil, err
		}
		return t.table.Prepare(ctx, changes)
	}
	return prepared, err
}

// settle looks, after an attempt that failed, whether it happened all the same, or can never happen any more. What it
// prepared has its own versions, so it is known wherever it came from.
func (t *recordTable) settle(ctx context.Context, changes, prepared []store.RecordChange, doubt bool) (done bool, err error) {
	err = t.refresh(ctx)
	if errors.Is(err, store.ErrUnavailable) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if doubt && t.stand(prepared) {
		return true, nil
	}
	_, err = t.table.Prepare(ctx, changes)
	if err != nil && doubt {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return false, err
}

// stand tells whether all records are as they were prepared.
func (t *recordTable) stand(prepared []store.RecordChange) bool {
	for _, c := range prepared {
		records := t.shards[shardOf(c.Key)]
		now := slices.IndexFunc(records, func(r store.Record) bool { return r.Key == c.Key })
		if c.Deleted != (now < 0) || now >= 0 && records[now].Version != c.Version {
			return false
		}
	}
	return true
}

func recordsOf(changes []store.RecordChange) []store.Record {
	out := make([]store.Record, len(changes))
	for i, c := range changes {
		out[i] = c.Record
	}
	return out
}

// try writes the shards that change and, in the last transaction, the index that names them, unless it has moved.
func (t *recordTable) try(ctx context.Context, prepared []store.RecordChange) error {
	byShard := map[uint16][]store.RecordChange{}
	for _, c := range prepared {
		byShard[shardOf(c.Key)] = append(byShard[shardOf(c.Key)], c)
	}
	shards := make(map[uint16][]store.Record, len(byShard))
	for shard, changes := range byShard {
		shards[shard] = changed(t.shards[shard], changes)
	}
	d := newDraft(t.s.kv)
	next := t.put(d, index{t.index.sweeps, maps.Clone(t.index.shards)}, shards)
	t.drop(d, slices.Collect(maps.Keys(shards)))
	last, err := d.split(append(d.last, swap(t.s.kv, d.addPlain(indexKey(t.name), next.encode()), t.at)))
	if err != nil {
		return err
	}
	for _, ops := range last[:len(last)-1] {
		if _, err := t.s.kv.txn(ctx, ops); err != nil {
			return err
		}
	}
	answer, err := t.s.kv.txn(ctx, last[len(last)-1])
	if err != nil {
		return err
	}
	t.at, t.index = indexOf(answer, t.s.Prefix+indexKey(t.name)), next
	for shard, records := range shards {
		if t.shards[shard] = records; len(records) == 0 {
			delete(t.shards, shard)
		}
	}
	return nil
}

// put adds the values of shards to a draft, and names them in the index.
func (t *recordTable) put(d *draft, into index, shards map[uint16][]store.Record) index {
	if into.shards == nil {
		into.shards = map[uint16]uint64{}
	}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if len(shards[shard]) == 0 {
			delete(into.shards, shard)
			continue
		}
		into.shards[shard] = newShardID()
		w := d.addPlain(shardKey(t.name, shard, into.shards[shard]), encodeShard(shards[shard]))
		d.ops = append(d.ops, set(d.kv, w))
	}
	return into
}

// drop deletes the values that shards had, with their chunks.
func (t *recordTable) drop(d *draft, shards []uint16) {
	for _, shard := range shards[:min(len(shards), dropsAtOnce)] {
		if id, ok := t.index.shards[shard]; ok {
			key := d.kv.prefix + shardKey(t.name, shard, id)
			d.last = append(d.last, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVDeleteTree, Key: key}})
		}
	}
}

// sweep deletes what the index does not name: what was replaced by large changes, and what writers that failed have
// left.
func (t *recordTable) sweep(ctx context.Context) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(ctx); err != nil || t.at == 0 {
		return 0, err
	}
	keys, err := t.s.kv.keys(ctx, recordsKey+t.name+"/")
	if err != nil {
		return 0, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return t.index.names(t.name, key) })
	for part := range slices.Chunk(keys, maxOps-1) {
		if err := t.discard(ctx, part); errors.Is(err, errMoved) {
			return n, nil // somebody writes: the rest is found the next time
		} else if err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// discard deletes keys together with a move of the index: whoever has written one of them for a change that is not
// made yet finds it moved, and writes again.
func (t *recordTable) discard(ctx context.Context, keys []string) error {
	next, d := index{t.index.sweeps + 1, t.index.shards}, newDraft(t.s.kv)
	w := d.addPlain(indexKey(t.name), next.encode())
	if d.err != nil {
		return d.err
	}
	ops := api.TxnOps{swap(t.s.kv, w, t.at)}
	for _, key := range keys {
		ops = append(ops, remove(t.s.kv, key))
	}
	answer, err := t.s.kv.txn(ctx, ops)
	if err != nil {
		return err
	}
	t.at, t.index = indexOf(answer, t.s.Prefix+indexKey(t.name)), next
	return nil
}
