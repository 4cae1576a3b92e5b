package xds

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the server counts. None has a label that a node can choose.
type metrics struct {
	server      *Server
	connected   *prometheus.Desc
	nacks       *prometheus.CounterVec
	sent        *prometheus.CounterVec
	denied      prometheus.Counter
	propagation prometheus.Histogram
}

func newMetrics(s *Server) *metrics {
	return &metrics{
		server: s,
		connected: prometheus.NewDesc("sluice_xds_connected",
			"Envoys and agents connected, by gateway; those of no known gateway as \"unknown\".", []string{"gateway"}, nil),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_xds_nack_total", Help: "Responses refused by Envoys, by resource type.",
		}, []string{"type"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_xds_resources_sent_total", Help: "Resources sent to Envoys, by resource type.",
		}, []string{"type"}),
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_xds_denied_total", Help: "Connections, streams and requests refused because of who asked.",
		}),
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sluice_push_propagation_seconds",
			Help:    "From a publish to the last answer of one connected Envoy.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
		}),
	}
}

// Metrics are the server's metrics, to be registered once.
func (s *Server) Metrics() prometheus.Collector { return s.metrics }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.connected
	m.nacks.Describe(out)
	m.sent.Describe(out)
	m.denied.Describe(out)
	m.propagation.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for gateway, n := range m.server.connected() {
		out <- prometheus.MustNewConstMetric(m.connected, prometheus.GaugeValue, float64(n), gateway)
	}
	m.nacks.Collect(out)
	m.sent.Collect(out)
	m.denied.Collect(out)
	m.propagation.Collect(out)
}

// connected counts the streams of each known gateway, and of all others together.
func (s *Server) connected() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int{}
	for name, g := range s.gateways {
		if g.target.Load() == nil {
			name = "unknown"
		}
		counts[name] += len(g.streams)
	}
	return counts
}
