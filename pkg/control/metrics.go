package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	revision prometheus.Gauge
	seconds  *prometheus.HistogramVec
	applies  *prometheus.CounterVec

	registrations *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		revision: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_revision", Help: "The revision that is published."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_build_seconds", Help: "How long each step of a build took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"step"}),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_applies_total", Help: "Changes asked for, by how they ended."}, []string{"result"}),
		registrations: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_registrations", Help: "Services that opt in by their registration, by what became of it.",
		}, []string{"state"}),
	}
}

func (m *metrics) step(name string, took time.Duration) {
	m.seconds.WithLabelValues(name).Observe(took.Seconds())
}

// Collectors are the controller's metrics, each to be registered once.
func (c *Controller) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.metrics.revision, c.metrics.seconds, c.metrics.applies, c.metrics.registrations}
}
