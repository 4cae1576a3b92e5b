package credentials

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/revocation"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Revoke keeps a revocation. What is revoked already stays so for the longer of both times.
func (k *Keeper) Revoke(ctx context.Context, asked revocation.Revocation) (*revocation.Revocation, error) {
	asked.At = k.Now().UTC().Truncate(time.Millisecond)
	asked.ID = revocationID(asked)
	if err := asked.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for {
		err := k.writeRevocation(ctx, asked)
		var conflict *store.RecordConflictError
		if !errors.As(err, &conflict) {
			return &asked, err
		}
	}
}

// revocationID is one for each thing that is revoked.
func revocationID(r revocation.Revocation) string {
	sum := sha256.Sum256([]byte(string(r.Kind) + "\x00" + r.Value + "\x00" + r.Issuer))
	return hex.EncodeToString(sum[:6])
}

func (k *Keeper) writeRevocation(ctx context.Context, r revocation.Revocation) error {
	was, err := k.Records.Record(ctx, store.TableRevocations, r.ID)
	switch {
	case errors.Is(err, store.ErrNoRecord):
	case err != nil:
		return err
	default:
		var before revocation.Revocation
		if json.Unmarshal(was.Value, &before) == nil && !before.Over(r.At) {
			r.All = r.All || before.All
			if r.Until != nil && (before.Until == nil || before.Until.After(*r.Until)) {
				r.Until = before.Until
			}
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = k.Records.WriteRecords(ctx, store.TableRevocations, store.RecordChange{Record: store.Record{Key: r.ID, Value: body, Version: was.Version}})
	return err
}

// Revocations are those in force, the newest first.
func (k *Keeper) Revocations(ctx context.Context) ([]revocation.Revocation, error) {
	out, _, err := k.revocations(ctx)
	return out, err
}

// revocations are those in force, and the records of those that are over.
func (k *Keeper) revocations(ctx context.Context) (out []revocation.Revocation, over []store.RecordChange, err error) {
	records, err := k.Records.Records(ctx, store.TableRevocations)
	if err != nil {
		return nil, nil, err
	}
	now := k.Now()
	for _, record := range records {
		var r revocation.Revocation
		if err := json.Unmarshal(record.Value, &r); err != nil {
			return nil, nil, fmt.Errorf("the revocation %s: %w", record.Key, err)
		}
		if r.Over(now) {
			over = append(over, store.RecordChange{Record: store.Record{Key: record.Key, Version: record.Version}, Deleted: true})
			continue
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b revocation.Revocation) int { return b.At.Compare(a.At) })
	return out, over, nil
}

// Undo takes a revocation back; ErrUnknown when there is none.
func (k *Keeper) Undo(ctx context.Context, id string) (*revocation.Revocation, error) {
	record, err := k.Records.Record(ctx, store.TableRevocations, id)
	if errors.Is(err, store.ErrNoRecord) || errors.Is(err, store.ErrInvalid) {
		return nil, fmt.Errorf("revocation %q: %w: sluice revoke list shows the ids", id, ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	var r revocation.Revocation
	if err := json.Unmarshal(record.Value, &r); err != nil {
		return nil, fmt.Errorf("the revocation %s: %w", id, err)
	}
	_, err = k.Records.WriteRecords(ctx, store.TableRevocations, store.RecordChange{Record: store.Record{Key: id, Version: record.Version}, Deleted: true})
	return &r, err
}

// mostPruned bounds what is removed at once.
const mostPruned = 500

// prune removes what is over. Another server may do the same: then the next time does the rest.
func (k *Keeper) prune(ctx context.Context) {
	_, over, err := k.revocations(ctx)
	if err == nil && len(over) > 0 {
		_, err = k.Records.WriteRecords(ctx, store.TableRevocations, over[:min(len(over), mostPruned)]...)
	}
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*store.RecordConflictError)) {
		k.Log.Warn("revocations that are over could not be removed", "error", err)
	}
}
