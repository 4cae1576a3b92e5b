// Package keys keeps the data that agents check credentials by, above all the key sets of issuers: it fetches them,
// asks again in the background, and goes on with what was good last when an issuer is away.
package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/fetch"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// DefaultRefresh is how often each issuer is asked: a key that it begins to use is known that much later at most. Agents
// cannot ask for one by themselves.
const DefaultRefresh = 30 * time.Second

// Config is what a Keeper works with.
type Config struct {
	// Check tells what is wrong with data; what is not taken never replaces what was good. Required.
	Check func(name string, body []byte) error
	// Log takes what cannot be fetched. Required.
	Log *slog.Logger
	// File keeps the last good data over restarts; "" keeps it in memory only.
	File string
	// Refresh is how often each is asked again; 0 means DefaultRefresh.
	Refresh time.Duration
	// Getenv reads variables; nil means os.Getenv.
	Getenv func(string) string
	// Secrets are those of the store; nil where there is none.
	Secrets Secrets
}

// Secrets are the secrets of a store.
type Secrets interface {
	// Get is the value of one. Its errors show nothing of it.
	Get(ctx context.Context, name string) ([]byte, error)
	// Watch tells each time that some may have changed, until ctx ends.
	Watch(ctx context.Context) <-chan struct{}
}

// Keeper keeps data by name. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	client  *http.Client
	changed chan struct{}
	wake    chan struct{}

	mu    sync.Mutex
	items map[string]*item
	saved map[string]savedItem // of an earlier run, by name
}

type item struct {
	source model.Data
	body   []byte
	tried  chan struct{} // closed after the first try
	failed string        // why the last try failed
}

// New is a Keeper that knows what an earlier one has saved in its file. A file that cannot be read is passed over, and
// logged.
func New(c Config) *Keeper {
	if c.Refresh <= 0 {
		c.Refresh = DefaultRefresh
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	k := &Keeper{
		cfg: c, client: fetch.NewClient(), changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		items: map[string]*item{}, saved: map[string]savedItem{},
	}
	k.load()
	return k
}

// Changed tells after Run has found that some data is another than before.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Want makes the data that is kept exactly this.
func (k *Keeper) Want(wanted []model.Data) {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := map[string]bool{}
	for _, d := range wanted {
		names[d.Name] = true
		if have := k.items[d.Name]; have == nil || have.source != d {
			k.items[d.Name] = &item{source: d, tried: make(chan struct{}), body: k.before(d)}
		}
	}
	maps.DeleteFunc(k.items, func(name string, _ *item) bool { return !names[name] })
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// before is what an earlier run has had from the same source.
func (k *Keeper) before(d model.Data) []byte {
	s, ok := k.saved[d.Name]
	if !ok || s.Source != d || k.cfg.Check(d.Name, s.Body) != nil {
		return nil
	}
	return s.Body
}

// Get is the last good data of a name; false when there has not been any.
func (k *Keeper) Get(name string) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.items[name]
	if i == nil || i.body == nil {
		return nil, false
	}
	return i.body, true
}

// Await returns when each of the wanted data is there or has been tried once, or when ctx ends. Run must run.
func (k *Keeper) Await(ctx context.Context) {
	for _, i := range k.list() {
		k.mu.Lock()
		there := i.body != nil
		k.mu.Unlock()
		if there {
			continue
		}
		select {
		case <-i.tried:
		case <-ctx.Done():
			return
		}
	}
}

func (k *Keeper) list() []*item {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*item
	for _, i := range k.items {
		out = append(out, i)
	}
	return out
}

// Run fetches until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	var secrets <-chan struct{}
	if k.cfg.Secrets != nil {
		secrets = k.cfg.Secrets.Watch(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
			k.fetch(ctx, func(i *item) bool { return !isClosed(i.tried) })
		case <-secrets:
			k.fetch(ctx, func(i *item) bool { return i.source.Secret != "" })
		case <-timer.C:
			last = time.Now()
			k.fetch(ctx, func(*item) bool { return true })
			timer.Reset(k.pause(last))
		}
	}
}

// pause spreads what several control planes ask of one issuer: by a tenth of the time, sooner.
func (k *Keeper) pause(last time.Time) time.Duration {
	return max(k.cfg.Refresh-time.Since(last)-rand.N(k.cfg.Refresh/10+1), time.Millisecond)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// mostAtOnce bounds how many issuers are asked at the same time.
const mostAtOnce = 16

// fetch tries those chosen, at once, and tells of changes.
func (k *Keeper) fetch(ctx context.Context, chosen func(*item) bool) {
	var wait sync.WaitGroup
	slots := make(chan struct{}, mostAtOnce)
	anything := false
	var mu sync.Mutex
	for _, i := range k.list() {
		if !chosen(i) {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if k.try(ctx, i) {
				mu.Lock()
				anything = true
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if !anything {
		return
	}
	k.save()
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// try fetches one, and tells whether it is another than before.
func (k *Keeper) try(ctx context.Context, i *item) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*fetch.DefaultTimeout)
	defer cancel()
	body, err := k.read(ctx, i.source)
	if err == nil {
		err = k.cfg.Check(i.source.Name, body)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !isClosed(i.tried) {
		defer close(i.tried)
	}
	if err != nil {
		if reason := err.Error(); reason != i.failed && ctx.Err() != context.Canceled {
			i.failed = reason
			k.cfg.Log.Warn("keys could not be had; the last good ones stay", "name", i.source.Name, "any", i.body != nil, "error", reason)
		}
		return false
	}
	if i.failed != "" {
		k.cfg.Log.Info("keys are to be had again", "name", i.source.Name)
	}
	changed = !bytes.Equal(body, i.body)
	i.body, i.failed = body, ""
	return changed
}

func (k *Keeper) read(ctx context.Context, d model.Data) ([]byte, error) {
	switch {
	case d.Inline != "":
		return []byte(d.Inline), nil
	case d.Env != "":
		if v := k.cfg.Getenv(d.Env); v != "" {
			return []byte(v), nil
		}
		return nil, fmt.Errorf("the variable %s is empty", d.Env)
	case d.File != "":
		return readFile(d.File)
	case d.Secret != "" && k.cfg.Secrets == nil:
		return nil, errors.New("there is no store to have secrets from")
	case d.Secret != "":
		return k.cfg.Secrets.Get(ctx, d.Secret)
	case d.Discovery != "":
		at, err := discover(ctx, k.client, d.Discovery)
		if err != nil {
			return nil, err
		}
		return get(ctx, k.client, at)
	case d.URL != "":
		return get(ctx, k.client, d.URL)
	}
	return nil, errors.New("nothing says where the data is")
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxBytes {
		return nil, fmt.Errorf("%s is no file, or larger than %d KiB", name, maxBytes>>10)
	}
	return os.ReadFile(name)
}

// savedItem is one in the file.
type savedItem struct {
	Source model.Data `json:"source"`
	Body   []byte     `json:"body"`
}

type savedFile struct {
	Sum   [sha256.Size]byte `json:"sum"`
	Items json.RawMessage   `json:"items"`
}

func (k *Keeper) load() {
	if k.cfg.File == "" {
		return
	}
	text, err := os.ReadFile(k.cfg.File)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var f savedFile
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err == nil && sha256.Sum256(f.Items) != f.Sum {
		err = errors.New("its checksum is wrong")
	}
	if err == nil {
		err = json.Unmarshal(f.Items, &k.saved)
	}
	if err != nil {
		k.cfg.Log.Warn("saved keys could not be read", "file", k.cfg.File, "error", err)
	}
}

// save writes all that is good and was fetched to the file, whole or not at all. What is kept on this machine or in the
// store may be secret: it stays where it is.
func (k *Keeper) save() {
	if k.cfg.File == "" {
		return
	}
	all := map[string]savedItem{}
	k.mu.Lock()
	for name, i := range k.items {
		if i.body != nil && i.source.IsFetched() {
			all[name] = savedItem{i.source, i.body}
		}
	}
	k.mu.Unlock()
	items, err := json.Marshal(all)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(savedFile{sha256.Sum256(items), items}); err == nil {
			err = replaceFile(k.cfg.File, text)
		}
	}
	if err != nil {
		k.cfg.Log.Warn("keys could not be saved: a restart while an issuer is away would not have them", "file", k.cfg.File, "error", err)
	}
}

func replaceFile(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
