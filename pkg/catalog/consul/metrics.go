package consul

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
)

// counts are what only grows.
type counts struct {
	updates atomic.Int64

	mu      sync.Mutex
	errors  map[string]int64
	reports map[shield.ReportKind]int64
}

// failed counts an error by what an operator would do about it.
func (c *counts) failed(err error) {
	var status api.StatusError
	kind := "unreachable"
	switch {
	case isDenied(err):
		kind = "denied"
	case errors.Is(err, errNoLeader), errors.As(err, new(errBehind)):
		kind = "no_leader"
	case errors.As(err, &status):
		kind = "refused"
	case errors.Is(err, context.DeadlineExceeded):
		kind = "timeout"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = map[string]int64{}
	}
	c.errors[kind]++
}

func (c *counts) reported(r shield.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reports == nil {
		c.reports = map[shield.ReportKind]int64{}
	}
	c.reports[r.Kind]++
}

var (
	stalenessDesc = prometheus.NewDesc("sluice_consul_staleness_seconds", "How long ago the stalest service was last known to be right.", nil, nil)
	staleDesc     = prometheus.NewDesc("sluice_consul_stale_services", "Services that Consul cannot be asked about.", nil, nil)
	watchesDesc   = prometheus.NewDesc("sluice_consul_watches", "Services watched, by how.", []string{"mode"}, nil)
	heldDesc      = prometheus.NewDesc("sluice_consul_held_instances", "Instances served although Consul does not have them any more.", nil, nil)
	flappingDesc  = prometheus.NewDesc("sluice_consul_flapping_instances", "Instances that change too often and are pinned.", nil, nil)
	frozenDesc    = prometheus.NewDesc("sluice_consul_frozen", "1 while removals are frozen.", nil, nil)
	refusedDesc   = prometheus.NewDesc("sluice_consul_refused_opt_ins", "Instances whose opt-in was refused.", nil, nil)
	errorsDesc    = prometheus.NewDesc("sluice_consul_errors_total", "Queries that failed, by kind.", []string{"kind"}, nil)
	updatesDesc   = prometheus.NewDesc("sluice_consul_updates_total", "Services sent on because they changed.", nil, nil)
	reportsDesc   = prometheus.NewDesc("sluice_consul_shield_reports_total", "What the shield did, by kind.", []string{"kind"}, nil)
)

var _ prometheus.Collector = (*Source)(nil)

// Describe implements prometheus.Collector.
func (s *Source) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stalenessDesc, staleDesc, watchesDesc, heldDesc, flappingDesc, frozenDesc, refusedDesc, errorsDesc, updatesDesc, reportsDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Source) Collect(out chan<- prometheus.Metric) {
	var staleness time.Duration
	var stale, polled, held, flapping, refused int
	status := s.Status()
	for _, v := range status {
		staleness = max(staleness, v.Staleness)
		held += v.Held
		flapping += len(v.Flapping)
		if v.Error != "" {
			stale++
		}
		if v.Polled {
			polled++
		}
		if v.OptIn != nil {
			for _, p := range v.OptIn.Problems {
				refused += p.Count
			}
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(stalenessDesc, staleness.Seconds())
	gauge(staleDesc, float64(stale))
	gauge(watchesDesc, float64(len(status)-polled), "blocking")
	gauge(watchesDesc, float64(polled), "polled")
	gauge(heldDesc, float64(held))
	gauge(flappingDesc, float64(flapping))
	gauge(refusedDesc, float64(refused))
	gauge(frozenDesc, s.frozen())
	s.counts.collect(out)
}

func (s *Source) frozen() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, _ := s.state.shield.Frozen(); until.IsZero() {
		return 0
	}
	return 1
}

func (c *counts) collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	counter(updatesDesc, c.updates.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, n := range c.errors {
		counter(errorsDesc, n, kind)
	}
	for kind, n := range c.reports {
		counter(reportsDesc, n, string(kind))
	}
}
