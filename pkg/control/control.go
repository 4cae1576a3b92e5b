// Package control is the loop of the management server: what is stored becomes what Envoys have, by one straight line
// of steps, each change whole or not at all. What was good last is kept until something better is.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/memo"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/translate"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// Publisher is where snapshots go: the xDS server.
type Publisher interface {
	Publish(gateway string, s *snapshot.Snapshot)
	Withdraw(gateway string)
	Wait(ctx context.Context, gateway, digest string) []xds.EnvoyStatus
	Envoys() []xds.EnvoyStatus
	Resource(gateway, node, typeURL, name string) (xds.ResourceStatus, bool)
}

// Prover judges a snapshot before it is published.
type Prover interface {
	Prove(ctx context.Context, s *snapshot.Snapshot) ([]proof.Fault, error)
}

// Config is what a Controller works with.
type Config struct {
	Features  feature.Set
	Store     store.Store
	Publisher Publisher
	// Prover is nil where there is no Envoy binary: then everything counts as unproven.
	Prover Prover
	Log    *slog.Logger
	// Loopback binds every listener that names no address to 127.0.0.1.
	Loopback bool
	// Catalog says that Discover runs: services may come from a catalog.
	Catalog bool
	// Keys keeps what agents need beside their policies; with it FollowKeys runs. Without it they are sent none.
	Keys Keys
	// Tables keeps large tables that agents need; with it FollowTables runs. Without it they are sent none, and refuse what
	// needs them.
	Tables Tables
	// StoreSecrets are the secrets of the store; nil where nobody asks whether they are there.
	StoreSecrets StoreSecrets
	// Secrets reads certificates; nil where none are served, as by commands that have no server.
	Secrets *secrets.Source
}

// Controller owns what is served. It is safe for concurrent use.
type Controller struct {
	Config
	metrics   *metrics
	discovery *discovery

	mu         sync.Mutex // one change at a time; guards what follows up to out
	compiler   *compile.Compiler
	translator *translate.Translator
	endpoints  memo.Table[endpointsKey, packedEndpoints]
	// provenTemplates names the templates that the last proof of samples was about.
	provenTemplates string
	toldOptIns      map[toldOptIn]bool
	lingering       []lingering

	// out is held for as long as it takes to publish something that is ready, and never longer. It is taken after mu.
	out sync.Mutex

	serving    atomic.Pointer[Build]
	challenges atomic.Pointer[[]compile.Challenge]
	failure    atomic.Pointer[string] // why what is stored is not what is served
}

// New is a Controller that serves nothing yet.
func New(c Config) *Controller {
	return &Controller{
		Config: c, metrics: newMetrics(), discovery: newDiscovery(),
		compiler: compile.New(c.Features), translator: translate.New(c.Features),
		toldOptIns: map[toldOptIn]bool{},
	}
}

// Run publishes what is stored, and goes on to do so when another process changes the store, until ctx ends. A store
// that cannot be read at the start is an error; nothing has been published then.
func (c *Controller) Run(ctx context.Context) error {
	heads := c.Store.Watch(ctx)
	if err := c.sync(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-heads:
			if !open {
				return nil
			}
			if err := c.sync(ctx); err != nil && ctx.Err() == nil {
				c.Log.Error("the store could not be read; what was published stays", "error", err)
			}
		}
	}
}

// sync publishes the head of the store, unless it is what is served already.
func (c *Controller) sync(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	head, objects, err := c.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	if s := c.serving.Load(); s != nil && s.Revision.Number == head.Number && s.Revision.Digest == head.Digest {
		return nil
	}
	b, err := c.build(ctx, objects, startPatience)
	if err == nil && b.Proof.State == Refused {
		b, err = c.quarantine(ctx, objects, b)
	}
	switch {
	case err != nil:
		return c.keep(ctx, err)
	case b.Problems.Failed():
		c.Log.Error("what is stored does not compile; what was published stays", "revision", head.Number, "problems", b.Problems.Render())
		return c.keep(ctx, fmt.Errorf("revision %d does not compile: %d errors", head.Number, b.Problems.Errors()))
	}
	for _, problem := range b.missing {
		c.Log.Error("a certificate or secret cannot be read: what needs it fails until it can", "problem", problem.Message)
	}
	b.Revision = head
	c.publish(b)
	return nil
}

// keep remembers why the stored revision is not served. It is an error only for those who stop.
func (c *Controller) keep(ctx context.Context, err error) error {
	reason := err.Error()
	c.failure.Store(&reason)
	return ctx.Err()
}

// publish hands a build to the Envoys, and makes it what is served.
func (c *Controller) publish(b *Build) {
	c.out.Lock()
	defer c.out.Unlock()
	c.renewTables(b)
	for name, s := range b.Snapshots {
		c.Publisher.Publish(name, s)
	}
	for name := range c.published() {
		if b.Snapshots[name] == nil {
			c.Publisher.Withdraw(name)
		}
	}
	c.linger(c.serving.Load(), b)
	c.keepSecrets(b.Config)
	b.Published = time.Now()
	c.noteRegistrations(c.serving.Load(), b)
	c.serving.Store(b)
	c.failure.Store(nil)
	c.metrics.revision.Set(float64(b.Revision.Number))
}

// published are the snapshots that the Envoys are to have, by gateway.
func (c *Controller) published() map[string]*snapshot.Snapshot {
	if b := c.serving.Load(); b != nil {
		return b.Snapshots
	}
	return nil
}

// amend takes the short way for what changes beside the policies: no compile, no proof, only those resources of a
// gateway that are other ones. A gateway for which that fails stays as it is.
func (c *Controller) amend(change func(g *model.Gateway, was *snapshot.Snapshot) (*snapshot.Snapshot, error)) {
	c.out.Lock()
	defer c.out.Unlock()
	serving := c.serving.Load()
	if serving == nil {
		return
	}
	next := *serving
	next.Snapshots = maps.Clone(serving.Snapshots)
	for _, g := range serving.Config.Gateways {
		was := next.Snapshots[g.Name]
		s, err := change(g, was)
		if err != nil {
			c.Log.Error("a change could not be published; what was published stays", "gateway", g.Name, "error", err)
			continue
		}
		if s.Digest() == was.Digest() {
			continue
		}
		next.Snapshots[g.Name] = s
		c.Publisher.Publish(g.Name, s)
	}
	c.serving.Store(&next)
}

// Serving is what is published now; nil before the first time. Not to be changed.
func (c *Controller) Serving() *Build { return c.serving.Load() }

// Ready is nil when every input has been read and what is stored is what is served.
func (c *Controller) Ready() error {
	if f := c.failure.Load(); f != nil {
		return errors.New(*f)
	}
	if c.serving.Load() == nil {
		return errors.New("the store has not been read yet")
	}
	return nil
}

// Wait returns the state of every Envoy once each has acknowledged or refused what the build published, or when ctx
// ends.
func (c *Controller) Wait(ctx context.Context, b *Build) []xds.EnvoyStatus {
	var out []xds.EnvoyStatus
	for _, name := range slices.Sorted(maps.Keys(b.Snapshots)) {
		out = append(out, c.Publisher.Wait(ctx, name, b.Snapshots[name].Digest())...)
	}
	return out
}

// Problems lists what is wrong with a change: it was not applied.
type Problems struct {
	List    []policy.Problem
	Dropped int
}

// Error implements error.
func (p *Problems) Error() string { return policy.Render(p.List, p.Dropped) }
