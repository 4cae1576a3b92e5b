// Package vault keeps secrets in the store, encrypted: each under a key of its own, and that under a master key which is
// never in the store. Values go in, and out only to those parts of the control plane that serve them.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// MaxValue bounds a secret, in bytes.
const MaxValue = 128 << 10

var (
	// ErrNoSecret says that there is no secret of that name.
	ErrNoSecret = errors.New("there is no such secret in the store: sluice secrets set makes it")
	// ErrNoKey says that the key a secret is under is not one of those that the server was started with.
	ErrNoKey = errors.New("this server has not the key that it is encrypted with: start sluice serve with --secrets-key")
	// ErrNoKeys refuses to store a secret without a key.
	ErrNoKeys = errors.New("this server keeps no secrets: make a key with sluice secrets init-key FILE, and start sluice serve with --secrets-key FILE")
	// ErrAltered says that what is stored is not what was encrypted.
	ErrAltered = errors.New("what is stored was altered, or belongs to another secret: set it again")
	// ErrInvalid refuses a name or value that cannot be kept.
	ErrInvalid = errors.New("invalid secret")
)

// Records are the store's.
type Records interface {
	Records(ctx context.Context, table string) ([]store.Record, error)
	Record(ctx context.Context, table, key string) (store.Record, error)
	WriteRecords(ctx context.Context, table string, changes ...store.RecordChange) ([]store.Record, error)
	WatchRecords(ctx context.Context, table string) <-chan store.RecordBatch
}

// Vault is safe for concurrent use.
type Vault struct {
	records Records
	ring    []Key
	now     func() time.Time
}

// New is a vault over records. The first key is the one that new secrets are put under; the others are only read by.
func New(records Records, ring ...Key) *Vault {
	return &Vault{records: records, ring: ring, now: time.Now}
}

// Info is what is known of a secret without its value.
type Info struct {
	Name    string    `json:"name"`
	Changed time.Time `json:"changed"`
	// Key is the ID of the master key that it is under, Current whether that is the one new secrets are put under.
	Key     string `json:"key"`
	Current bool   `json:"current"`
	// Problem is why it cannot be used.
	Problem string `json:"problem,omitempty"`
}

// attempts bounds how often a change is made again that others were faster than.
const attempts = 10

// Set makes a secret, or gives it another value. Errors: ErrInvalid, ErrNoKeys, or the store's.
func (v *Vault) Set(ctx context.Context, name string, value []byte) error {
	switch {
	case len(v.ring) == 0:
		return ErrNoKeys
	case !policy.ValidName(name):
		return fmt.Errorf("%w: %q is not a name: use lower-case letters, digits and dashes, at most 63", ErrInvalid, name)
	case len(value) == 0:
		return fmt.Errorf("%w: %s has no value", ErrInvalid, name)
	case len(value) > MaxValue:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are kept", ErrInvalid, name, len(value), MaxValue)
	}
	text, err := json.Marshal(seal(v.ring[0], name, value, v.now().Unix()))
	if err != nil {
		return err
	}
	return again(func() error {
		was, err := v.records.Record(ctx, store.TableSecrets, name)
		if err != nil && !errors.Is(err, store.ErrNoRecord) {
			return err
		}
		return v.write(ctx, store.RecordChange{Record: store.Record{Key: name, Value: text, Version: was.Version}})
	})
}

// Delete forgets a secret; ErrNoSecret when there is none.
func (v *Vault) Delete(ctx context.Context, name string) error {
	return again(func() error {
		was, err := v.record(ctx, name)
		if err != nil {
			return err
		}
		return v.write(ctx, store.RecordChange{Record: was, Deleted: true})
	})
}

// Get is the value of a secret. Errors: ErrNoSecret, ErrNoKey, ErrAltered, or the store's; none shows anything of it.
func (v *Vault) Get(ctx context.Context, name string) ([]byte, error) {
	r, err := v.record(ctx, name)
	if err != nil {
		return nil, err
	}
	e, err := parse(r)
	if err != nil {
		return nil, err
	}
	return e.open(v.ring, name)
}

// List is what is known of all secrets, by name.
func (v *Vault) List(ctx context.Context) ([]Info, error) {
	records, err := v.records.Records(ctx, store.TableSecrets)
	if err != nil {
		return nil, err
	}
	out := make([]Info, len(records))
	for i, r := range records {
		out[i] = v.info(r)
	}
	return out, nil
}

func (v *Vault) info(r store.Record) Info {
	e, err := parse(r)
	if err == nil {
		_, err = e.open(v.ring, r.Key)
	}
	out := Info{Name: r.Key, Key: e.KeyID, Changed: time.Unix(e.Changed, 0).UTC(), Current: len(v.ring) > 0 && e.KeyID == v.ring[0].id}
	if err != nil {
		out.Problem = err.Error()
	}
	return out
}

// Rotate puts every secret under the first key, and returns how many that were under another. Values are not touched.
// One whose key is not there stops nothing, and is part of the error.
func (v *Vault) Rotate(ctx context.Context) (n int, err error) {
	if len(v.ring) == 0 {
		return 0, ErrNoKeys
	}
	var failed []error
	for _, table := range []string{store.TableSecrets, store.TableACME} {
		records, err := v.records.Records(ctx, table)
		if err != nil {
			return n, err
		}
		for _, r := range records {
			turned, err := v.rotate(ctx, table, r)
			switch {
			case errors.Is(err, ErrNoKey), errors.Is(err, ErrAltered):
				failed = append(failed, err)
			case err != nil:
				return n, err
			case turned:
				n++
			}
		}
	}
	return n, errors.Join(failed...)
}

// rotate puts one secret under the first key. One that has changed meanwhile was put there by whoever changed it, if
// that server has the key already; else the next rotation does so.
func (v *Vault) rotate(ctx context.Context, table string, r store.Record) (turned bool, err error) {
	e, err := parse(r)
	if err != nil || e.KeyID == v.ring[0].id {
		return false, err
	}
	own, err := e.unwrap(v.ring, r.Key)
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(e.wrapped(v.ring[0], r.Key, own))
	if err != nil {
		return false, err
	}
	_, err = v.records.WriteRecords(ctx, table, store.RecordChange{Record: store.Record{Key: r.Key, Value: text, Version: r.Version}})
	if isConflict(err) {
		return false, nil
	}
	return err == nil, err
}

// Watch tells each time that secrets may have changed, until ctx ends.
func (v *Vault) Watch(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for range v.records.WatchRecords(ctx, store.TableSecrets) {
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

func (v *Vault) record(ctx context.Context, name string) (store.Record, error) {
	r, err := v.records.Record(ctx, store.TableSecrets, name)
	if errors.Is(err, store.ErrNoRecord) || errors.Is(err, store.ErrInvalid) {
		return r, fmt.Errorf("secret %q: %w", name, ErrNoSecret)
	}
	return r, err
}

func (v *Vault) write(ctx context.Context, change store.RecordChange) error {
	_, err := v.records.WriteRecords(ctx, store.TableSecrets, change)
	return err
}

func parse(r store.Record) (e envelope, err error) {
	if json.Unmarshal(r.Value, &e) != nil || e.Format < 1 {
		return envelope{}, fmt.Errorf("secret %q: %w", r.Key, ErrAltered)
	}
	if e.Format > envelopeFormat {
		return e, fmt.Errorf("secret %q: a newer sluice wrote it: run that version or a newer one", r.Key)
	}
	return e, nil
}

// again makes a change once more when somebody else was faster.
func again(change func() error) (err error) {
	for range attempts {
		if err = change(); !isConflict(err) {
			return err
		}
	}
	return err
}

func isConflict(err error) bool {
	_, conflict := errors.AsType[*store.RecordConflictError](err)
	return conflict
}

// Keyed tells whether there is a key to encrypt with.
func (v *Vault) Keyed() bool { return len(v.ring) > 0 }

// Seal is a value encrypted for a name, under the first key: for what other parts of the control plane store by
// themselves, under that name, in a table that Rotate knows. Errors: ErrNoKeys.
func (v *Vault) Seal(name string, value []byte) ([]byte, error) {
	if len(v.ring) == 0 {
		return nil, ErrNoKeys
	}
	return json.Marshal(seal(v.ring[0], name, value, v.now().Unix()))
}

// Open is what Seal has encrypted for the name, and when. Errors: ErrNoKey, ErrAltered.
func (v *Vault) Open(name string, text []byte) (value []byte, sealed time.Time, err error) {
	e, err := parse(store.Record{Key: name, Value: text})
	if err != nil {
		return nil, time.Time{}, err
	}
	value, err = e.open(v.ring, name)
	return value, time.Unix(e.Changed, 0).UTC(), err
}
