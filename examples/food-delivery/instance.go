package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// How long requests in flight may take when an instance stops.
const stopGrace = 2 * time.Second

// instance is one listening copy of a service.
type instance struct {
	name    string
	address string // host:port
	server  *http.Server
	stop    func() error // ends the listener and waits for requests in flight; may be called again
}

// startInstance listens on the port of the loopback interface, 0 for a free one, and serves handler there.
func startInstance(ctx context.Context, name string, port int, handler http.Handler) (*instance, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w (is the example running already? -base moves all ports)", name, err)
	}
	i := &instance{name: name, address: l.Addr().String()}
	i.stop = sync.OnceValue(i.shutdown)
	i.server = &http.Server{
		Handler:           i.wrap(handler),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       5 * time.Minute,
	}
	go func() { _ = i.server.Serve(l) }() // always ends with ErrServerClosed, by shutdown
	return i, nil
}

func (i *instance) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	err := i.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return i.server.Close()
	}
	return err
}

// wrap puts around a service what every instance has: its name, health, and faults on demand.
func (i *instance) wrap(service http.Handler) http.Handler {
	f := new(faults)
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", healthy)
	open.Handle("/", service)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /debug/fail", f.setFail)
	mux.HandleFunc("POST /debug/slow", f.setSlow)
	mux.HandleFunc("POST /debug/stop", i.stopNow)
	mux.Handle("/", f.suffer(open))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-instance", i.name)
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		mux.ServeHTTP(w, r)
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "up"})
}

// stopNow ends this instance for good, as if its process had ended.
func (i *instance) stopNow(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("connection", "close")
	reply(w, http.StatusAccepted, map[string]string{"status": "stopping"})
	go func() { _ = i.stop() }()
}
