package lastgood

import (
	"context"
	"time"
)

const (
	// patience is how long a control plane may say nothing at the start before the copy on disk is served: one that is
	// there has newer.
	patience = 2 * time.Second
	// The pauses between turning Envoys away grow from the first to the most: one that cannot reach the control plane
	// itself comes back each time.
	firstPause, mostPause = 500 * time.Millisecond, 30 * time.Second
	tick                  = 250 * time.Millisecond
	// between is how long the copy on disk lies at least before it is written again.
	between = time.Second
)

// Run writes what is good to disk, and turns Envoys away to the control plane while that answers, until ctx ends.
func (c *Copy) Run(ctx context.Context) error {
	begin := time.AfterFunc(patience, c.begin)
	defer begin.Stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var saved time.Time
	for {
		select {
		case <-ctx.Done():
			c.save()
			return nil
		case <-c.changed:
		case now := <-ticker.C:
			c.turnAway(now)
		}
		if time.Since(saved) >= between && c.save() {
			saved = time.Now()
		}
	}
}

// begin gives up waiting for a control plane that has said nothing yet.
func (c *Copy) begin() {
	if c.Status().Server == "" {
		c.Lost()
	}
}

// turnAway ends the streams of Envoys that came while the control plane was away, or that cannot reach it.
func (c *Copy) turnAway(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.following == "" || now.Before(c.turn) {
		return
	}
	c.pause = min(2*c.pause, mostPause)
	c.turn = now.Add(c.pause)
	if n := c.Server.TurnAway(); n > 0 {
		c.Log.Info("the control plane is there: Envoys are sent back to it", "gateway", c.Gateway, "envoys", n)
	}
}
