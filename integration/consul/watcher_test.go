package consul_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sluice-gateway/sluice/integration"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var amount = integration.Amount

// watcher is a source that runs, and the view of what it sent.
type watcher struct {
	t      testing.TB
	source *consul.Source
	wanted chan []catalog.Key
	out    chan []catalog.Service
	view   catalog.View
	sends  int
	stop   func()
}

// watch runs a source for the keys until the test ends, or stop.
func watch(t testing.TB, c consul.Config, keys ...catalog.Key) *watcher {
	t.Helper()
	if testing.Verbose() {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	source, err := consul.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, source: source, wanted: make(chan []catalog.Key, 1), out: make(chan []catalog.Service)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, w.wanted, w.out) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the source ended with %v", err)
		}
	}
	t.Cleanup(w.stop)
	w.wanted <- keys
	return w
}

// config is for tests: patient nowhere.
func config(address string) consul.Config {
	c := consul.Default()
	c.Address, c.TokenEnv = address, ""
	c.BackoffMax, c.Probe, c.SaveEvery = 2*time.Second, 500*time.Millisecond, 50*time.Millisecond
	return c
}

// until takes in what is sent until the condition holds.
func (w *watcher) until(what string, holds func() bool) {
	w.t.Helper()
	w.within(20*time.Second, what, holds)
}

func (w *watcher) within(limit time.Duration, what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("within %s it did not come that %s; known are %v", limit, what, w.view.Services())
		}
		w.take(20 * time.Millisecond)
	}
}

// take takes in what is sent within the time.
func (w *watcher) take(limit time.Duration) {
	select {
	case sent := <-w.out:
		w.sends++
		w.view.Merge(sent)
	case <-time.After(limit):
	}
}

// usable are the IDs of a service's usable instances, without their node.
func (w *watcher) usable(k catalog.Key) []string {
	s, _ := w.view.Get(k)
	ids := []string{}
	for _, i := range s.Instances {
		if i.Usable() {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (w *watcher) untilUsable(k catalog.Key, ids ...string) {
	w.t.Helper()
	for n, id := range ids {
		ids[n] = "one/" + id
	}
	w.until(fmt.Sprintf("%s has %v", k, ids), func() bool {
		_, known := w.view.Get(k)
		return known && slices.Equal(w.usable(k), ids)
	})
}

// untilStatus waits, taking in what is sent, until the status of a service satisfies the condition.
func (w *watcher) untilStatus(k catalog.Key, what string, holds func(consul.ServiceStatus) bool) {
	w.t.Helper()
	w.within(20*time.Second, fmt.Sprintf("%s is %s", k, what), func() bool {
		return slices.ContainsFunc(w.source.Status(), func(s consul.ServiceStatus) bool { return s.Key == k && holds(s) })
	})
}

// registration of an instance on 127.0.0.1.
func registration(service string, n int) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{ID: fmt.Sprintf("%s-%d", service, n), Name: service, Address: "127.0.0.1", Port: 20000 + n}
}
