// Package credentials keeps API keys and revocations in the store, and makes of them what agents are given.
package credentials

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/revocation"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// tableUses is the store's table of when keys were used last. It is none of those that are followed: a use is told to
// nobody.
const tableUses = "api-key-uses"

// Config is what a Keeper works with.
type Config struct {
	// Records is where everything is kept. Required.
	Records store.Records
	// Log takes what cannot be read. Required.
	Log *slog.Logger
	// Every is how often uses are written and what is over is removed; a minute when 0.
	Every time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Keeper keeps them. It is safe for concurrent use.
type Keeper struct {
	Config
	keys    *followed[apikey.Entry]
	revoked *followed[revocation.Entry]
	changed chan struct{}

	mu   sync.Mutex
	uses map[string]time.Time // by key: those that are not written yet
}

// New makes a Keeper that knows nothing before Run.
func New(c Config) *Keeper {
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k := &Keeper{Config: c, changed: make(chan struct{}, 1), uses: map[string]time.Time{}}
	k.keys = newFollowed(c.Log, apikey.Shards, apikey.Pack, keyEntries)
	k.revoked = newFollowed(c.Log, revocation.Shards, revocation.Pack, revocationEntries)
	return k
}

// keyEntries are what agents know a key by, each with its part.
func keyEntries(r store.Record) (out []placed[apikey.Entry], err error) {
	var k apikey.Key
	if err := json.Unmarshal(r.Value, &k); err != nil {
		return nil, fmt.Errorf("the API key %s: %w", r.Key, err)
	}
	for _, e := range k.Entries() {
		out = append(out, placed[apikey.Entry]{e.Hash.Shard(), e})
	}
	return out, nil
}

func revocationEntries(r store.Record) ([]placed[revocation.Entry], error) {
	var v revocation.Revocation
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return nil, fmt.Errorf("the revocation %s: %w", r.Key, err)
	}
	return []placed[revocation.Entry]{{revocation.Shard(v.Kind, v.Value), v.Entry()}}, nil
}

// Run follows the store until ctx ends, writes down what was used, and removes what is over.
func (k *Keeper) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { follow(ctx, k, store.TableKeys, k.keys); return nil })
	g.Go(func() error { follow(ctx, k, store.TableRevocations, k.revoked); return nil })
	g.Go(func() error { k.tidy(ctx); return nil })
	return g.Wait()
}

func follow[E any](ctx context.Context, k *Keeper, table string, into *followed[E]) {
	for batch := range k.Records.WatchRecords(ctx, table) {
		into.take(batch)
		select {
		case k.changed <- struct{}{}:
		default:
		}
	}
}

// tidy does what has time.
func (k *Keeper) tidy(ctx context.Context) {
	tick := time.NewTicker(k.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.prune(ctx)
			k.writeUses(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			k.writeUses(last)
			return
		}
	}
}

// Changed implements control.Tables.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Await implements control.Tables.
func (k *Keeper) Await(ctx context.Context) error {
	for _, read := range []<-chan struct{}{k.keys.read, k.revoked.read} {
		select {
		case <-read:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Parts implements control.Tables.
func (k *Keeper) Parts(table model.Table) [][]byte {
	switch table {
	case model.TableKeys:
		return k.keys.parts()
	case model.TableRevocations:
		return k.revoked.parts()
	}
	return nil
}
