// Package admin is the HTTP API of a running sluice: policies in, status out, with metrics, health and a status page;
// and the client of it that the command line uses. It asks package access who calls, holds that against the role that each
// operation needs, and writes changes and denials to the audit log. Without a certificate of its own it listens on loopback
// or a unix socket only; it answers only to its own host names and refuses requests of foreign pages.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
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
	// Vault keeps the store's secrets. Required.
	Vault Vault
	// Envoys are the Envoys that are known.
	Envoys   func() []xds.EnvoyStatus
	Features feature.Set
	// Catalog is where services come from, nil where none is asked.
	Catalog Catalog
	// Keeper keeps API keys and revocations; nil where there are none.
	Keeper *credentials.Keeper
	// Metrics is what /metrics shows.
	Metrics prometheus.Gatherer
	Log     *slog.Logger
	// Hosts are names it answers to beside those of loopback and of its certificate.
	Hosts []string
	// Access says who calls; nil trusts loopback and unix sockets, and nobody else.
	Access *access.Door
	// Credentials are what it proves itself with, and knows clients' certificates by; nil for no TLS.
	Credentials *certs.Credentials
	// Audit is written before each change and after it, and when somebody is denied something; nil for none.
	Audit *auditlog.Log
	// OpenMetrics lets everybody read /metrics.
	OpenMetrics bool
	// ReadOnly, when set, is the reason why changes are refused.
	ReadOnly string
	// Version is the program's own.
	Version string
}

// Server is the API.
type Server struct {
	Config
	handler http.Handler
	names   map[string]string      // of what is served, by the pattern of its requests
	needs   map[string]access.Role // of who asks, by that pattern
	denied  *prometheus.CounterVec
}

// route is something that is served, and who may have it.
type route struct {
	pattern, name string
	needs         access.Role
	handler       http.Handler
}

// New makes the API. It is an http.Handler.
func New(c Config) *Server {
	if c.Access == nil {
		c.Access = access.New(access.Config{})
	}
	s := &Server{Config: c, names: map[string]string{}, needs: map[string]access.Role{}, denied: newDenied()}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.pattern, r.handler)
		s.names[r.pattern], s.needs[r.pattern] = r.name, r.needs
	}
	s.handler = s.guarded(mux)
	return s
}

// routes are all that is served.
func (s *Server) routes() []route {
	metrics := access.Read
	if s.OpenMetrics {
		metrics = access.Open
	}
	out := []route{
		{"GET /livez", "livez", access.Open, http.HandlerFunc(s.livez)},
		{readyPattern, "readyz", access.Open, http.HandlerFunc(s.readyz)},
		{"GET /openapi.json", "openapi", access.Read, http.HandlerFunc(s.openapi)},
		{"GET /metrics", "metrics", metrics, promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{})},
		{"GET /{$}", "page", access.Read, http.HandlerFunc(s.page)},
		{"GET /style.css", "style", access.Read, http.HandlerFunc(s.style)},
	}
	for _, o := range operations() {
		out = append(out, route{o.method + " " + o.path, o.id, o.needs, s.serve(o)})
	}
	return out
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
		MaxHeaderBytes: 32 << 10, ErrorLog: s.errorLog(),
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: access.WithPeer,
	}
	serve := server.Serve
	if s.Credentials != nil {
		var err error
		if server.TLSConfig, err = s.tls(); err != nil {
			return errors.Join(fmt.Errorf("admin: %w", err), lis.Close())
		}
		serve = func(lis net.Listener) error { return server.ServeTLS(lis, "", "") }
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
	err := serve(lis)
	if stop() {
		return fmt.Errorf("admin: serve %s: %w", lis.Addr(), err)
	}
	<-ended
	return nil
}

// tls asks clients for a certificate where certificates let somebody in. Who has none comes as far as being told.
func (s *Server) tls() (*tls.Config, error) {
	if s.Access.Certificates == nil {
		return s.Credentials.ServerConfig(tls.NoClientCert)
	}
	return s.Credentials.ServerConfig(tls.VerifyClientCertIfGiven)
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
