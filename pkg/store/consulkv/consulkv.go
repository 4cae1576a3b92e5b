// Package consulkv keeps a store in Consul's KV, for several control planes that serve one fleet. Any of them commits;
// the others see it by a blocking query and read only what changed.
//
// One key decides, the head. What it names is written before it, by content, or together with it in one transaction
// that compares and sets the head: readers see a revision whole or not at all. The head and the list of revisions are
// held in memory, so that reading goes on while Consul is away; commits fail then.
package consulkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Config says where a store is. Start from Default.
type Config struct {
	// Client asks Consul, with what Token returns at each call; nil stands for the client's own token.
	Client *api.Client
	Token  func() string
	// Prefix is what all keys begin with; one site, one prefix.
	Prefix string
	// Options are those of every store.
	store.Options

	// Timeout bounds one call, and Patience how long a commit without an answer is followed up.
	Timeout, Patience time.Duration
	// Wait is how long a blocking query waits; Consul allows at most 10 minutes.
	Wait time.Duration
	// Backoff and BackoffMax bound the time between attempts that fail, which is drawn at random.
	Backoff, BackoffMax time.Duration
	// SweepEvery is the time between two deletions of what nothing names any more.
	SweepEvery time.Duration
	// Log is where reports go.
	Log *slog.Logger
}

// DefaultPrefix is that of a site that names none.
const DefaultPrefix = "sluice/"

// Default is a Config that fits most sites, but for the Client.
func Default() Config {
	return Config{
		Prefix: DefaultPrefix, Timeout: 10 * time.Second, Patience: 15 * time.Second, Wait: 5 * time.Minute,
		Backoff: 100 * time.Millisecond, BackoffMax: 30 * time.Second, SweepEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	}
}

// Store is a store.Store in Consul's KV.
type Store struct {
	Config
	kv     kv
	ledger *store.Ledger
	// at and set are what the ledger holds, guarded by its order of reading and writing.
	at  position
	set *store.Set

	tablesMu sync.Mutex
	tables   map[string]*recordTable // those that were asked for; nil once closed

	problem atomic.Pointer[error]
	run     context.Context // ends with the store
	commits atomic.Uint64
	sweeps  chan struct{} // a sweep is due
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// position is the head that was read, and where: its ModifyIndex, 0 when there is none.
type position struct {
	index uint64
	head  head
}

// Open opens the store, new or as it was left. When Consul does not answer or has no leader, it tries until ctx ends.
// Errors: ErrDenied, ErrNewerFormat, store.ErrDamaged, ErrUnreachable, ErrNoLeader; each says what to do.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Store{Config: c, ledger: store.NewLedger(c.Options), set: store.NewSet(nil), sweeps: make(chan struct{}, 1),
		tables: map[string]*recordTable{},
		kv:     kv{client: c.Client, token: c.Token, prefix: c.Prefix, timeout: c.Timeout}}
	if err := s.firstLoad(ctx); err != nil {
		return nil, fmt.Errorf("open store consul://%s: %w", c.Prefix, err)
	}
	s.run, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.ended.Go(func() { s.follow(s.run) })
	s.ended.Go(func() { s.tidy(s.run) })
	return s, nil
}

func (c *Config) check() error {
	if c.Client == nil {
		return errors.New("consul store: no client")
	}
	if c.Token == nil {
		c.Token = func() string { return "" }
	}
	if c.Prefix == "" || strings.HasPrefix(c.Prefix, "/") || !strings.HasSuffix(c.Prefix, "/") || strings.Contains(c.Prefix, "//") {
		return fmt.Errorf("consul store: the prefix %q must end with a slash and not begin with one, such as %s", c.Prefix, DefaultPrefix)
	}
	return nil
}

// firstLoad reads the store, and tries again while Consul cannot answer.
func (s *Store) firstLoad(ctx context.Context) error {
	for failures := 1; ; failures++ {
		err := s.Refresh(ctx)
		if err == nil || !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrNoLeader) {
			return err
		}
		if failures == 1 {
			s.Log.Warn("the store is waited for", "prefix", s.Prefix, "reason", err)
		}
		if !sleep(ctx, backoff(failures, s.Backoff, s.BackoffMax)) {
			return err
		}
	}
}

// Head implements store.Store, from memory.
func (s *Store) Head(ctx context.Context) (store.Revision, []policy.Object, error) {
	return s.ledger.Head(ctx)
}

// At implements store.Store.
func (s *Store) At(ctx context.Context, revision uint64) (rev store.Revision, objects []policy.Object, err error) {
	err = s.fresh(ctx, func() error {
		rev, objects, err = s.ledger.At(ctx, revision, s.steps(ctx))
		return err
	})
	return rev, objects, err
}

// History implements store.Store, from memory.
func (s *Store) History(ctx context.Context, limit int) ([]store.Revision, error) {
	return s.ledger.History(ctx, limit)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context) <-chan uint64 { return s.ledger.Watch(ctx) }

// Archive implements store.Store.
func (s *Store) Archive(ctx context.Context) (a store.Archive, err error) {
	err = s.fresh(ctx, func() error {
		return s.ledger.Reading(ctx, func(head *store.Set, revisions []store.Revision) error {
			a, err = store.NewArchive(head, revisions, s.steps(ctx))
			return err
		})
	})
	if err == nil {
		a.Records, err = s.AllRecords(ctx)
	}
	return a, err
}

// fresh reads again when something is missing that another replica may have dropped meanwhile.
func (s *Store) fresh(ctx context.Context, read func() error) error {
	err := read()
	if errors.Is(err, store.ErrDamaged) && s.Refresh(ctx) == nil {
		err = read()
	}
	return err
}

// Close implements store.Store; it waits for calls under way.
func (s *Store) Close() error {
	s.cancel()
	s.ledger.Close()
	s.closeTables()
	s.ended.Wait()
	return nil
}

// Err is why what other replicas commit does not arrive; nil when it does.
func (s *Store) Err() error {
	if err := s.problem.Load(); err != nil {
		return *err
	}
	for _, t := range s.followed() {
		if err := t.problem.Load(); err != nil {
			return *err
		}
	}
	return nil
}
