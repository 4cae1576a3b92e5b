package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-gateway/sluice/pkg/store"
)

const (
	manyRecords = 100_000
	recordBytes = 300
	atOnce      = 10_000
)

// ManyRecords writes 100,000 records of 300 bytes, 10,000 at a time, and returns them.
func ManyRecords(b *testing.B, s store.Store) []store.Record {
	b.Helper()
	var out []store.Record
	random := rand.NewChaCha8([32]byte{1})
	for from := 0; from < manyRecords; from += atOnce {
		var changes []store.RecordChange
		for i := range atOnce {
			value := make([]byte, recordBytes)
			_, _ = random.Read(value)
			changes = append(changes, store.RecordChange{Record: store.Record{Key: fmt.Sprintf("key-%06d", from+i), Value: value}})
		}
		made, err := s.WriteRecords(b.Context(), store.TableKeys, changes...)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, made...)
	}
	return out
}

// BenchWriteOne writes one record of many again and again, and has a watcher, if there is one, take each change.
func BenchWriteOne(b *testing.B, s store.Store, told <-chan store.RecordBatch) {
	records := ManyRecords(b, s)
	for told != nil {
		if batch := <-told; len(batch.Changes) > 0 && batch.Changes[len(batch.Changes)-1].Key == records[manyRecords-1].Key {
			break
		}
	}
	n := 0
	for b.Loop() {
		i := n * 7919 % manyRecords
		n++
		made, err := s.WriteRecords(b.Context(), store.TableKeys, store.RecordChange{Record: records[i]})
		if err != nil {
			b.Fatal(err)
		}
		records[i] = made[0]
		for told != nil {
			if batch := <-told; batch.Changes[len(batch.Changes)-1].Version == made[0].Version {
				break
			}
		}
	}
}
