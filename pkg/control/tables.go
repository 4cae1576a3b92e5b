package control

import (
	"context"
	"fmt"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// Tables keeps tables that are too large to be sent whole at each change, such as API keys: they come in parts, each
// ready to be sent.
type Tables interface {
	// Await returns when all tables have been read, or the error of ctx.
	Await(ctx context.Context) error
	// Parts are all parts of a table, in order; nil as long as it has not been read. They are not to be changed.
	Parts(table model.Table) [][]byte
	// Changed tells that some part is another than before.
	Changed() <-chan struct{}
}

// FollowTables publishes tables as they change, until ctx ends. It waits for no change of policies that is under way:
// what is revoked is to be refused at once.
func (c *Controller) FollowTables(ctx context.Context) error {
	if c.Tables == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Tables.Changed():
			c.publishTables()
		}
	}
}

// publishTables publishes the tables of the moment.
func (c *Controller) publishTables() {
	c.amend(func(g *model.Gateway, was *snapshot.Snapshot) (*snapshot.Snapshot, error) {
		return c.withTables(was, g), nil
	})
}

// tablesOf are the tables that a gateway's agents need, by the name under which they ask for them.
func tablesOf(g *model.Gateway) map[string]model.Table {
	out := map[string]model.Table{}
	for _, v := range g.Hosts {
		for _, r := range v.Routes {
			if r.Runtime == nil {
				continue
			}
			for _, d := range r.Runtime.Data {
				if d.Table != "" {
					out[d.Name] = d.Table
				}
			}
		}
	}
	return out
}

// awaitTables waits until what a build needs has been read: a table that an agent has is not to be taken away for a
// moment because the control plane starts anew.
func (c *Controller) awaitTables(ctx context.Context, b *Build) error {
	if c.Tables == nil {
		return nil
	}
	for _, g := range b.Config.Gateways {
		if len(tablesOf(g)) == 0 {
			continue
		}
		if err := c.Tables.Await(ctx); err != nil {
			return fmt.Errorf("the tables of keys and revocations could not be read: %w", err)
		}
	}
	return nil
}

// addTables adds the parts of a gateway's tables to its resources.
func (c *Controller) addTables(out feature.Resources, g *model.Gateway) {
	if c.Tables == nil {
		return
	}
	for name, table := range tablesOf(g) {
		for i, part := range c.Tables.Parts(table) {
			out.AddReady(feature.DataType, feature.PartName(name, i), part)
		}
	}
}

// withTables is a snapshot with the tables of the moment.
func (c *Controller) withTables(was *snapshot.Snapshot, g *model.Gateway) *snapshot.Snapshot {
	out := feature.Resources{}
	c.addTables(out, g)
	parts := out[feature.DataType]
	if len(parts) == 0 {
		return was
	}
	had := was.Table(feature.DataType)
	for _, name := range had.Names() {
		if _, ok := parts[name]; !ok {
			parts[name] = had.Body(name)
		}
	}
	has := snapshot.Renew(had, parts)
	if has == had {
		return was
	}
	return was.With(feature.DataType, has)
}

// renewTables makes the tables of a build those of the moment: it may have taken long.
func (c *Controller) renewTables(b *Build) {
	if c.Tables == nil {
		return
	}
	for _, g := range b.Config.Gateways {
		b.Snapshots[g.Name] = c.withTables(b.Snapshots[g.Name], g)
	}
}
