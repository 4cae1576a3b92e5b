package agent

import (
	"context"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// ReportEvery is how often it is told which API keys were used.
const ReportEvery = time.Minute

// Used notes that an API key was shown, by its id, until TakeUses.
func (h *Holder) Used(id string, at time.Time) {
	h.usesMu.Lock()
	defer h.usesMu.Unlock()
	if at.After(h.uses[id]) {
		h.uses[id] = at
	}
}

// TakeUses gives when each key was used last since the time before, and forgets it.
func (h *Holder) TakeUses() map[string]time.Time {
	h.usesMu.Lock()
	defer h.usesMu.Unlock()
	out := h.uses
	h.uses = map[string]time.Time{}
	return out
}

// report tells the control plane of uses, until ctx ends: as resources of which agents are the source, their versions
// being the times, in seconds since 1970. What could not be sent is told to the next one.
func (c *Client) report(ctx context.Context, send func(*discoveryv3.DeltaDiscoveryRequest) error) {
	every := c.ReportEvery
	if every <= 0 {
		every = ReportEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		uses := c.Holder.TakeUses()
		if len(uses) == 0 {
			continue
		}
		said := map[string]string{}
		for id, at := range uses {
			said[id] = strconv.FormatInt(at.Unix(), 10)
		}
		if err := send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: feature.UseType, InitialResourceVersions: said}); err != nil {
			for id, at := range uses {
				c.Holder.Used(id, at)
			}
			return
		}
	}
}
