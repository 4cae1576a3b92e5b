package lastgood

import (
	"context"
	"time"
)

const (
	// patience is how long a control plane may say nothing at the start before it counts as away.
	patience = 2 * time.Second
	// The pauses between turning Envoys away grow from the first to the most while the control plane answers: one that
	// cannot reach it itself comes back each time. While it does not, they are the most: an Envoy may reach one that the
	// agent does not.
	firstPause, mostPause = 500 * time.Millisecond, 30 * time.Second
	// emptyPause is that while there is nothing to serve, and so nothing to stay for.
	emptyPause = time.Second
	tick       = 250 * time.Millisecond
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

// turnAway ends the streams of Envoys, which connect again to the server that they prefer.
func (c *Copy) turnAway(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.turn) {
		return
	}
	switch {
	case c.good == nil:
		c.pause = emptyPause
	case c.following == "":
		c.pause = mostPause
	default:
		c.pause = min(2*c.pause, mostPause)
	}
	c.turn = now.Add(c.pause)
	if n := c.Server.TurnAway(); n > 0 && c.following != "" {
		c.Log.Info("the control plane is there: Envoys are sent back to it", "gateway", c.Gateway, "envoys", n)
	}
}
