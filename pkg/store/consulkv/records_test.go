package consulkv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/store"
)

func put(key, value string, version uint64) store.RecordChange {
	return store.RecordChange{Record: store.Record{Key: key, Value: []byte(value), Version: version}}
}

func gone(key string, version uint64) store.RecordChange {
	return store.RecordChange{Record: store.Record{Key: key, Version: version}, Deleted: true}
}

func mustWrite(t testing.TB, s *Store, changes ...store.RecordChange) []store.Record {
	t.Helper()
	records, err := s.WriteRecords(t.Context(), store.TableKeys, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func mustRecords(t testing.TB, s *Store) []store.Record {
	t.Helper()
	records, err := s.Records(t.Context(), store.TableKeys)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func noise(seed uint64, size int) string {
	b := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = random.Read(b)
	return string(b)
}

// awaitRecords waits until a replica holds what another does, versions too.
func awaitRecords(t *testing.T, want, at *Store) {
	t.Helper()
	agent.Until(t, 10*time.Second, "the replicas hold the same records", func() bool {
		return slices.EqualFunc(mustRecords(t, want), mustRecords(t, at), func(a, b store.Record) bool {
			return a.Key == b.Key && a.Version == b.Version && bytes.Equal(a.Value, b.Value)
		})
	})
}

func TestRecords_ReplicasSeeEachOther(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	one, two := mustOpen(t, config(t, a)), mustOpen(t, config(t, a))
	told := two.WatchRecords(t.Context(), store.TableKeys)
	if batch := <-told; !batch.Reset || len(batch.Changes) != 0 {
		t.Errorf("first %+v", batch)
	}
	made := mustWrite(t, one, put("a", "1", 0))
	if batch := <-told; batch.Reset || len(batch.Changes) != 1 || !cmp.Equal(batch.Changes[0].Record, made[0]) {
		t.Errorf("told %+v", batch)
	}
	// both change it on what they have, whether it has arrived there or not
	for n := range 20 {
		made = mustWrite(t, []*Store{one, two}[n%2], put("a", fmt.Sprint(n), made[0].Version))
	}
	stale := made[0].Version
	mustWrite(t, one, put("a", "last", stale))
	if _, err := two.WriteRecords(t.Context(), store.TableKeys, put("a", "lost", stale)); !errors.As(err, new(*store.RecordConflictError)) {
		t.Errorf("a change on what the other has changed: %v", err)
	}
	mustWrite(t, two, gone("a", mustRecord(t, two, "a").Version), put("b", "1", 0))
	awaitRecords(t, two, one)
	awaitRecords(t, two, mustOpen(t, config(t, a)))
}

func mustRecord(t testing.TB, s *Store, key string) store.Record {
	t.Helper()
	r, err := s.Record(t.Context(), store.TableKeys, key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecords_LargeChanges makes changes that need many transactions, and records that need chunks: they are there whole
// at every replica, and what they replaced is swept.
func TestRecords_LargeChanges(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	one, two := mustOpen(t, config(t, a)), mustOpen(t, config(t, a))
	const many = 3000
	var versions []store.Record
	for round := range 3 {
		changes := []store.RecordChange{put("large", noise(uint64(round), store.MaxRecord), 0), put("larger", noise(uint64(round)+100, store.MaxRecord), 0)}
		for n := range many {
			changes = append(changes, put(fmt.Sprint("key-", n), noise(uint64(n), 300), 0))
		}
		for i, r := range versions {
			changes[i].Version = r.Version
		}
		versions = mustWrite(t, one, changes...)
	}
	// all or nothing: one of many is on an old version
	last := put("key-5", "x", 1)
	if _, err := two.WriteRecords(t.Context(), store.TableKeys, put("new", "x", 0), last); !errors.As(err, new(*store.RecordConflictError)) {
		t.Errorf("one of two on an old version: %v", err)
	}
	awaitRecords(t, one, two)
	before := recordKeys(t, one)
	if _, err := two.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := recordKeys(t, one); len(after) >= len(before) {
		t.Errorf("%d keys before sweeping, %d after", len(before), len(after))
	}
	awaitRecords(t, one, mustOpen(t, config(t, a)))
	mustWrite(t, one, gone("large", versions[0].Version)) // at the replica whose index another has moved
	awaitRecords(t, one, two)
}

func recordKeys(t testing.TB, s *Store) []string {
	t.Helper()
	keys, err := s.kv.keys(t.Context(), recordsKey)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestRecords_AnswerLost(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c, d := deafConfig(t, a)
	one, two := mustOpen(t, c), mustOpen(t, config(t, a))
	version := uint64(0)
	for n := range 6 { // answers are lost, and the change happened once
		d.left.Store(int64(n % 3))
		version = mustWrite(t, one, put("a", fmt.Sprint(n), version))[0].Version
	}
	d.left.Store(1)
	mustWrite(t, one, gone("a", version))
	awaitRecords(t, one, two)

	// another replica writes before the first looks: both changes are there
	d.before = func() { d.before = nil; mustWrite(t, two, put("of-two", "1", 0)) }
	d.left.Store(1)
	mustWrite(t, one, put("of-one", "1", 0))
	if got := mustRecords(t, one); len(got) != 2 {
		t.Errorf("records %+v", got)
	}

	// another replica changes the record before the first looks: the caller is told that it is not known
	d.before = func() {
		d.before = nil
		if _, err := two.WriteRecords(t.Context(), store.TableKeys, gone("of-three", mustFresh(t, two, "of-three").Version)); err != nil {
			t.Error(err)
		}
	}
	d.left.Store(1)
	if _, err := one.WriteRecords(t.Context(), store.TableKeys, put("of-three", "1", 0)); err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("a change that somebody took back: %v", err)
	}

	c.Patience = 300 * time.Millisecond
	three := mustOpen(t, c)
	mustRecords(t, three)
	d.left.Store(1_000_000)
	_, err := three.WriteRecords(t.Context(), store.TableKeys, put("b", "1", 0))
	if err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("without any answer: %v", err)
	}
	awaitRecords(t, two, three)
}

// mustFresh is a record as it is in Consul now.
func mustFresh(t testing.TB, s *Store, key string) store.Record {
	t.Helper()
	table, err := s.recordTable(store.TableKeys)
	if err != nil {
		t.Fatal(err)
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	if err := table.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return mustRecord(t, s, key)
}

func TestRecords_AgentAway(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.Patience = 2 * time.Second
	s := mustOpen(t, c)
	version := mustWrite(t, s, put("a", "1", 0))[0].Version
	a.Kill()
	if _, err := s.WriteRecords(t.Context(), store.TableKeys, put("a", "2", version)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change without an agent: %v", err)
	}
	if got := mustRecords(t, s); len(got) != 1 || string(got[0].Value) != "1" {
		t.Errorf("records %+v", got)
	}
	if _, err := s.Records(t.Context(), store.TableSecrets); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a table that was never read: %v", err)
	}
	told := s.WatchRecords(t.Context(), store.TableSecrets)
	a.Launch()
	a.AwaitLeader()
	select {
	case batch := <-told:
		if !batch.Reset {
			t.Errorf("first %+v", batch)
		}
	case <-time.After(20 * time.Second):
		t.Error("the watcher was never told")
	}
	agent.Until(t, 10*time.Second, "the replica follows again", func() bool { return s.Err() == nil })
	mustWrite(t, s, put("a", "2", version))
	awaitRecords(t, s, mustOpen(t, c))
}

// TestRecords_ValueLost takes away or alters each value of a table: a replica says so and keeps what it has, and goes on
// when the value is back.
func TestRecords_ValueLost(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.BackoffMax = 200 * time.Millisecond
	writer := mustOpen(t, c)
	mustWrite(t, writer, put("a", "1", 0), put("large", noise(1, store.MaxRecord), 0))
	for _, key := range recordKeys(t, writer) {
		for name, value := range map[string][]byte{"missing": nil, "garbage": []byte("garbage"), "of another key": seal("records/x", 0, nil)} {
			t.Run(strings.TrimPrefix(key, recordsKey)+" "+name, func(t *testing.T) { testRecordLost(t, c, key, value) })
		}
	}
}

func testRecordLost(t *testing.T, c Config, key string, value []byte) {
	kv := c.Client.KV()
	good, _, err := kv.Get(c.Prefix+key, nil)
	if err != nil || good == nil {
		t.Fatal(err)
	}
	running := mustOpen(t, c)
	defer running.Close()
	want := mustRecords(t, running)
	if value == nil {
		_, err = kv.Delete(c.Prefix+key, nil)
	} else {
		_, err = kv.Put(&api.KVPair{Key: c.Prefix + key, Value: value}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustOpen(t, c)
	defer fresh.Close()
	isIndex := strings.HasSuffix(key, indexName)
	if !isIndex || value != nil { // without an index there is no table
		if _, err := fresh.Records(t.Context(), store.TableKeys); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("read anew: %v", err)
		}
	}
	if isIndex {
		agent.Until(t, 10*time.Second, "the running replica says so", func() bool { return errors.Is(running.Err(), store.ErrDamaged) })
	}
	if d := cmp.Diff(len(want), len(mustRecords(t, running))); d != "" {
		t.Error(d)
	}
	if _, err := kv.Put(&api.KVPair{Key: c.Prefix + key, Value: good.Value}, nil); err != nil {
		t.Fatal(err)
	}
	agent.Until(t, 10*time.Second, "both replicas go on", func() bool {
		got, err := fresh.Records(t.Context(), store.TableKeys)
		return err == nil && len(got) == len(want) && running.Err() == nil && fresh.Err() == nil
	})
}

func TestRecords_SweepLeavesWhatIsNamed(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	one := mustOpen(t, c)
	mustWrite(t, one, put("a", "1", 0), put("large", noise(1, store.MaxRecord), 0))
	orphans := []string{shardKey(store.TableKeys, 7, 7), shardKey(store.TableKeys, shardOf("a"), 9), shardKey(store.TableKeys, 7, 7) + "/chunk"}
	for _, key := range append(orphans, recordsKey+store.TableKeys+"/note") {
		if _, err := c.Client.KV().Put(&api.KVPair{Key: c.Prefix + key, Value: []byte("x")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := one.sweep(t.Context()); n != len(orphans) || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	keys := recordKeys(t, one)
	if !slices.Contains(keys, recordsKey+store.TableKeys+"/note") || slices.ContainsFunc(orphans, func(o string) bool { return slices.Contains(keys, o) }) {
		t.Errorf("left: %v", keys)
	}
	awaitRecords(t, one, mustOpen(t, c))
}

// TestRecords_SweepWhileWriting has one replica sweep while another writes changes of many transactions: what a change
// counts on may be swept before it is named, and is written again.
func TestRecords_SweepWhileWriting(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	one, two := mustOpen(t, config(t, a)), mustOpen(t, config(t, a))
	var versions []store.Record
	for round := range 8 {
		var changes []store.RecordChange
		for n := range 200 {
			changes = append(changes, put(fmt.Sprint(n), fmt.Sprint(round), 0))
			if versions != nil {
				changes[n].Version = versions[n].Version
			}
		}
		var sweeping errgroup.Group
		sweeping.Go(func() error {
			for range 3 {
				if _, err := two.sweep(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
		versions = mustWrite(t, one, changes...)
		if err := sweeping.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	awaitRecords(t, one, mustOpen(t, config(t, a)))
}

// FuzzShard reads any bytes as a shard and as an index: they are refused, or are what their writers made.
func FuzzShard(f *testing.F) {
	f.Add(encodeShard([]store.Record{{Key: "a", Value: []byte("x"), Version: 1}}))
	f.Add(index{3, map[uint16]uint64{1: 2, 1023: 4}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, shard := range []uint16{0, shardOf("a"), shardCount - 1} {
			records, err := decodeShard("k", shard, b)
			if refused(t, err) {
				continue
			}
			again, err := decodeShard("k", shard, encodeShard(records))
			if err != nil || len(again) != len(records) {
				t.Errorf("%d records, %d again, %v", len(records), len(again), err)
			}
		}
		i, err := decodeIndex("k", b)
		if refused(t, err) {
			return
		}
		again, err := decodeIndex("k", i.encode())
		if err != nil || again.sweeps != i.sweeps || !maps.Equal(again.shards, i.shards) {
			t.Errorf("%v, %v: %v", i, again, err)
		}
	})
}

func TestBetween(t *testing.T) {
	r := func(key string, version uint64) store.Record { return store.Record{Key: key, Version: version} }
	was := []store.Record{r("a", 1), r("b", 1), r("d", 1)}
	now := []store.Record{r("b", 2), r("c", 1), r("d", 1), r("e", 1)}
	want := []store.RecordChange{{Record: r("a", 0), Deleted: true}, {Record: r("b", 2)}, {Record: r("c", 1)}, {Record: r("e", 1)}}
	if d := cmp.Diff(want, between(was, now)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(now, changed(was, want)); d != "" {
		t.Error(d)
	}
}
