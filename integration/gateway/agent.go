package gateway

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/keys"
)

// Agent is an agent beside the Envoy, which follows the control plane over xDS. It can be stopped and started.
type Agent struct {
	// Socket is where Envoy asks it.
	Socket string
	// File is where it keeps its last good copy.
	File string
	// Front, when set, gives the address that Envoy asks at instead, host:port: of something before the socket.
	Front func(socket string) string
	// Most is how many requests are decided on at once; 0 means the agent's default.
	Most int
	// Server is the one that runs, or ran last.
	Server *extauthz.Server

	t    testing.TB
	xds  string
	door *Door
	stop func()
}

// WithAgent starts an agent beside Envoy, and fetches what agents need; a is filled in.
func WithAgent(a *Agent) Option { return func(o *options) { o.agent = a } }

func (a *Agent) prepare(t testing.TB) {
	dir, err := os.MkdirTemp("", "sluice") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a.t, a.Socket, a.File = t, filepath.Join(dir, "agent"), filepath.Join(dir, "agent.copy")
}

// Start runs it until Stop, or until the test ends.
func (a *Agent) Start() {
	a.t.Helper()
	lis, err := net.Listen("unix", a.Socket)
	if err != nil {
		a.t.Fatal(err)
	}
	holder := agent.NewHolder(all.Features())
	log := slog.New(slog.DiscardHandler)
	client := &agent.Client{Holder: holder, Gateway: "edge", Node: "agent-test", Servers: []string{a.xds}, File: a.File, Log: log, Credentials: a.door.agent(), ReportEvery: 200 * time.Millisecond}
	if err := client.Load(); err != nil {
		a.t.Fatal(err)
	}
	a.Server = extauthz.New(holder, log, a.Most)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- client.Run(ctx) }()
	go func() { done <- a.Server.Run(ctx, lis) }()
	stopped := false
	a.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				a.t.Error(err)
			}
		}
	}
	a.t.Cleanup(a.stop)
}

// Stop ends it, as a crash would: nothing listens any more.
func (a *Agent) Stop() { a.stop() }

// address is where Envoy asks it.
func (a *Agent) address() string {
	if a.Front != nil {
		return a.Front(a.Socket)
	}
	return "unix:" + a.Socket
}

// refreshKeys is how often key sets are fetched in tests.
const refreshKeys = 200 * time.Millisecond

// followKeys fetches what agents need until the test ends.
func followKeys(t testing.TB, c *control.Controller, secrets keys.Secrets, log *slog.Logger) {
	k := keys.New(keys.Config{
		Check: func(name string, body []byte) error { _, err := all.Features().ParseData(name, body); return err },
		Log:   log, Refresh: refreshKeys, Secrets: secrets,
	})
	c.Keys = k
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- k.Run(ctx) }()
	go func() { done <- c.FollowKeys(ctx) }()
	t.Cleanup(func() { cancel(); <-done; <-done })
}
