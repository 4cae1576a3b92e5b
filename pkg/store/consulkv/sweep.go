package consulkv

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// sweepAfter is how many commits of one replica make a sweep due.
const sweepAfter = 512

func (s *Store) sweepSoon() {
	select {
	case s.sweeps <- struct{}{}:
	default:
	}
}

// tidy sweeps when it is due, until ctx ends.
func (s *Store) tidy(ctx context.Context) {
	for {
		timer := time.NewTimer(s.SweepEvery/2 + rand.N(s.SweepEvery/2+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.sweeps:
			timer.Stop()
		}
		n, err := s.sweep(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.Warn("what nothing names any more could not be deleted; it is tried again later", "prefix", s.Prefix, "error", err)
		case n > 0:
			s.Log.Info("swept", "prefix", s.Prefix, "keys", n)
		}
	}
}

// sweep deletes what the head does not lead to: what was dropped, and what writers that failed have left. One replica
// does so at a time; commits do not wait for it. It returns the number of keys deleted.
func (s *Store) sweep(ctx context.Context) (n int, err error) {
	release, err := s.lock(ctx)
	if err != nil || release == nil {
		return 0, err
	}
	defer release()
	if err := s.Refresh(ctx); err != nil {
		return 0, err
	}
	records, err := s.sweepRecords(ctx)
	if err != nil {
		return records, err
	}
	err = s.ledger.Follow(ctx, func(*store.Set, []store.Revision) (*store.Set, []store.Revision, error) {
		n, err = s.sweepKeys(ctx)
		return nil, nil, err
	})
	return records + n, err
}

func (s *Store) sweepRecords(ctx context.Context) (n int, err error) {
	names, err := s.kv.tables(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		t, err := s.recordTable(name)
		if err != nil {
			return n, err
		}
		swept, err := t.sweep(ctx)
		if n += swept; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Store) sweepKeys(ctx context.Context) (n int, err error) {
	if s.at.index == 0 {
		return 0, nil
	}
	objects, err := s.named(ctx)
	if errors.Is(err, store.ErrDamaged) && s.moved(ctx) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	keys, err := s.kv.keys(ctx, "")
	if err != nil {
		return 0, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return s.at.head.names(key, objects) })
	for part := range slices.Chunk(keys, maxOps-1) {
		if err := s.discard(ctx, part); errors.Is(err, errMoved) {
			return n, nil // somebody commits: the rest is found the next time
		} else if err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// moved tells whether somebody else has committed, and may have dropped what the head named.
func (s *Store) moved(ctx context.Context) bool {
	now, err := s.readHead(ctx)
	return err == nil && now.index != s.at.index
}

// discard deletes keys together with a move of the head. Whoever has written one of them for a change that is not
// committed yet finds the head moved, and writes it again.
func (s *Store) discard(ctx context.Context, keys []string) error {
	h, d := s.at.head, newDraft(s.kv)
	h.Sweeps++
	ops := api.TxnOps{swap(s.kv, d.add(headKey, h), s.at.index)}
	for _, key := range keys {
		ops = append(ops, remove(s.kv, key))
	}
	answer, err := s.kv.txn(ctx, ops)
	if err != nil {
		return err
	}
	s.at = position{indexOf(answer, s.Prefix+headKey), h}
	return nil
}

// named is the digests of the objects that the head and the history can lead to. The oldest revision's own edits lead
// to what can no longer be gone back to.
func (s *Store) named(ctx context.Context) (map[string]bool, error) {
	h := s.at.head
	objects := map[string]bool{}
	for _, e := range s.set.Entries() {
		objects[e.Digest] = true
	}
	records, err := s.records(ctx, h.Generation, max(h.Oldest, 1), h.Revision)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		for _, e := range r.Edits {
			objects[e.After] = true
			if i > 0 || h.Oldest == 1 {
				objects[e.Before] = true
			}
		}
	}
	return objects, nil
}

// lock takes the lock that only sweeping needs; nil when another replica has it.
func (s *Store) lock(ctx context.Context) (release func(), err error) {
	o := (&api.WriteOptions{Token: s.Token()}).WithContext(ctx)
	id, _, err := s.Client.Session().Create(&api.SessionEntry{
		Name: "sluice sweeps " + s.Prefix, TTL: "30s", Behavior: api.SessionBehaviorDelete, LockDelay: time.Millisecond,
	}, o)
	if err != nil {
		return nil, explain(err)
	}
	destroy := func() {
		// A session that cannot be ended ends by itself.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
		defer cancel()
		_, _ = s.Client.Session().Destroy(id, (&api.WriteOptions{Token: s.Token()}).WithContext(ctx))
	}
	taken, _, err := s.Client.KV().Acquire(&api.KVPair{Key: s.Prefix + lockKey, Session: id}, o)
	if err != nil || !taken {
		destroy()
		if err != nil {
			err = explain(err)
		}
		return nil, err
	}
	return destroy, nil
}
