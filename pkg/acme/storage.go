package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Records are the store's.
type Records interface {
	Records(ctx context.Context, table string) ([]store.Record, error)
	Record(ctx context.Context, table, key string) (store.Record, error)
	WriteRecords(ctx context.Context, table string, changes ...store.RecordChange) ([]store.Record, error)
	WatchRecords(ctx context.Context, table string) <-chan store.RecordBatch
}

// Sealer encrypts values, each for its name, and tells when it did.
type Sealer interface {
	Seal(name string, value []byte) ([]byte, error)
	Open(name string, text []byte) (value []byte, sealed time.Time, err error)
}

// storage is certmagic's, in the store: all control planes of a site share it.
type storage struct {
	records Records
	sealer  Sealer
	owner   string
	// stored is told of what was written here, before anybody acts on it.
	stored func(ctx context.Context, key string, value []byte)

	mu    sync.Mutex
	locks map[string]context.CancelFunc
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	text, err := s.sealer.Seal(key, value)
	if err != nil {
		return err
	}
	if err := s.put(ctx, key, text); err != nil {
		return err
	}
	if s.stored != nil {
		s.stored(ctx, key, value)
	}
	return nil
}

// attempts bounds how often a change is made again that others were faster than.
const attempts = 10

func (s *storage) put(ctx context.Context, key string, text []byte) error {
	var err error
	for range attempts {
		was, missing := s.records.Record(ctx, store.TableACME, key)
		if missing != nil && !errors.Is(missing, store.ErrNoRecord) {
			return missing
		}
		_, err = s.records.WriteRecords(ctx, store.TableACME, store.RecordChange{Record: store.Record{Key: key, Value: text, Version: was.Version}})
		if !isConflict(err) {
			return err
		}
	}
	return err
}

func isConflict(err error) bool {
	var c *store.RecordConflictError
	return errors.As(err, &c)
}

func (s *storage) read(ctx context.Context, key string) (value []byte, sealed time.Time, err error) {
	r, err := s.records.Record(ctx, store.TableACME, key)
	if errors.Is(err, store.ErrNoRecord) {
		return nil, sealed, fs.ErrNotExist
	}
	if err != nil {
		return nil, sealed, err
	}
	return s.sealer.Open(key, r.Value)
}

// Load implements certmagic.Storage.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	value, _, err := s.read(ctx, key)
	return value, err
}

// Delete implements certmagic.Storage: the key, and all below it.
func (s *storage) Delete(ctx context.Context, key string) error {
	keys, err := s.below(ctx, key)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := s.remove(ctx, store.TableACME, k); err != nil {
			return err
		}
	}
	return nil
}

func (s *storage) remove(ctx context.Context, table, key string) error {
	for range attempts {
		was, err := s.records.Record(ctx, table, key)
		if errors.Is(err, store.ErrNoRecord) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = s.records.WriteRecords(ctx, table, store.RecordChange{Record: was, Deleted: true})
		if !isConflict(err) {
			return err
		}
	}
	return fmt.Errorf("acme: %s changes too often", key)
}

// below are the keys that are a prefix's, or below it.
func (s *storage) below(ctx context.Context, prefix string) ([]string, error) {
	records, err := s.records.Records(ctx, store.TableACME)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range records {
		if r.Key == prefix || strings.HasPrefix(r.Key, strings.TrimSuffix(prefix, "/")+"/") {
			out = append(out, r.Key)
		}
	}
	return out, nil
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	keys, err := s.below(ctx, key)
	return err == nil && len(keys) > 0
}

// List implements certmagic.Storage.
func (s *storage) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	keys, err := s.below(ctx, prefix)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	if recursive {
		return keys, nil
	}
	for i, k := range keys {
		first, _, _ := strings.Cut(strings.TrimPrefix(k, strings.TrimSuffix(prefix, "/")+"/"), "/")
		keys[i] = path.Join(prefix, first)
	}
	return slices.Compact(keys), nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, sealed, err := s.read(ctx, key)
	if errors.Is(err, fs.ErrNotExist) && s.Exists(ctx, key) {
		return certmagic.KeyInfo{Key: key}, nil
	}
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key, Modified: sealed, Size: int64(len(value)), IsTerminal: true}, nil
}

// How locks are held: for so long, and renewed well before.
const (
	lockFor   = 30 * time.Second
	lockRenew = 10 * time.Second
	lockRetry = time.Second
)

// lock is who holds one, and until when.
type lock struct {
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
}

// Lock implements certmagic.Locker: one control plane at a time obtains a certificate. One that dies lets go by itself.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		held, err := s.try(ctx, name)
		if err != nil {
			return err
		}
		if held {
			break
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.locks[name] = stop
	s.mu.Unlock()
	go s.renew(renewing, name)
	return nil
}

func (s *storage) renew(ctx context.Context, name string) {
	for {
		select {
		case <-time.After(lockRenew):
			if held, err := s.try(ctx, name); err == nil && !held {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// try takes a lock that is free, or is held by the same owner already.
func (s *storage) try(ctx context.Context, name string) (held bool, err error) {
	was, err := s.records.Record(ctx, store.TableACMELocks, name)
	if err != nil && !errors.Is(err, store.ErrNoRecord) {
		return false, err
	}
	var now lock
	if err == nil && json.Unmarshal(was.Value, &now) == nil && now.Owner != s.owner && time.Now().Before(now.Until) {
		return false, nil
	}
	text, err := json.Marshal(lock{s.owner, time.Now().Add(lockFor).UTC()})
	if err != nil {
		return false, err
	}
	_, err = s.records.WriteRecords(ctx, store.TableACMELocks, store.RecordChange{Record: store.Record{Key: name, Value: text, Version: was.Version}})
	if isConflict(err) {
		return false, nil
	}
	return err == nil, err
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	stop := s.locks[name]
	delete(s.locks, name)
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	return s.remove(ctx, store.TableACMELocks, name)
}

var _ certmagic.Storage = (*storage)(nil)
