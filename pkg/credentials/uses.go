package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// useBuckets is into how many records the times of use are put: few enough to be written each minute, and small enough to
// be written whole.
const useBuckets = 64

func useBucket(id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	return fmt.Sprintf("%02x", h.Sum32()%useBuckets)
}

// Used notes when keys were used last, by id. Ids that no key has are not noted, and no time is later than now.
func (k *Keeper) Used(uses map[string]time.Time) {
	now := k.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, at := range uses {
		if !k.keys.has(id) {
			continue
		}
		if at.After(now) {
			at = now
		}
		if at.After(k.uses[id]) {
			k.uses[id] = at
		}
	}
}

// Reported is Used as agents tell it over xDS: seconds since 1970 by id.
func (k *Keeper) Reported(versions map[string]string) {
	uses := map[string]time.Time{}
	for id, text := range versions {
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds > 0 {
			uses[id] = time.Unix(seconds, 0)
		}
	}
	k.Used(uses)
}

// writeUses writes down what was noted. What cannot be written stays noted.
func (k *Keeper) writeUses(ctx context.Context) {
	k.mu.Lock()
	pending := k.uses
	k.uses = map[string]time.Time{}
	k.mu.Unlock()
	buckets := map[string]map[string]time.Time{}
	for id, at := range pending {
		b := useBucket(id)
		if buckets[b] == nil {
			buckets[b] = map[string]time.Time{}
		}
		buckets[b][id] = at
	}
	for bucket, uses := range buckets {
		if err := k.writeBucket(ctx, bucket, uses); err != nil {
			k.Used(uses)
			if !errors.As(err, new(*store.RecordConflictError)) { // another server was faster: next time
				k.Log.Warn("when API keys were used last could not be written; it is tried again", "error", err)
			}
		}
	}
}

func (k *Keeper) writeBucket(ctx context.Context, bucket string, uses map[string]time.Time) error {
	record, known, err := k.readBucket(ctx, bucket)
	if err != nil {
		return err
	}
	for id, at := range uses {
		known[id] = max(known[id], at.Unix())
	}
	maps.DeleteFunc(known, func(id string, _ int64) bool { return !k.keys.has(id) })
	body, err := json.Marshal(known)
	if err != nil {
		return err
	}
	_, err = k.Records.WriteRecords(ctx, tableUses, store.RecordChange{Record: store.Record{Key: bucket, Value: body, Version: record.Version}})
	return err
}

// readBucket reads times in seconds since 1970. What cannot be read is begun anew.
func (k *Keeper) readBucket(ctx context.Context, bucket string) (store.Record, map[string]int64, error) {
	known := map[string]int64{}
	record, err := k.Records.Record(ctx, tableUses, bucket)
	if errors.Is(err, store.ErrNoRecord) {
		return store.Record{}, known, nil
	}
	if err == nil && json.Unmarshal(record.Value, &known) != nil {
		known = map[string]int64{}
	}
	return record, known, err
}

// usesOf is when keys were used last: one, or all when id is "".
func (k *Keeper) usesOf(ctx context.Context, id string) (map[string]*time.Time, error) {
	out := map[string]*time.Time{}
	note := func(id string, at time.Time) {
		if had := out[id]; had == nil || at.After(*had) {
			out[id] = &at
		}
	}
	for i := range useBuckets {
		bucket := fmt.Sprintf("%02x", i)
		if id != "" && bucket != useBucket(id) {
			continue
		}
		_, known, err := k.readBucket(ctx, bucket)
		if err != nil {
			return nil, err
		}
		for id, seconds := range known {
			note(id, time.Unix(seconds, 0).UTC())
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, at := range k.uses {
		note(id, at.UTC().Truncate(time.Second))
	}
	return out, nil
}
