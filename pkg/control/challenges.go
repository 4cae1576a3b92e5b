package control

import (
	"context"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// further is what routes are made of beside what is stored.
func (c *Controller) further() compile.Further {
	out := compile.Further{Registrations: c.discovery.registrations()}
	if all := c.challenges.Load(); all != nil {
		out.Challenges = *all
	}
	return out
}

// Answer makes the gateways answer these challenges of certificate authorities and no others. It returns when every
// Envoy does, of which there must be one, or ctx ends.
func (c *Controller) Answer(ctx context.Context, all []compile.Challenge) {
	c.challenges.Store(&all)
	c.mu.Lock()
	if c.serving.Load() == nil { // the first build has them
		c.mu.Unlock()
		return
	}
	c.register(ctx)
	b := c.serving.Load()
	c.mu.Unlock()
	for len(all) > 0 && !answering(xds.OnlyEnvoys(c.Wait(ctx, b)), time.Now()) {
		select {
		case <-time.After(envoyPause):
		case <-ctx.Done():
			return
		}
	}
}

// answering tells whether an authority that asks now finds an Envoy, and none that has come so lately that it may not
// listen yet.
func answering(envoys []xds.EnvoyStatus, now time.Time) bool {
	return len(envoys) > 0 && !slices.ContainsFunc(envoys, func(e xds.EnvoyStatus) bool { return now.Sub(e.Since) < settling })
}

// settling is how long an Envoy may take from its first resources to its first connection.
const settling = 2 * time.Second

// envoyPause is how often it is looked whether an Envoy has come.
const envoyPause = 100 * time.Millisecond
