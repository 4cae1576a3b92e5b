package consulkv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Refresh reads what other replicas have committed. It is not needed for that to arrive, only for it to be here before
// the call returns.
func (s *Store) Refresh(ctx context.Context) error {
	return s.ledger.Follow(ctx, func(_ *store.Set, revisions []store.Revision) (*store.Set, []store.Revision, error) {
		return s.refresh(ctx, revisions)
	})
}

// refresh reads the head and what leads there. What it names may be dropped while it reads: then there is a newer head.
func (s *Store) refresh(ctx context.Context, revisions []store.Revision) (*store.Set, []store.Revision, error) {
	for tried := uint64(0); ; {
		now, err := s.readHead(ctx)
		if err != nil || now.index == s.at.index {
			return nil, nil, err
		}
		set, next, err := s.reach(ctx, now, revisions)
		if errors.Is(err, store.ErrDamaged) && now.index != tried {
			tried = now.index
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if set != nil && len(revisions) > 0 && now.head.Revision < revisions[len(revisions)-1].Number {
			s.Log.Warn("the store went back", "from", revisions[len(revisions)-1].Number, "to", now.head.Revision)
		}
		s.at = now
		if set != nil {
			s.set = set
		}
		return set, next, nil
	}
}

func (s *Store) readHead(ctx context.Context) (position, error) {
	pair, err := s.kv.get(ctx, headKey)
	if err != nil {
		return position{}, err
	}
	return s.position(pair)
}

func (s *Store) position(pair *api.KVPair) (position, error) {
	if pair == nil && s.at.index != 0 {
		return position{}, damaged("the key %s%s is gone", s.Prefix, headKey)
	}
	if pair == nil {
		return position{}, nil
	}
	flags, body, err := unseal(headKey, pair.Value)
	if err != nil {
		return position{}, err
	}
	plain, err := open(headKey, flags, body)
	if err != nil {
		return position{}, err
	}
	h, err := decodeHead(plain)
	return position{pair.ModifyIndex, h}, err
}

// reach is the set and the revisions at a head; a nil set when they are those held already.
func (s *Store) reach(ctx context.Context, to position, revisions []store.Revision) (*store.Set, []store.Revision, error) {
	from, h := s.at.head, to.head
	switch {
	case from.Generation != h.Generation || h.Revision < from.Revision || h.Oldest > from.Revision+1 || from.Revision == 0:
		return s.whole(ctx, h)
	case h.Revision == from.Revision && h.ID == from.ID:
		return nil, nil, nil
	}
	records, err := s.records(ctx, h.Generation, from.Revision+1, h.Revision)
	if err != nil {
		return nil, nil, err
	}
	if len(records) == 0 || records[0].Parent != from.ID || records[len(records)-1].ID != h.ID {
		return s.whole(ctx, h) // another history: Consul was put back to an earlier time
	}
	return s.ahead(ctx, h, records, revisions)
}

// ahead takes the steps from what is held to a head.
func (s *Store) ahead(ctx context.Context, h head, records []record, revisions []store.Revision) (*store.Set, []store.Revision, error) {
	next := slices.Clone(revisions)
	want := map[policy.Ref]string{}
	for _, r := range records {
		next = append(next, r.Revision)
		for _, e := range r.Edits {
			want[e.Ref] = e.After
		}
	}
	entries, err := s.entries(ctx, slices.Collect(maps.Values(want)))
	if err != nil {
		return nil, nil, err
	}
	var edits []store.Edit
	for _, ref := range slices.SortedFunc(maps.Keys(want), policy.Ref.Compare) {
		edits = append(edits, store.Edit{Ref: ref, After: entries[want[ref]]})
	}
	next = next[min(h.Oldest-min(h.Oldest, next[0].Number), uint64(len(next))):]
	return s.checked(s.set.With(edits), next)
}

// whole reads everything at a head; objects that are held already are not read again.
func (s *Store) whole(ctx context.Context, h head) (*store.Set, []store.Revision, error) {
	records, err := s.records(ctx, h.Generation, max(h.Oldest, 1), h.Revision)
	if err != nil {
		return nil, nil, err
	}
	if n := len(records); n > 0 && records[n-1].ID != h.ID {
		return nil, nil, damaged("revision %d is not the one that the head names", h.Revision)
	}
	members, err := s.state(ctx, h.State)
	if err != nil {
		return nil, nil, err
	}
	var revisions []store.Revision
	for _, r := range records {
		revisions = append(revisions, r.Revision)
		for _, e := range r.Edits {
			switch {
			case r.Revision.Number <= h.State.Revision:
			case e.After == "":
				delete(members, e.Ref)
			default:
				members[e.Ref] = e.After
			}
		}
	}
	set, err := s.setOf(ctx, members)
	if err != nil {
		return nil, nil, err
	}
	return s.checked(set, revisions)
}

// checked holds a set against the digest of the last revision.
func (s *Store) checked(set *store.Set, revisions []store.Revision) (*store.Set, []store.Revision, error) {
	want := store.NewSet(nil).Digest()
	if n := len(revisions); n > 0 {
		want = revisions[n-1].Digest
	}
	if set.Digest() != want {
		return nil, nil, damaged("the objects are not those of the last of %d revisions", len(revisions))
	}
	return set, revisions, nil
}

func (s *Store) setOf(ctx context.Context, members map[policy.Ref]string) (*store.Set, error) {
	entries, err := s.entries(ctx, slices.Collect(maps.Values(members)))
	if err != nil {
		return nil, err
	}
	var sorted []*store.Entry
	for _, ref := range slices.SortedFunc(maps.Keys(members), policy.Ref.Compare) {
		e := entries[members[ref]]
		if e.Object.Ref != ref {
			return nil, damaged("%s stands in the place of %s", e.Object.Ref, ref)
		}
		sorted = append(sorted, e)
	}
	return store.NewSet(sorted), nil
}

// state is a set that was written whole, by ref.
func (s *Store) state(ctx context.Context, ref stateRef) (map[policy.Ref]string, error) {
	members := map[policy.Ref]string{}
	if ref.Digest == "" {
		return members, nil
	}
	plain, err := s.read(ctx, []string{stateKey(ref.Digest)})
	if err != nil {
		return nil, err
	}
	list, err := decode[[]member](stateKey(ref.Digest), plain[0])
	for _, m := range list {
		members[m.Ref] = m.Digest
	}
	return members, err
}

// records are those of the revisions from from to to, each the child of the one before.
func (s *Store) records(ctx context.Context, generation string, from, to uint64) ([]record, error) {
	var keys []string
	for n := from; n <= to; n++ {
		keys = append(keys, recordKey(generation, n))
	}
	plain, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	records := make([]record, len(keys))
	for i := range keys {
		if records[i], err = decode[record](keys[i], plain[i]); err != nil {
			return nil, err
		}
		if r := records[i]; r.Revision.Number != from+uint64(i) || i > 0 && r.Parent != records[i-1].ID {
			return nil, damaged("revision %d does not follow the one before", from+uint64(i))
		}
	}
	return records, nil
}

// entries are the objects of those digests, by digest; what the head holds is not read again.
func (s *Store) entries(ctx context.Context, digests []string) (map[string]*store.Entry, error) {
	out := make(map[string]*store.Entry, len(digests))
	for _, digest := range digests {
		if digest != "" {
			out[digest] = nil
		}
	}
	for _, e := range s.set.Entries() {
		if _, wanted := out[e.Digest]; wanted {
			out[e.Digest] = e
		}
	}
	var missing, keys []string
	for digest, e := range out {
		if e == nil {
			missing, keys = append(missing, digest), append(keys, objectKey(digest))
		}
	}
	plain, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, digest := range missing {
		object, err := decode[policy.Object](keys[i], plain[i])
		if err != nil {
			return nil, err
		}
		if out[digest] = store.NewEntry(object); out[digest].Digest != digest {
			return nil, damaged("%s is not what its key says", keys[i])
		}
	}
	return out, nil
}

// steps reads edits for the ledger.
func (s *Store) steps(ctx context.Context) func(from, to uint64) ([][]store.Edit, error) {
	return func(from, to uint64) ([][]store.Edit, error) {
		records, err := s.records(ctx, s.at.head.Generation, from, to)
		if err != nil {
			return nil, err
		}
		var digests []string
		for _, r := range records {
			for _, e := range r.Edits {
				digests = append(digests, e.Before, e.After)
			}
		}
		entries, err := s.entries(ctx, digests)
		if err != nil {
			return nil, err
		}
		steps := make([][]store.Edit, len(records))
		for i, r := range records {
			for _, e := range r.Edits {
				steps[i] = append(steps[i], store.Edit{Ref: e.Ref, Before: entries[e.Before], After: entries[e.After]})
			}
		}
		return steps, nil
	}
}

// read is what the values of the keys hold, in their order; one that is missing is an error.
func (s *Store) read(ctx context.Context, keys []string) ([][]byte, error) {
	values, err := s.kv.values(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if values[i], err = s.openValue(ctx, key, values[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (s *Store) openValue(ctx context.Context, key string, value []byte) ([]byte, error) {
	if value == nil {
		return nil, damaged("the key %s%s is missing", s.Prefix, key)
	}
	flags, body, err := unseal(key, value)
	if err != nil {
		return nil, fmt.Errorf("prefix %s: %w", s.Prefix, err)
	}
	if flags&flagChunked != 0 {
		if body, err = s.joined(ctx, key, body); err != nil {
			return nil, err
		}
	}
	return open(key, flags, body)
}

// joined is the body whose chunks are listed.
func (s *Store) joined(ctx context.Context, key string, list []byte) ([]byte, error) {
	keys, err := chunkKeys(key, list)
	if err != nil {
		return nil, err
	}
	values, err := s.kv.values(ctx, keys)
	if err != nil {
		return nil, err
	}
	var body []byte
	for i, value := range values {
		if value == nil {
			return nil, damaged("a chunk is missing: %s%s", s.Prefix, keys[i])
		}
		_, chunk, err := unseal(keys[i], value)
		if err != nil {
			return nil, err
		}
		body = append(body, chunk...)
	}
	return body, nil
}
