package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// Keys keeps the data that agents need beside their policies, such as the keys of issuers.
type Keys interface {
	// Want makes what is kept exactly this.
	Want(wanted []model.Data)
	// Await returns when each has been tried once, or when ctx ends.
	Await(ctx context.Context)
	// Get is the last good data of a name.
	Get(name string) ([]byte, bool)
	// Changed tells that some data is another than before.
	Changed() <-chan struct{}
}

// keysPatience is how long a change waits for the first answer of an issuer that it is the first to name.
const keysPatience = 4 * time.Second

// FollowKeys publishes data for agents as it changes, until ctx ends: no route and no policy changes with it.
func (c *Controller) FollowKeys(ctx context.Context) error {
	if c.Keys == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Keys.Changed():
			c.publishKeys()
		}
	}
}

// wantKeys asks for what a build needs, and waits a while for what is new.
func (c *Controller) wantKeys(ctx context.Context, b *Build) {
	if c.Keys == nil {
		return
	}
	c.Keys.Want(dataOf(b.Config.Gateways...))
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	c.Keys.Await(ctx)
}

// dataOf is what gateways need that is fetched, each once, by name.
func dataOf(gateways ...*model.Gateway) []model.Data {
	return collect(gateways, func(r *model.Route) []model.Data { return append(agentData(r), r.Native...) })
}

// agentData is what agents need for a route.
func agentData(r *model.Route) []model.Data {
	if r.Runtime == nil {
		return nil
	}
	return slices.Clip(r.Runtime.Data)
}

func collect(gateways []*model.Gateway, of func(*model.Route) []model.Data) []model.Data {
	seen := map[model.Data]bool{}
	for _, g := range gateways {
		for _, v := range g.Hosts {
			for _, r := range v.Routes {
				for _, d := range of(r) {
					if d.Table == "" {
						seen[d] = true
					}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b model.Data) int { return cmp.Compare(a.Name, b.Name) })
}

// addKeys adds the data of a gateway's agents to its resources. What is not there is left as it was published, if it was.
func (c *Controller) addKeys(out feature.Resources, g *model.Gateway, published *snapshot.Snapshot) error {
	if c.Keys == nil {
		return nil
	}
	for _, d := range collect([]*model.Gateway{g}, agentData) {
		ready := published.Table(feature.DataType).Body(d.Name)
		if body, ok := c.Keys.Get(d.Name); ok {
			var err error
			if ready, err = feature.Wrap(body); err != nil {
				return err
			}
		}
		if ready != nil {
			out.AddReady(feature.DataType, d.Name, ready)
		}
	}
	return nil
}

// publishKeys publishes the keys of the moment.
func (c *Controller) publishKeys() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.amend(func(g *model.Gateway, was *snapshot.Snapshot) (*snapshot.Snapshot, error) {
		return c.withKeys(was, g, c.serving.Load())
	})
}

// withKeys is a snapshot with the keys of the moment, for agents and for Envoy.
func (c *Controller) withKeys(was *snapshot.Snapshot, g *model.Gateway, b *Build) (*snapshot.Snapshot, error) {
	out := feature.Resources{}
	if err := c.addKeys(out, g, was); err != nil {
		return nil, err
	}
	if err := c.addNative(out, g.Name, b); err != nil {
		return nil, err
	}
	data := snapshot.Overlay(was.Table(feature.DataType), snapshot.NewTable(out[feature.DataType]))
	filters := snapshot.Renew(was.Table(resource.ExtensionConfigType), out[resource.ExtensionConfigType])
	return was.With(feature.DataType, data).With(resource.ExtensionConfigType, filters), nil
}
