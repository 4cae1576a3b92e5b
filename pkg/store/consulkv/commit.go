package consulkv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// attempts bounds how often a change is written again because values nobody names were deleted meanwhile.
const attempts = 20

// Commit implements store.Store. A head that another replica moved is read, and the change decided on it: a request ID
// that was committed there is answered as here.
func (s *Store) Commit(ctx context.Context, change store.Change) (store.Revision, error) {
	rev, err := s.commit(ctx, change)
	// A change made on a later revision than is known here was made at another replica.
	if conflict, ok := errors.AsType[*store.ConflictError](err); ok && conflict.Base > conflict.Head && s.Refresh(ctx) == nil {
		rev, err = s.commit(ctx, change)
	}
	if err == nil && s.commits.Add(1)%sweepAfter == 0 {
		s.sweepSoon()
	}
	return rev, err
}

func (s *Store) commit(ctx context.Context, change store.Change) (rev store.Revision, err error) {
	err = s.onHead(ctx, func() error {
		rev, err = s.ledger.Commit(ctx, change, func(step store.Step) error { return s.write(ctx, step) })
		return err
	})
	return rev, err
}

// Restore implements store.Store.
func (s *Store) Restore(ctx context.Context, a store.Archive, replace bool) error {
	defer s.sweepSoon()
	return s.onHead(ctx, func() error {
		return s.ledger.Restore(ctx, a, replace, func() error { return s.restore(ctx, a, replace) })
	})
}

// onHead runs a change, and again on the new head as long as it was not the newest.
func (s *Store) onHead(ctx context.Context, run func() error) error {
	for n := 1; ; n++ {
		err := run()
		if !errors.Is(err, errMoved) {
			return err
		}
		if n == attempts {
			return fmt.Errorf("gave up after %d attempts: %w", n, err)
		}
		if err := s.Refresh(ctx); err != nil {
			return err
		}
	}
}

// draft gathers what a new head needs.
type draft struct {
	kv      kv
	written map[string]bool
	ops     api.TxnOps // what may be written before the head
	last    api.TxnOps // what must come with it
	err     error
}

func newDraft(k kv) *draft { return &draft{kv: k, written: map[string]bool{}} }

// add packs a value, once; it remembers the first error.
func (d *draft) add(key string, value any) (last write) {
	if d.err != nil || d.written[key] {
		return write{}
	}
	plain, err := json.Marshal(value)
	if err != nil {
		d.err = err
		return write{}
	}
	return d.addPlain(key, plain)
}

// addPlain is add of bytes.
func (d *draft) addPlain(key string, plain []byte) (last write) {
	if d.err != nil {
		return write{}
	}
	d.written[key] = true
	writes, err := pack(key, plain)
	if d.err = err; err != nil {
		return write{}
	}
	for _, w := range writes[:len(writes)-1] {
		d.ops = append(d.ops, set(d.kv, w))
	}
	return writes[len(writes)-1]
}

// put adds a value that the head names by its content, or below a generation that is not in use yet.
func (d *draft) put(key string, value any) {
	if w := d.add(key, value); w.key != "" {
		d.ops = append(d.ops, set(d.kv, w))
	}
}

func (d *draft) objects(edits []store.Edit) {
	for _, e := range edits {
		if e.After != nil {
			d.put(objectKey(e.After.Digest), e.After.Object)
		}
	}
}

// split is the draft as transactions; those of the argument stay together, in the last.
func (d *draft) split(last api.TxnOps) ([]api.TxnOps, error) {
	if d.err != nil {
		return nil, d.err
	}
	return batches(d.ops, last), nil
}

// write commits a step: what it changes, and now and then the whole set, so that opening needs few steps.
func (s *Store) write(ctx context.Context, step store.Step) error {
	r := record{ID: rand.Text(), Parent: s.at.head.ID, Revision: step.Revision, Edits: editsOf(step.Edits)}
	next := s.set.With(step.Edits)
	h := s.at.head.after(r, step.Drop, next)
	d := newDraft(s.kv)
	d.objects(step.Edits)
	if h.State.Digest != s.at.head.State.Digest {
		d.put(stateKey(h.State.Digest), membersOf(next))
	}
	d.last = append(d.last, set(s.kv, d.add(recordKey(h.Generation, h.Revision), r)))
	for _, n := range step.Drop {
		d.last = append(d.last, remove(s.kv, recordKey(h.Generation, n)))
	}
	if err := s.turn(ctx, d, h, s.at.index); err != nil {
		return err
	}
	s.set = next
	return nil
}

// after is the head that follows by a record.
func (h head) after(r record, drop []uint64, next *store.Set) head {
	h.Revision, h.ID = r.Revision.Number, r.ID
	if h.Generation == "" {
		h.Generation = rand.Text()
	}
	if h.Oldest == 0 {
		h.Oldest = h.Revision
	}
	if len(drop) > 0 {
		h.Oldest = drop[len(drop)-1] + 1
	}
	h.Since += len(r.Edits)
	if h.Since > 64+next.Len()/4 || h.State.Revision+1 < h.Oldest {
		h.State, h.Since = stateRef{h.Revision, next.Digest()}, 0
	}
	return h
}

// restore writes an archive as a history of its own, and then makes it the one that counts.
func (s *Store) restore(ctx context.Context, a store.Archive, replace bool) error {
	index, err := s.replaced(ctx, replace)
	if err != nil {
		return err
	}
	set, err := a.Head()
	if err != nil {
		return err
	}
	h, d := head{Generation: rand.Text()}, newDraft(s.kv)
	for _, e := range a.Base.Entries() {
		d.put(objectKey(e.Digest), e.Object)
	}
	if a.BaseRevision.Number > 0 {
		h.add(d, store.Step{Revision: a.BaseRevision})
	}
	for _, step := range a.Steps {
		d.objects(step.Edits)
		h.add(d, step)
	}
	h.State = stateRef{h.Revision, set.Digest()}
	d.put(stateKey(h.State.Digest), membersOf(set))
	tables, release, err := s.replaceRecords(ctx, d, a.Records, replace)
	defer release()
	if err != nil {
		return err
	}
	if err := s.turn(ctx, d, h, index); err != nil {
		return err
	}
	s.set = set
	for _, r := range tables {
		r.done(ctx)
	}
	return nil
}

// replaced is the index of the head that an archive takes the place of. One that may be replaced need not be readable.
func (s *Store) replaced(ctx context.Context, replace bool) (uint64, error) {
	if !replace {
		return s.at.index, nil
	}
	pair, err := s.kv.get(ctx, headKey)
	if err != nil || pair == nil {
		return 0, err
	}
	return pair.ModifyIndex, nil
}

func (h *head) add(d *draft, step store.Step) {
	r := record{ID: rand.Text(), Parent: h.ID, Revision: step.Revision, Edits: editsOf(step.Edits)}
	h.ID, h.Revision = r.ID, r.Revision.Number
	if h.Oldest == 0 {
		h.Oldest = h.Revision
	}
	d.put(recordKey(h.Generation, h.Revision), r)
}

// turn writes a draft and, in its last transaction, the head that names it, unless the head at that index has moved.
func (s *Store) turn(ctx context.Context, d *draft, h head, index uint64) error {
	w := d.add(headKey, h)
	parts, err := d.split(append(d.last, swap(s.kv, w, index)))
	if err != nil {
		return err
	}
	for _, ops := range parts[:len(parts)-1] {
		if _, err := s.kv.txn(ctx, ops); err != nil {
			return err
		}
	}
	// From here on the change may happen, whether or not somebody still waits for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Patience)
	defer cancel()
	at, err := s.decide(ctx, parts[len(parts)-1], h)
	if err == nil {
		s.at = position{at, h}
	}
	return err
}

// decide makes the last transaction. Without an answer it is asked for again: whichever arrives first moves the head,
// the others are refused, and then the head says whose it was. It returns the new head's index.
func (s *Store) decide(ctx context.Context, ops api.TxnOps, h head) (uint64, error) {
	doubt := false
	for failures := 1; ; failures++ {
		answer, err := s.kv.txn(ctx, ops)
		switch {
		case err == nil:
			return indexOf(answer, s.Prefix+headKey), nil
		case errors.Is(err, errMoved):
			var index uint64
			if index, err = s.mine(ctx, h); err == nil || errors.Is(err, errMoved) || !doubt && !errors.Is(err, store.ErrUnavailable) {
				return index, err
			}
			doubt = true
		case undone(err) && !doubt:
			return 0, err
		default:
			doubt = true
		}
		if !sleep(ctx, backoff(failures, s.Backoff, s.BackoffMax)) {
			return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
}

// mine looks whether a head that has moved is this one, or came after it; errMoved when not. The index is 0 when it
// came after.
func (s *Store) mine(ctx context.Context, h head) (uint64, error) {
	pair, err := s.kv.get(ctx, headKey)
	if err != nil {
		return 0, err
	}
	now, err := s.position(pair)
	switch {
	case err != nil:
		return 0, err
	case now.head.Generation != h.Generation || now.head.Revision < h.Revision || h.Revision < now.head.Oldest:
		return 0, errMoved
	case now.head.ID == h.ID:
		return now.index, nil
	case h.Revision == 0 || now.head.Revision == h.Revision:
		return 0, errMoved
	}
	records, err := s.records(ctx, h.Generation, h.Revision, h.Revision)
	if err != nil {
		return 0, err
	}
	if records[0].ID != h.ID {
		return 0, errMoved
	}
	return 0, nil
}

func indexOf(answer *api.TxnResponse, key string) uint64 {
	for _, r := range answer.Results {
		if r.KV != nil && r.KV.Key == key {
			return r.KV.ModifyIndex
		}
	}
	return 0
}
