package consulkv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

const manyObjects = 5000

// many is a store of 5,000 objects of 1 KB.
func many(b *testing.B) (Config, *Store) {
	c := config(b, agent.Start(b, agent.Options{}))
	s := mustOpen(b, c)
	change := store.Change{}
	for i := range manyObjects {
		change.Set = append(change.Set, kilobyte(i, 0))
	}
	mustCommit(b, s, change)
	return c, s
}

func kilobyte(i, version int) policy.Object {
	o := storetest.Object(fmt.Sprintf("route-%04d", i), version)
	o.Text += strings.Repeat("# a comment, as people write them\n", 25)
	return o
}

func BenchmarkCommitOneOf5000(b *testing.B) {
	_, s := many(b)
	for n := 1; b.Loop(); n++ {
		mustCommit(b, s, store.Change{Base: uint64(n), Set: []policy.Object{kilobyte(n%manyObjects, n)}})
	}
}

// BenchmarkBareCAS is the floor: one value of a commit's size, compared and set.
func BenchmarkBareCAS(b *testing.B) {
	c := config(b, agent.Start(b, agent.Options{}))
	index := uint64(0)
	for n := 0; b.Loop(); n++ {
		ops := api.TxnOps{swap(kv{prefix: "bare/"}, write{"head", fmt.Append(nil, n, strings.Repeat("x", 800))}, index)}
		ok, answer, _, err := c.Client.Txn().Txn(ops, nil)
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		index = answer.Results[0].KV.ModifyIndex
	}
}

func BenchmarkOpen5000(b *testing.B) {
	c, _ := many(b)
	for b.Loop() {
		s, err := Open(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkFollowOneOf5000(b *testing.B) {
	c, s := many(b)
	two := mustOpen(b, c)
	for n := 1; b.Loop(); n++ {
		b.StopTimer()
		mustCommit(b, s, store.Change{Base: uint64(n), Set: []policy.Object{kilobyte(n%manyObjects, n)}})
		b.StartTimer()
		if err := two.Refresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteRecordOf100000(b *testing.B) {
	s := mustOpen(b, config(b, agent.Start(b, agent.Options{})))
	storetest.BenchWriteOne(b, s, nil)
}

// BenchmarkRecordAtAnotherReplica is from the beginning of a change at one replica until a watcher at another has it.
func BenchmarkRecordAtAnotherReplica(b *testing.B) {
	c := config(b, agent.Start(b, agent.Options{}))
	one, two := mustOpen(b, c), mustOpen(b, c)
	records := storetest.ManyRecords(b, one)
	told := two.WatchRecords(b.Context(), store.TableKeys)
	for batch := range told {
		if batch.Reset && len(batch.Changes) == len(records) {
			break
		}
	}
	n := 0
	for b.Loop() {
		i := n * 7919 % len(records)
		n++
		made := mustWrite(b, one, store.RecordChange{Record: records[i]})
		records[i] = made[0]
		for batch := range told {
			if batch.Changes[len(batch.Changes)-1].Version == made[0].Version {
				break
			}
		}
	}
}

func BenchmarkLoad100000Records(b *testing.B) {
	c := config(b, agent.Start(b, agent.Options{}))
	storetest.ManyRecords(b, mustOpen(b, c))
	for b.Loop() {
		s, err := Open(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if records := mustRecords(b, s); len(records) != 100_000 {
			b.Fatal(len(records))
		}
		s.Close()
	}
}
