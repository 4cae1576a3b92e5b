// Package gateway runs the whole line in one process beside a real Envoy, for tests: policies in, requests through
// Envoy out, all on free loopback ports.
package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/acme"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// Patience is how long an expected event is waited for: far longer than it ever takes.
const Patience = 30 * time.Second

// Gateway is a control plane and one Envoy.
type Gateway struct {
	// URL is where the listener $PORT answers, Port its port.
	URL  string
	Port int
	// Controller, Callers and XDS are the parts, to be looked into.
	Controller *control.Controller
	Callers    *credentials.Keeper
	XDS        *xds.Server
	Envoy      *envoy.Process
	// Log is all that Envoy has written: its access log, one JSON line a request, among it.
	Log *Buffer

	// XDSAddress is where the management server listens.
	XDSAddress string
	// StopXDS ends the management server.
	StopXDS func()

	t     testing.TB
	admin string
	agent *Agent
}

// Option changes what Start makes of a control plane.
type Option func(*options)

type options struct {
	catalog catalog.Source
	log     *slog.Logger
	agent   *Agent
	door    *Door
	secrets map[string][]byte
	obtains bool
}

// Obtaining lets certificates be obtained from authorities.
func Obtaining() Option { return func(o *options) { o.obtains = true } }

// FromCatalog lets services and registrations come from a source, which runs until the test ends.
func FromCatalog(s catalog.Source) Option { return func(o *options) { o.catalog = s } }

// StoreSecrets are secrets that are in the store from the start.
func StoreSecrets(s map[string][]byte) Option { return func(o *options) { o.secrets = s } }

// LogTo is where the control plane logs.
func LogTo(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// Start applies the policies, starts Envoy and waits until it serves them. `$PORT` in the files becomes a free port;
// a Gateway `edge` that listens there is added where the files have none.
func Start(t testing.TB, files map[string]string, with ...Option) *Gateway {
	t.Helper()
	binary := featuretest.Envoy(t)
	g := &Gateway{t: t, Port: FreePort(t), Log: &Buffer{}}
	g.URL = "http://127.0.0.1:" + strconv.Itoa(g.Port)
	door := optionsOf(with).door
	config := door.server()
	config.Reports = map[string]func(map[string]string){feature.UseType: func(said map[string]string) { g.Callers.Reported(said) }}
	g.XDS = xds.New(config)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.XDSAddress = lis.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.XDS.Run(ctx, lis) }()
	g.StopXDS = func() { cancel(); <-served; served <- nil }
	t.Cleanup(g.StopXDS)
	if g.agent = optionsOf(with).agent; g.agent != nil {
		g.agent.prepare(t)
		g.agent.xds, g.agent.door = lis.Addr().String(), door
	}
	g.Controller, g.Callers, _ = controller(t, g.XDS, &proof.Prover{Binary: binary, Dir: t.TempDir()}, with)
	if err := g.Apply(files); err != nil {
		t.Fatal(err)
	}
	if g.agent != nil {
		g.agent.Start()
	}
	g.startEnvoy(binary, lis.Addr().String(), door)
	return g
}

func optionsOf(with []Option) options {
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, set := range with {
		set(&o)
	}
	return o
}

// controller is a control plane, which also follows its catalog until stop, or the test ends.
func controller(t testing.TB, publisher control.Publisher, prover control.Prover, with []Option) (c *control.Controller, callers *credentials.Keeper, stop func()) {
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, set := range with {
		set(&o)
	}
	kept := store.NewMemory(store.Options{})
	safe := secretsIn(t, kept, o.secrets)
	callers = credentials.New(credentials.Config{Records: kept, Log: o.log, Every: 200 * time.Millisecond})
	certificates := secrets.Config{Getenv: os.Getenv, Store: safe, Log: o.log}
	if o.obtains {
		certificates.Obtained = obtaining(t, kept, safe, o.log, func(ctx context.Context, all []compile.Challenge) { c.Answer(ctx, all) })
	}
	c = control.New(control.Config{
		Features: all.Features(), Store: kept, StoreSecrets: safe, Tables: callers, Publisher: publisher, Prover: prover, Log: o.log,
		Loopback: true, Catalog: o.catalog != nil, Secrets: secrets.New(certificates),
	})
	until(t, c.FollowSecrets)
	until(t, callers.Run)
	until(t, c.FollowTables)
	if o.agent != nil {
		followKeys(t, c, safe, o.log)
	}
	if o.catalog == nil {
		return c, callers, func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Discover(ctx, o.catalog) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return c, callers, stop
}

func secretsIn(t testing.TB, kept store.Store, secrets map[string][]byte) *vault.Vault {
	t.Helper()
	key, err := vault.ParseKey([]byte(vault.NewKeyText()))
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(kept, key)
	for name, value := range secrets {
		if err := v.Set(context.Background(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// Vault has the secrets of the store.
func (g *Gateway) Vault() *vault.Vault { return g.Controller.StoreSecrets.(*vault.Vault) }

// obtaining obtains certificates until the test ends.
func obtaining(t testing.TB, kept acme.Records, safe acme.Sealer, log *slog.Logger, answer func(context.Context, []compile.Challenge)) *acme.Manager {
	t.Helper()
	m, err := acme.New(acme.Config{Records: kept, Sealer: safe, Log: log, Answer: func(ctx context.Context, all []acme.Challenge) {
		out := make([]compile.Challenge, len(all))
		for i, c := range all {
			out[i] = compile.Challenge(c)
		}
		answer(ctx, out)
	}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, m.Run)
	return m
}

// until runs a part until the test ends.
func until(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Fresh is another control plane, which knew nothing, on the same policies, until stop.
func (g *Gateway) Fresh(files map[string]string, with ...Option) (c *control.Controller, stop func()) {
	g.t.Helper()
	objects, err := g.objects(files)
	if err != nil {
		g.t.Fatal(err)
	}
	c, _, stop = controller(g.t, xds.New(xds.Config{}), nil, with)
	if _, err := c.Apply(context.Background(), control.Request{Set: objects, Source: "test"}); err != nil {
		g.t.Fatal(err)
	}
	return c, stop
}

func (g *Gateway) startEnvoy(binary, server string, door *Door) {
	g.t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // a socket's path must be short
	if err != nil {
		g.t.Fatal(err)
	}
	g.admin = "unix:" + filepath.Join(dir, "admin")
	g.Envoy = &envoy.Process{
		Binary: binary, Concurrency: 1, DrainTime: time.Second, Log: g.Log,
		Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "test", Servers: []string{server}, Admin: g.admin, TLS: door.envoy()},
		Args:      []string{"--file-flush-interval-msec", "50"},
	}
	if g.agent != nil {
		g.Envoy.Bootstrap.Agent = g.agent.address()
	}
	if err := g.Envoy.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_ = g.Envoy.Stop(ctx)
		_ = os.RemoveAll(dir)
		if g.t.Failed() {
			g.t.Logf("envoy: %s", g.Log)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := g.Envoy.Ready(ctx); err != nil {
		g.t.Fatal(err)
	}
	g.Settle()
}

// Apply makes the policies exactly those of the files, as `dev` does, and waits until Envoy has them.
func (g *Gateway) Apply(files map[string]string) error {
	objects, err := g.objects(files)
	if err != nil {
		return err
	}
	_, err = g.Controller.Apply(context.Background(), control.Request{Set: objects, Prune: true, Source: "test", AllowRemovals: true})
	if err != nil {
		return err
	}
	g.Settle()
	return nil
}

func (g *Gateway) objects(files map[string]string) ([]policy.Object, error) {
	problems := &policy.Problems{}
	var objects []policy.Object
	hasGateway := false
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		split, _ := policy.Split(name, strings.ReplaceAll(text, "$PORT", strconv.Itoa(g.Port)), "test", problems)
		for _, o := range split {
			o.Content = files
			hasGateway = hasGateway || o.Kind == "Gateway"
			objects = append(objects, o)
		}
	}
	if !hasGateway {
		text := fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: %d}]}\n", g.Port)
		edge, _ := policy.Split("edge.yaml", text, "test", problems)
		objects = append(objects, edge...)
	}
	if problems.Failed() {
		return nil, &control.Problems{List: problems.List()}
	}
	return objects, nil
}

// Settle waits until every connected Envoy has acknowledged or refused what is published.
func (g *Gateway) Settle() {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for _, e := range g.Controller.Wait(ctx, g.Controller.Serving()) {
		if e.State == xds.Refused {
			g.t.Logf("refused: %+v", e.Refusals)
		}
	}
}

// Get asks for a path and gives status, body and headers; it fails the test when there is no answer.
func (g *Gateway) Get(path string, headers ...string) (int, string, http.Header) {
	g.t.Helper()
	return g.Do(http.MethodGet, path, nil, headers...)
}

// Do sends one request on a connection of its own; headers are name, value, name, value. `host` sets the Host.
func (g *Gateway) Do(method, path string, body io.Reader, headers ...string) (int, string, http.Header) {
	g.t.Helper()
	r, err := http.NewRequest(method, g.URL+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if strings.EqualFold(headers[i], "host") {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Close = true
	client := &http.Client{Timeout: Patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// Admin is the answer of Envoy's admin interface.
func (g *Gateway) Admin(path string) string {
	g.t.Helper()
	resp, err := envoy.AdminClient(g.admin).Get("http://envoy" + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

// Eventually waits until the condition holds, and fails the test when it never does.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between looks, not instead of one
	}
}

// Backend is a service's instance: its address is host:port.
func Backend(t testing.TB, h http.Handler) (address string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Echo is a backend that answers with its name.
func Echo(t testing.TB, name string) (address string) {
	return Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-instance", name)
		fmt.Fprintf(w, "%s %s", name, r.URL.RequestURI())
	}))
}

// FreePort is a TCP port of 127.0.0.1 that nothing listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		// Below the range that the system gives to outgoing connections, which would take it before Envoy does.
		lis, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(10_000+rand.IntN(20_000)))
		if err == nil {
			defer lis.Close()
			return lis.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no free port between 10000 and 30000")
	return 0
}

// Buffer gathers what a process writes; it may be read meanwhile.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
