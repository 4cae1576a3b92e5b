// Package agent holds the run-time policy that is decided beside an Envoy: policies by digest and the data they need,
// as the control plane sends them, with the last good copy on disk.
package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// How long what nothing names any more is still held: an Envoy may be a switch of routes behind. A digest names one
// content for ever, so that holding it longer lets nothing pass that should not.
const (
	linger     = 10 * time.Minute
	mostUnused = 10_000
)

// Patience is how long a check waits for a policy that is not there yet.
const Patience = 100 * time.Millisecond

// Resource is one resource of the agent's types, its body not wrapped.
type Resource struct {
	Type    string `json:"type"` // feature.PolicyType or feature.DataType
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Body    []byte `json:"body"`
}

type key struct{ typeURL, name string }

func (r Resource) key() key { return key{r.Type, r.Name} }

// Holder is what is held. It is safe for concurrent use.
type Holder struct {
	features feature.Set

	mu      sync.RWMutex
	entries map[key]*entry
	changed chan struct{} // closed at the next change

	usesMu sync.Mutex
	uses   map[string]time.Time
}

// entry is one resource, decoded.
type entry struct {
	checks []feature.Check // of a policy
	data   any
	body   string
	by     map[string]bool // the gateways that name it
	unused time.Time       // since when none does
}

// NewHolder holds nothing yet.
func NewHolder(features feature.Set) *Holder {
	return &Holder{features: features, entries: map[key]*entry{}, changed: make(chan struct{}), uses: map[string]time.Time{}}
}

// Change takes in what a gateway's control plane sends: resources that are new or changed, and those that are gone. The
// error joins those that cannot be decoded, by name; a policy among them is not held, so that its routes are refused,
// and of data what was good last stays.
func (h *Holder) Change(gateway string, changed, removed []Resource) error {
	decoded, err := h.decode(changed)
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, e := range decoded {
		if had := h.entries[k]; had != nil {
			e.by = had.by
		}
		e.by[gateway] = true
		h.entries[k] = e
	}
	now := time.Now()
	for _, r := range removed {
		h.release(gateway, r.key(), now)
	}
	h.prune(now)
	close(h.changed)
	h.changed = make(chan struct{})
	return err
}

// Replace is Change where the resources given are all that the gateway has.
func (h *Holder) Replace(gateway string, all []Resource) error {
	named := map[key]bool{}
	for _, r := range all {
		named[r.key()] = true
	}
	var removed []Resource
	h.mu.RLock()
	for k, e := range h.entries {
		if e.by[gateway] && !named[k] {
			removed = append(removed, Resource{Type: k.typeURL, Name: k.name})
		}
	}
	h.mu.RUnlock()
	return h.Change(gateway, all, removed)
}

func (h *Holder) decode(resources []Resource) (map[key]*entry, error) {
	out := map[key]*entry{}
	var errs []error
	for _, r := range resources {
		if e := h.same(r); e != nil {
			out[r.key()] = e
			continue
		}
		e, err := h.decodeOne(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, err))
			continue
		}
		out[r.key()] = e
	}
	return out, errors.Join(errs...)
}

// same is a copy of what is held already with the same body.
func (h *Holder) same(r Resource) *entry {
	h.mu.RLock()
	defer h.mu.RUnlock()
	e := h.entries[r.key()]
	if e == nil || e.body != string(r.Body) {
		return nil
	}
	return &entry{checks: e.checks, data: e.data, body: e.body, by: maps.Clone(e.by)}
}

func (h *Holder) decodeOne(r Resource) (*entry, error) {
	e := &entry{body: string(r.Body), by: map[string]bool{}}
	var err error
	switch {
	case r.Type == feature.DataType:
		e.data, err = h.features.ParseData(r.Name, r.Body)
	case r.Type != feature.PolicyType:
		err = errors.New("not a resource of agents")
	case feature.PolicyDigest(r.Body) != r.Name:
		err = errors.New("the content is not what the name says")
	default:
		e.checks, err = h.features.Checks(r.Body)
	}
	return e, err
}

func (h *Holder) release(gateway string, k key, now time.Time) {
	e := h.entries[k]
	if e == nil || !e.by[gateway] {
		return
	}
	next := *e
	next.by = maps.Clone(e.by)
	delete(next.by, gateway)
	if len(next.by) == 0 {
		if k.typeURL == feature.DataType && feature.IsPart(k.name) {
			delete(h.entries, k) // it would let pass what may have been revoked since
			return
		}
		next.unused = now
	}
	h.entries[k] = &next
}

// prune forgets what nothing has named for long, and all of that when it is too much.
func (h *Holder) prune(now time.Time) {
	var unused []key
	for k, e := range h.entries {
		if len(e.by) > 0 {
			continue
		}
		if now.Sub(e.unused) > linger {
			delete(h.entries, k)
			continue
		}
		unused = append(unused, k)
	}
	if len(unused) <= mostUnused {
		return
	}
	for _, k := range unused {
		delete(h.entries, k)
	}
}

// Policy is the checks of a policy, in order. One that is not there yet is waited for, up to Patience: Envoy may have
// been faster with the route that names it.
func (h *Holder) Policy(ctx context.Context, digest string) ([]feature.Check, bool) {
	var timeout <-chan time.Time
	for {
		h.mu.RLock()
		e, changed := h.entries[key{feature.PolicyType, digest}], h.changed
		h.mu.RUnlock()
		if e != nil {
			return e.checks, true
		}
		if timeout == nil {
			timer := time.NewTimer(Patience)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-timeout:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// Data is the decoded data of a name, nil when there is none.
func (h *Holder) Data(name string) any {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if e := h.entries[key{feature.DataType, name}]; e != nil {
		return e.data
	}
	return nil
}

// Len is how many policies and data are held, those that nothing names any more among them.
func (h *Holder) Len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.entries)
}
