package lastgood

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is how a Copy stands.
type Status struct {
	Gateway string `json:"gateway"`
	// Server is the control plane that has the same, "" while none answers.
	Server string `json:"server,omitempty"`
	// Version is the digest of the configuration, "" while there is none.
	Version string `json:"version,omitempty"`
	// Stale says that no control plane answers. The configuration is as of AsOf.
	Stale bool      `json:"stale"`
	AsOf  time.Time `json:"asOf,omitzero"`
	// Envoys are the node ids of those that are served from here now.
	Envoys []string `json:"envoys"`
}

// Status is how it stands.
func (c *Copy) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Status{Gateway: c.Gateway, Server: c.following, Version: c.good.Digest(), Stale: c.following == "", AsOf: c.asOf, Envoys: []string{}}
	if !out.Stale {
		out.AsOf = time.Now()
	}
	for _, e := range c.Server.Envoys() {
		if e.Connected {
			out.Envoys = append(out.Envoys, e.Node)
		}
	}
	return out
}

// ServeHTTP answers with the status as JSON.
func (c *Copy) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(c.Status()) // fails only when the caller is gone
}

// Metrics are a Copy's metrics, to be registered once: those of its server among them.
func (c *Copy) Metrics() []prometheus.Collector {
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(c.Status()) })
	}
	return []prometheus.Collector{
		c.Server.Metrics(),
		gauge("sluice_agent_stale", "1 while no control plane answers and Envoys are served the last good configuration.", func(s Status) float64 {
			if s.Stale {
				return 1
			}
			return 0
		}),
		gauge("sluice_agent_config_age_seconds", "Since when the last good configuration is not known to be the control plane's; 0 while it is.", func(s Status) float64 {
			if !s.Stale || s.AsOf.IsZero() {
				return 0
			}
			return time.Since(s.AsOf).Seconds()
		}),
	}
}
