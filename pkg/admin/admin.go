// Package admin is the HTTP API of a running sluice: policies in, status out, with metrics, health and a status page;
// and the client of it that the command line uses. It has no authentication yet, so it listens on loopback or a unix
// socket only, answers only to its own host names and refuses requests of foreign pages.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// DefaultAddress is where the API listens, and the client asks, when not told otherwise.
const DefaultAddress = "127.0.0.1:18080"

// Controller is what the API works on.
type Controller interface {
	Apply(ctx context.Context, r control.Request) (*control.Result, error)
	Plan(ctx context.Context, r control.Request) (*control.Result, error)
	Rollback(ctx context.Context, to uint64, r control.Request) (*control.Result, error)
	Wait(ctx context.Context, b *control.Build) []xds.EnvoyStatus
	Why(ctx context.Context, ref policy.Ref) (*control.Journey, error)
	Certificates() []secrets.Status
	Serving() *control.Build
	Ready() error
}

// Config is what a Server works with.
type Config struct {
	Controller Controller
	Store      store.Store
	// Envoys are the Envoys that are known.
	Envoys   func() []xds.EnvoyStatus
	Features feature.Set
	// Catalog is where services come from, nil where none is asked.
	Catalog Catalog
	// Metrics is what /metrics shows.
	Metrics prometheus.Gatherer
	Log     *slog.Logger
	// Hosts are names it answers to beside those of loopback.
	Hosts []string
	// ReadOnly, when set, is the reason why changes are refused.
	ReadOnly string
	// Version is the program's own.
	Version string
}

// Server is the API.
type Server struct {
	Config
	handler http.Handler
}

// New makes the API. It is an http.Handler.
func New(c Config) *Server {
	s := &Server{Config: c}
	mux := http.NewServeMux()
	for _, o := range operations() {
		mux.HandleFunc(o.method+" "+o.path, s.serve(o))
	}
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /openapi.json", s.openapi)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /style.css", s.style)
	s.handler = s.guarded(mux)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Time limits of one request. Changes may wait for Envoys as long as writing may take.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = time.Minute
	writeTimeout  = 10 * time.Minute
	idleTimeout   = 2 * time.Minute
	endTimeout    = 5 * time.Second
)

// Run serves on lis until ctx ends, lets requests under way end for a while, and returns nil. It closes lis.
func (s *Server) Run(ctx context.Context, lis net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(lis)
	if stop() {
		return fmt.Errorf("admin: serve %s: %w", lis.Addr(), err)
	}
	<-ended
	return nil
}

// serve runs one operation: its answer, or its error as a problem, in JSON.
func (s *Server) serve(o operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if o.changes && s.ReadOnly != "" {
			s.refuse(w, r, &refusal{http.StatusForbidden, CodeReadOnly, s.ReadOnly})
			return
		}
		answer, err := o.handle(s, r)
		switch stream, streams := answer.(stream); {
		case err != nil:
			s.refuse(w, r, err)
		case streams:
			w.Header().Set("content-type", "application/jsonl")
			if err := stream(w); err != nil {
				s.Log.Error("an answer was cut short", "path", r.URL.Path, "error", err)
				panic(http.ErrAbortHandler) // so that the client sees it too
			}
		default:
			writeJSON(w, http.StatusOK, "application/json", answer)
		}
	}
}

// stream is an answer that writes itself.
type stream func(w io.Writer) error

var errStarting = errors.New("nothing is published yet")
