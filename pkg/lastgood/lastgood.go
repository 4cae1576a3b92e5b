// Package lastgood keeps what a gateway's Envoys are to have beside one of them: it takes in all that the control plane
// has for the gateway, keeps the last whole set on disk, and serves it over xDS while the control plane is away.
package lastgood

import (
	"log/slog"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// Config is what a Copy works with. All but File is required.
type Config struct {
	// Gateway is whose configuration is kept.
	Gateway string
	// File keeps the copy over restarts; "" keeps none.
	File string
	// Server is where Envoys get it.
	Server *xds.Server
	// Log takes what happens to the copy, and when Envoys are served without the control plane.
	Log *slog.Logger
}

// Copy is a gateway's configuration, as the control plane last had it in whole. It is safe for concurrent use.
type Copy struct {
	Config
	changed chan struct{} // there is something to write

	mu        sync.Mutex
	held      *snapshot.Snapshot // what was taken in; it may be half of a change
	good      *snapshot.Snapshot // the last whole set, nil for none
	following string             // the server that has the good one too, "" while none answers
	asOf      time.Time          // when the good one was last known to be the control plane's
	lost      time.Time          // since when none answers, as far as this process knows
	away      bool               // that has been said
	written   *snapshot.Snapshot
	turn      time.Time     // when Envoys are next turned away
	pause     time.Duration // until the time after that
}

// New is a Copy that holds nothing yet.
func New(c Config) *Copy {
	return &Copy{Config: c, changed: make(chan struct{}, 1), lost: time.Now()}
}

// Types are the type URLs that a Copy follows.
func (c *Copy) Types() []string { return xds.EnvoyTypes() }

// Held is what has been taken in of a type, name → version. Not to be changed.
func (c *Copy) Held(typeURL string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held.GetVersionMap(typeURL)
}

// Take takes a server's response in. What the server has is published and kept when nothing of it is missing, and so
// never in the middle of a change.
func (c *Copy) Take(server string, resp *discoveryv3.DeltaDiscoveryResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(resp.GetResources())+len(resp.GetRemovedResources()) > 0 {
		url := resp.GetTypeUrl()
		c.held = c.held.With(url, c.held.Table(url).Change(bodies(resp), resp.GetRemovedResources()))
	}
	if c.held == nil || c.held.Digest() != resp.GetSystemVersionInfo() {
		return
	}
	c.good, c.asOf = c.held, time.Now()
	c.Server.Publish(c.Gateway, c.good)
	c.follow(server)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func bodies(resp *discoveryv3.DeltaDiscoveryResponse) map[string][]byte {
	out := make(map[string][]byte, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		out[r.GetName()] = r.GetResource().GetValue()
	}
	return out
}

// follow notes that a server has what is good.
func (c *Copy) follow(server string) {
	if c.following == server {
		return
	}
	c.Log.Info("the last good configuration is the control plane's", "gateway", c.Gateway, "server", server, "version", c.good.Digest())
	c.following, c.away = server, false
	c.turn, c.pause = time.Now().Add(firstPause), firstPause
}

// Lost notes that no server answers: Envoys are served what was good last.
func (c *Copy) Lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.following != "" {
		now := time.Now()
		c.following, c.asOf, c.lost, c.turn = "", now, now, now.Add(mostPause)
		c.stamp()
	}
	if c.away {
		return
	}
	c.away = true
	if c.good == nil {
		c.Log.Warn("the control plane is away, and there is no last good configuration: an Envoy that starts now is not ready before it is back", "gateway", c.Gateway)
		return
	}
	c.Log.Warn("the control plane is away: Envoys that ask get the last good configuration", "gateway", c.Gateway, "asOf", c.asOf, "version", c.good.Digest())
}

// Metadata is what the control plane is told on connecting: that Envoys were served without it. Nil for nothing.
func (c *Copy) Metadata() *structpb.Struct {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.following != "" || c.good == nil {
		return nil
	}
	o := xds.Outage{Since: c.lost, Until: time.Now()}
	for _, e := range c.Server.Envoys() {
		if e.Connected || e.Since.After(c.lost) {
			o.Envoys = append(o.Envoys, e.Node)
		}
	}
	if len(o.Envoys) == 0 {
		return nil
	}
	return o.Metadata()
}
