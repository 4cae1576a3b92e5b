package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/lastgood"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// defaultAgentMetrics is where an agent shows its metrics.
const defaultAgentMetrics = "127.0.0.1:18002"

// none is written where there is to be no address.
const none = "none"

// newLastGood is the last good configuration of the agent's Envoy, as far as there is one on disk.
func newLastGood(o agentOptions, log *slog.Logger) *lastgood.Copy {
	last := lastgood.New(lastgood.Config{
		Gateway: o.gateway, File: strings.TrimSuffix(o.file, ".copy") + ".xds", Server: xds.New(xds.Config{Log: log}), Log: log,
	})
	if err := last.Load(); err != nil {
		log.Error("the last good configuration is not taken: an Envoy that starts without the control plane gets none", "error", err)
	}
	return last
}

// agentDoors are what an agent listens on; xds is nil where it does not.
type agentDoors struct{ agent, metrics, xds net.Listener }

// open listens on all doors, or on none.
func (o agentOptions) open(ctx context.Context) (d agentDoors, err error) {
	var opened []net.Listener
	listen := func(flag, address string) net.Listener {
		if err != nil {
			return nil
		}
		var lis net.Listener
		if lis, err = admin.Listen(ctx, flag, address); err == nil {
			opened = append(opened, lis)
		}
		return lis
	}
	d.agent, d.metrics = listen("--listen-agent", o.listen), listen("--listen-metrics", o.metrics)
	if o.xds != none {
		d.xds = listen("--listen-agent-xds", o.xds)
	}
	if err != nil {
		for _, lis := range opened {
			err = errors.Join(err, lis.Close())
		}
	}
	return d, err
}

// show is what an agent shows of itself over HTTP.
type show struct {
	registry *prometheus.Registry
	mux      *http.ServeMux
}

func newShow(own prometheus.Collector) *show {
	s := &show{registry: prometheus.NewRegistry(), mux: http.NewServeMux()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), own)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return s
}

func (s *show) add(pattern string, page http.Handler, metrics ...prometheus.Collector) {
	s.mux.Handle(pattern, page)
	s.registry.MustRegister(metrics...)
}

// run shows it until ctx ends.
func (s *show) run(ctx context.Context, lis net.Listener) error {
	server := &http.Server{Handler: s.mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(lis); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
