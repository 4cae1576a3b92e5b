package consulkv

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// The index of a table is asked for at most recordRate times a second, after recordBurst times at will: a revocation is
// to be in force soon, whatever else is written to its table.
const (
	recordRate  rate.Limit = 10
	recordBurst            = 20
)

// recordTable is one table: what was read of it, and how to write it. It is read when it is first asked for, and
// followed from then on.
type recordTable struct {
	s       *Store
	name    string
	table   *store.Table
	problem atomic.Pointer[error]
	loaded  atomic.Bool

	// mu is held by one reader of the medium or writer at a time. It guards what follows.
	mu     sync.Mutex
	at     uint64 // ModifyIndex of the index, 0 when there is none
	index  index
	shards map[uint16][]store.Record // sorted by key
	// fetched are shards that were read, by the ID of their value, while others of the same index were not there any
	// more.
	fetched map[uint64][]store.Record
}

// Records implements store.Store, from memory but for the first time.
func (s *Store) Records(ctx context.Context, table string) ([]store.Record, error) {
	t, err := s.ready(ctx, table)
	if err != nil {
		return nil, err
	}
	return t.table.Records(ctx)
}

// Record implements store.Store, from memory but for the first time.
func (s *Store) Record(ctx context.Context, table, key string) (store.Record, error) {
	t, err := s.ready(ctx, table)
	if err != nil {
		return store.Record{}, err
	}
	return t.table.Record(ctx, key)
}

// AllRecords implements store.Store.
func (s *Store) AllRecords(ctx context.Context) (map[string][]store.Record, error) {
	if _, _, err := s.ledger.Head(ctx); err != nil { // closed
		return nil, err
	}
	names, err := s.kv.tables(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]store.Record{}
	for _, name := range names {
		records, err := s.Records(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(records) > 0 {
			out[name] = records
		}
	}
	return out, nil
}

// WriteRecords implements store.Store.
func (s *Store) WriteRecords(ctx context.Context, table string, changes ...store.RecordChange) ([]store.Record, error) {
	t, err := s.ready(ctx, table)
	if err != nil {
		return nil, err
	}
	records, err := t.write(ctx, changes)
	if err == nil && s.commits.Add(1)%sweepAfter == 0 {
		s.sweepSoon()
	}
	return records, err
}

// WatchRecords implements store.Store; the channel of a name that is no table's is closed.
func (s *Store) WatchRecords(ctx context.Context, table string) <-chan store.RecordBatch {
	t, err := s.recordTable(table)
	if err != nil {
		ended := store.NewTable(table)
		ended.Close()
		return ended.Watch(ctx)
	}
	return t.table.Watch(ctx)
}

// recordTable is the table of that name, which is followed from now on.
func (s *Store) recordTable(name string) (*recordTable, error) {
	if err := store.CheckTable(name); err != nil {
		return nil, err
	}
	s.tablesMu.Lock()
	defer s.tablesMu.Unlock()
	if s.tables == nil {
		return nil, store.ErrClosed
	}
	t := s.tables[name]
	if t == nil {
		t = &recordTable{s: s, name: name, table: store.NewTable(name), shards: map[uint16][]store.Record{}}
		s.tables[name] = t
		s.ended.Go(func() { t.follow(s.run) })
	}
	return t, nil
}

// ready is the table, once it has been read.
func (s *Store) ready(ctx context.Context, name string) (*recordTable, error) {
	t, err := s.recordTable(name)
	if err != nil || t.loaded.Load() {
		return t, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded.Load() {
		err = t.refresh(ctx)
	}
	return t, err
}

// closeTables ends those who read them.
func (s *Store) closeTables() {
	s.tablesMu.Lock()
	defer s.tablesMu.Unlock()
	for _, t := range s.tables {
		t.table.Close()
	}
	s.tables = nil
}

// followed are the tables that were asked for.
func (s *Store) followed() (tables []*recordTable) {
	s.tablesMu.Lock()
	defer s.tablesMu.Unlock()
	for _, t := range s.tables {
		tables = append(tables, t)
	}
	return tables
}

// follow reads what others write, until ctx ends.
func (t *recordTable) follow(ctx context.Context) {
	what := "records of " + t.name
	t.s.followKey(ctx, indexKey(t.name), rate.NewLimiter(recordRate, recordBurst), func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.refresh(ctx)
	}, func(err error) { t.s.note(&t.problem, what, err) })
}

// tables are the names of those that have been written to.
func (k kv) tables(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	keys, _, err := k.client.KV().Keys(k.prefix+recordsKey, "/", k.query(ctx))
	if err != nil {
		return nil, explain(err)
	}
	var names []string
	for _, key := range keys {
		if name := path.Base(key); store.CheckTable(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// refresh reads what changed. What the index names may be replaced while it reads: then there is a newer index.
func (t *recordTable) refresh(ctx context.Context) error {
	defer func() { t.fetched = nil }()
	for tried := uint64(0); ; {
		pair, err := t.s.kv.get(ctx, indexKey(t.name))
		if err != nil {
			return err
		}
		at, next, err := t.read(pair)
		if err != nil || t.loaded.Load() && at == t.at {
			return err
		}
		err = t.reach(ctx, next)
		if errors.Is(err, store.ErrDamaged) && at != tried {
			tried = at
			continue
		}
		if err == nil {
			t.at = at
		}
		return err
	}
}

// read is the index and where it was read.
func (t *recordTable) read(pair *api.KVPair) (at uint64, next index, err error) {
	key := indexKey(t.name)
	if pair == nil && t.at != 0 {
		return 0, index{}, damaged("the key %s%s is gone", t.s.Prefix, key)
	}
	if pair == nil {
		return 0, index{}, nil
	}
	flags, body, err := unseal(key, pair.Value)
	if err != nil {
		return 0, index{}, err
	}
	plain, err := open(key, flags, body)
	if err != nil {
		return 0, index{}, err
	}
	next, err = decodeIndex(key, plain)
	return pair.ModifyIndex, next, err
}

// reach takes the table to an index: only shards that are other ones than those held are read.
func (t *recordTable) reach(ctx context.Context, next index) error {
	if err := t.fetch(ctx, next); err != nil {
		return err
	}
	shards := map[uint16][]store.Record{}
	var changes []store.RecordChange
	for shard, id := range next.shards {
		if held, ok := t.index.shards[shard]; ok && held == id {
			shards[shard] = t.shards[shard]
			continue
		}
		shards[shard] = t.fetched[id]
		changes = append(changes, between(t.shards[shard], shards[shard])...)
	}
	for shard, records := range t.shards {
		if _, ok := next.shards[shard]; !ok {
			changes = append(changes, between(records, nil)...)
		}
	}
	t.index, t.shards = next, shards
	t.publish(changes)
	return nil
}

// fetch reads the shards of an index that are not held.
func (t *recordTable) fetch(ctx context.Context, next index) error {
	var wanted []uint16
	for shard, id := range next.shards {
		held, ok := t.index.shards[shard]
		if _, fetched := t.fetched[id]; !fetched && (!ok || held != id) {
			wanted = append(wanted, shard)
		}
	}
	if t.fetched == nil {
		t.fetched = map[uint64][]store.Record{}
	}
	for part := range slices.Chunk(wanted, readsAtOnce*maxOps) {
		if err := t.fetchPart(ctx, next, part); err != nil {
			return err
		}
	}
	return nil
}

func (t *recordTable) fetchPart(ctx context.Context, next index, shards []uint16) error {
	keys := make([]string, len(shards))
	for i, shard := range shards {
		keys[i] = shardKey(t.name, shard, next.shards[shard])
	}
	plain, err := t.s.read(ctx, keys)
	if err != nil {
		return err
	}
	for i, shard := range shards {
		records, err := decodeShard(keys[i], shard, plain[i])
		if err != nil {
			return fmt.Errorf("prefix %s: %w", t.s.Prefix, err)
		}
		t.fetched[next.shards[shard]] = records
	}
	return nil
}

// publish tells watchers what was read: everything the first time.
func (t *recordTable) publish(changes []store.RecordChange) {
	if t.loaded.Load() {
		t.table.Apply(changes)
		return
	}
	t.table.Load(t.records())
	t.loaded.Store(true)
}

func (t *recordTable) records() (records []store.Record) {
	for _, shard := range t.shards {
		records = append(records, shard...)
	}
	return records
}
