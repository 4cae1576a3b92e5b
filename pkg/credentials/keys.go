package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// ErrUnknown says that there is no key or revocation of an id.
var ErrUnknown = errors.New("there is none of this id")

// ErrInvalid says that something cannot be kept.
var ErrInvalid = errors.New("invalid")

// KeyStatus is a key and when it was used last, as far as agents have said; nil for never.
type KeyStatus struct {
	apikey.Key
	LastUsed *time.Time
}

// CreateKey keeps a new key; text is its secret, which is nowhere else.
func (k *Keeper) CreateKey(ctx context.Context, asked apikey.Key) (key *apikey.Key, text string, err error) {
	now := k.Now().UTC().Truncate(time.Millisecond)
	asked.ID, asked.Created, asked.Disabled = apikey.NewID(), now, false
	if err := asked.Check(now); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	text = asked.Issue(now)
	return &asked, text, k.writeKey(ctx, asked, 0)
}

func (k *Keeper) writeKey(ctx context.Context, key apikey.Key, base uint64) error {
	body, err := json.Marshal(key)
	if err != nil {
		return err
	}
	_, err = k.Records.WriteRecords(ctx, store.TableKeys, store.RecordChange{Record: store.Record{Key: key.ID, Value: body, Version: base}})
	return err
}

// ChangeKey changes a key that is there; ErrUnknown when there is none.
func (k *Keeper) ChangeKey(ctx context.Context, id string, change func(key *apikey.Key, now time.Time) error) (*apikey.Key, error) {
	record, key, err := k.readKey(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := change(key, k.Now().UTC().Truncate(time.Millisecond)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return key, k.writeKey(ctx, *key, record.Version)
}

func (k *Keeper) readKey(ctx context.Context, id string) (store.Record, *apikey.Key, error) {
	record, err := k.Records.Record(ctx, store.TableKeys, id)
	if errors.Is(err, store.ErrNoRecord) || errors.Is(err, store.ErrInvalid) {
		return record, nil, fmt.Errorf("API key %q: %w: sluice keys list shows the ids", id, ErrUnknown)
	}
	if err != nil {
		return record, nil, err
	}
	var key apikey.Key
	if err := json.Unmarshal(record.Value, &key); err != nil {
		return record, nil, fmt.Errorf("the API key %s: %w", id, err)
	}
	return record, &key, nil
}

// RotateKey gives a key a new secret; the one before holds for grace longer.
func (k *Keeper) RotateKey(ctx context.Context, id string, grace time.Duration) (key *apikey.Key, text string, err error) {
	key, err = k.ChangeKey(ctx, id, func(key *apikey.Key, now time.Time) error {
		if grace < 0 || grace > maxGrace {
			return fmt.Errorf("a grace of more than %s", maxGrace)
		}
		text = key.Rotate(now, grace)
		return nil
	})
	return key, text, err
}

// maxGrace bounds how long two secrets of a key hold.
const maxGrace = 90 * 24 * time.Hour

// SetDisabled takes a key out of use, or into use again.
func (k *Keeper) SetDisabled(ctx context.Context, id string, disabled bool) (*apikey.Key, error) {
	return k.ChangeKey(ctx, id, func(key *apikey.Key, _ time.Time) error {
		key.Disabled = disabled
		return nil
	})
}

// DeleteKey removes a key for good.
func (k *Keeper) DeleteKey(ctx context.Context, id string) (*apikey.Key, error) {
	record, key, err := k.readKey(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = k.Records.WriteRecords(ctx, store.TableKeys, store.RecordChange{Record: store.Record{Key: id, Version: record.Version}, Deleted: true})
	return key, err
}

// Key is one key.
func (k *Keeper) Key(ctx context.Context, id string) (*KeyStatus, error) {
	_, key, err := k.readKey(ctx, id)
	if err != nil {
		return nil, err
	}
	uses, err := k.usesOf(ctx, id)
	return &KeyStatus{Key: *key, LastUsed: uses[id]}, err
}

// Keys are all keys of an owner, of all owners when it is "", the oldest first.
func (k *Keeper) Keys(ctx context.Context, owner string) ([]KeyStatus, error) {
	records, err := k.Records.Records(ctx, store.TableKeys)
	if err != nil {
		return nil, err
	}
	uses, err := k.usesOf(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []KeyStatus
	for _, r := range records {
		var key apikey.Key
		if err := json.Unmarshal(r.Value, &key); err != nil {
			return nil, fmt.Errorf("the API key %s: %w", r.Key, err)
		}
		if owner == "" || key.Owner == owner {
			out = append(out, KeyStatus{key, uses[key.ID]})
		}
	}
	slices.SortStableFunc(out, func(a, b KeyStatus) int { return a.Created.Compare(b.Created) })
	return out, nil
}
