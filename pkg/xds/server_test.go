package xds_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one is a configuration with one of each.
func one(cluster, route int) shape {
	return shape{
		clusters: map[string]int{"orders": cluster}, routes: map[string]int{"edge": route},
		listeners: map[string]string{"http": "edge"},
	}
}

// start serves with a short drain delay, and ends it and the Envoys with the test.
func start(t *testing.T, cfg xds.Config, ids ...string) (*xds.Server, []*fakeEnvoy) {
	t.Helper()
	if cfg.PhaseTimeout == 0 {
		cfg.PhaseTimeout = time.Minute
	}
	cfg.DrainDelay = time.Millisecond
	s := xds.New(cfg)
	lis, stop := serve(t, s)
	t.Cleanup(stop)
	var fakes []*fakeEnvoy
	for _, id := range ids {
		f := newFake(id, "edge", lis)
		fakes = append(fakes, f)
		t.Cleanup(f.disconnect)
		f.connect(t)
	}
	connected(t, s, len(slices.Compact(slices.Sorted(slices.Values(ids)))))
	return s, fakes
}

// reach publishes and waits until all connected Envoys have answered.
func reach(t *testing.T, s *xds.Server, snap *snapshot.Snapshot) []xds.EnvoyStatus {
	t.Helper()
	s.Publish("edge", snap)
	return wait(t, s, snap)
}

func wait(t rapid.TB, s *xds.Server, snap *snapshot.Snapshot) []xds.EnvoyStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := s.Wait(ctx, "edge", snap.Digest())
	if ctx.Err() != nil {
		t.Fatalf("not reached: %+v", got)
	}
	return got
}

// connected waits until the server knows as many connected Envoys.
func connected(t *testing.T, s *xds.Server, n int) {
	t.Helper()
	until(t, fmt.Sprint(n, " connected"), func() bool {
		return n == len(slices.DeleteFunc(s.Envoys(), func(e xds.EnvoyStatus) bool { return !e.Connected }))
	})
}

// until asks again and again until it is so.
func until(t rapid.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestPublishReachesEveryEnvoy(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "b", "a")
	snap := one(1, 1).snapshot()
	got := reach(t, s, snap)
	want := xds.EnvoyStatus{
		Node: "a", Gateway: "edge", Labels: map[string]string{"zone": "a"}, Bootstrap: "7", Connected: true,
		State: xds.Synced, Target: snap.Digest(), Acknowledged: snap.Digest(),
		Types: map[string]xds.TypeStatus{
			"cluster": {Sent: 1, Acknowledged: 1}, "endpoint": {Sent: 1, Acknowledged: 1},
			"listener": {Sent: 1, Acknowledged: 1}, "route": {Sent: 1, Acknowledged: 1}, "runtime": {Sent: 1, Acknowledged: 1},
		},
	}
	if diff := cmp.Diff(want, got[0], cmpopts.IgnoreFields(xds.EnvoyStatus{}, "Since", "Address")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if len(got) != 2 || got[1].Node != "b" {
		t.Errorf("want both, sorted by node: %+v", got)
	}
	before := fakes[0].resources() + fakes[1].resources()
	reach(t, s, one(1, 1).snapshot())
	if after := fakes[0].resources() + fakes[1].resources(); after != before {
		t.Errorf("the same digest again sent %d resources", after-before)
	}
	for _, f := range fakes {
		f.checkFaults(t)
	}
}

func TestUnknownGatewayGetsNothing(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	s.Publish("other", one(1, 1).snapshot())
	if got := s.Envoys(); got[0].State != xds.UnknownGateway {
		t.Errorf("state %s, want %s", got[0].State, xds.UnknownGateway)
	}
	reach(t, s, one(1, 1).snapshot())
	s.Withdraw("edge")
	if got := s.Envoys(); got[0].State != xds.UnknownGateway {
		t.Errorf("after withdraw: state %s, want %s", got[0].State, xds.UnknownGateway)
	}
	if fakes[0].resources() != 5 {
		t.Errorf("%d resources came, want the 5 of its own gateway", fakes[0].resources())
	}
}

func TestSilentEnvoyHoldsUpOnlyItself(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a", "silent")
	reach(t, s, one(1, 1).snapshot())
	fakes[1].setSilent(true)
	for v := 2; v < 20; v++ {
		snap := one(v, v).snapshot()
		s.Publish("edge", snap)
		fakes[0].await(t, "the new route", fakes[0].has(resource.RouteType, "edge", snap.Table(resource.RouteType).Version("edge")))
	}
	got := s.Envoys()
	if got[1].State != xds.Updating || got[1].Types["cluster"].Warming != 1 {
		t.Errorf("the silent one: %+v", got[1])
	}
	fakes[1].setSilent(false)
	wait(t, s, one(19, 19).snapshot())
	fakes[1].mu.Lock()
	defer fakes[1].mu.Unlock()
	if n := len(fakes[1].received); n > 5+2*4 {
		t.Errorf("the silent one was sent %d resources, want none of the targets it slept through", n)
	}
}

func TestRoutesWaitForClusters(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reach(t, s, one(1, 1).snapshot())
	f := fakes[0]
	f.setSilent(true)
	next := one(1, 2)
	next.clusters["geo"] = 1
	s.Publish("edge", next.snapshot())
	f.await(t, "the cluster", func() bool { return len(f.queue) == 1 })
	if st, _ := s.Resource("edge", "a", resource.ClusterType, "geo"); !st.Warming || st.Acknowledged != "" || st.SentAt == nil {
		t.Errorf("geo: %+v, want warming", st)
	}
	if st, _ := s.Resource("edge", "a", resource.RouteType, "edge"); st.Sent != "" || st.Acknowledged == st.Wanted {
		t.Errorf("edge: %+v, want not sent", st)
	}
	f.setSilent(false)
	wait(t, s, next.snapshot())
	f.checkFaults(t)
}

func TestClusterThatNeverWarmsDoesNotBlockForEver(t *testing.T) {
	s, fakes := start(t, xds.Config{PhaseTimeout: 50 * time.Millisecond}, "a")
	reach(t, s, one(1, 1).snapshot())
	f := fakes[0]
	f.mu.Lock()
	f.bad = func(string, string, []byte) bool { return false }
	f.applied[resource.ClusterType]["cold"] = marshal(coldCluster()) // its endpoints never come: it answers for no cluster
	f.mu.Unlock()
	for v := 2; v < 5; v++ {
		snap := one(v, v).snapshot()
		s.Publish("edge", snap)
		f.await(t, "the route", f.has(resource.RouteType, "edge", snap.Table(resource.RouteType).Version("edge")))
		f.await(t, "the later cluster", func() bool {
			return f.received[key{resource.ClusterType, "orders", snap.Table(resource.ClusterType).Version("orders")}] == 1
		})
	}
}

func TestRefusedOnceAndTheRestGoesOn(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Metrics())
	reach(t, s, one(1, 1).snapshot())
	bad := one(1, 2)
	bad.clusters["geo"], bad.clusters["pay"] = -1, 1
	got := reach(t, s, bad.snapshot())
	if len(got) != 1 || got[0].State != xds.Refused || len(got[0].Refusals) != 1 {
		t.Fatalf("status: %+v", got)
	}
	r := got[0].Refusals[0]
	if r.Type != "cluster" || r.Name != "geo" || !strings.HasPrefix(r.Reason, "Error adding/updating: geo: no") {
		t.Errorf("refusal: %+v", r)
	}
	f := fakes[0]
	f.mu.Lock()
	if f.acked[resource.ClusterType]["pay"] == "" || f.applied[resource.RouteType]["edge"] == nil {
		t.Error("the good cluster and the route did not come")
	}
	f.mu.Unlock()
	f.disconnect()
	connected(t, s, 0)
	f.connect(t)
	connected(t, s, 1)
	bad.routes["edge"] = 3
	reach(t, s, bad.snapshot())
	f.checkFaults(t)
	bad.clusters["geo"] = 2
	if got := reach(t, s, bad.snapshot()); got[0].State != xds.Synced {
		t.Errorf("after a good version: %+v", got[0])
	}
	if n := metric(t, reg, "sluice_xds_nack_total"); n != 1 {
		t.Errorf("%v refusals counted, want 1", n)
	}
	if n := metric(t, reg, "sluice_xds_connected"); n != 1 {
		t.Errorf("%v connected, want 1", n)
	}
}

func TestNewProcessIsTriedAgain(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	bad := one(1, 1)
	bad.clusters["geo"] = -1
	if got := reach(t, s, bad.snapshot()); got[0].State != xds.Refused {
		t.Fatalf("status: %+v", got)
	}
	f := fakes[0]
	f.disconnect()
	f.mu.Lock()
	f.forget()
	f.bad = func(string, string, []byte) bool { return false }
	f.mu.Unlock()
	f.connect(t)
	f.await(t, "the cluster once refused", func() bool { return f.acked[resource.ClusterType]["geo"] != "" })
	if got := wait(t, s, bad.snapshot()); got[0].State != xds.Synced {
		t.Errorf("status: %+v", got[0])
	}
}

func TestKeptRouteKeepsItsClusters(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reach(t, s, one(1, 1).snapshot())
	moved := shape{clusters: map[string]int{"geo": 1}, routes: map[string]int{"edge": -1}, listeners: map[string]string{"http": "edge"}}
	reach(t, s, moved.snapshot())
	f := fakes[0]
	f.mu.Lock()
	if len(f.removed) > 0 {
		t.Errorf("removed %v below a route that is still in use", f.removed)
	}
	f.mu.Unlock()
	moved.routes["edge"] = 1
	reach(t, s, moved.snapshot())
	f.await(t, "the removal", func() bool { return f.acked[resource.ClusterType]["orders"] == "" })
	f.checkFaults(t)
}

func TestRestartedServerSendsNothing(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reach(t, s, one(1, 1).snapshot())
	f := fakes[0]
	f.disconnect()
	again, stop := xds.New(xds.Config{PhaseTimeout: time.Minute}), func() {}
	f.lis, stop = serve(t, again)
	defer stop()
	again.Publish("edge", one(1, 1).snapshot())
	before := f.resources()
	f.connect(t)
	defer f.disconnect()
	connected(t, again, 1)
	if got := wait(t, again, one(1, 1).snapshot()); got[0].State != xds.Synced {
		t.Errorf("status: %+v", got)
	}
	if n := f.resources() - before; n != 0 {
		t.Errorf("%d resources sent again", n)
	}
	flip := shape{clusters: map[string]int{"geo": 1}, routes: map[string]int{"edge": 2}, listeners: map[string]string{"http": "edge"}}
	again.Publish("edge", flip.snapshot())
	wait(t, again, flip.snapshot())
	f.checkFaults(t)
}

func TestUnknownEndpointsAreAnswered(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	f := fakes[0]
	reach(t, s, one(1, 1).snapshot())
	f.mu.Lock()
	f.subscribe(resource.EndpointType, []string{"nobody"}, nil)
	f.mu.Unlock()
	f.await(t, "an empty answer", func() bool { return f.applied[resource.EndpointType]["nobody"] != nil })
	reach(t, s, one(2, 2).snapshot())
}

func TestEmptyTargetIsAnswered(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reach(t, s, shape{}.snapshot())
	fakes[0].await(t, "an answer without clusters", func() bool { return fakes[0].asked[resource.ListenerType] })
	wait(t, s, shape{}.snapshot())
}

func TestWaitEndsWhenSuperseded(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a")
	reach(t, s, one(1, 1).snapshot())
	fakes[0].setSilent(true)
	s.Publish("edge", one(2, 2).snapshot())
	done := make(chan []xds.EnvoyStatus)
	go func() { done <- s.Wait(context.Background(), "edge", one(2, 2).snapshot().Digest()) }()
	s.Publish("edge", one(3, 3).snapshot())
	select {
	case got := <-done:
		if got[0].State != xds.Updating {
			t.Errorf("status: %+v", got)
		}
	case <-time.After(patience):
		t.Fatal("still waiting")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := s.Wait(ctx, "edge", one(3, 3).snapshot().Digest()); got[0].State != xds.Updating {
		t.Errorf("ended context: %+v", got)
	}
}

func TestGoneEnvoysAreRememberedForAWhile(t *testing.T) {
	s, fakes := start(t, xds.Config{RememberMost: 2}, "a", "b", "c", "d")
	for i, f := range fakes[:3] {
		f.disconnect()
		connected(t, s, 3-i)
	}
	var got []string
	for _, e := range s.Envoys() {
		got = append(got, fmt.Sprint(e.Node, " ", e.State))
	}
	if diff := cmp.Diff([]string{"b disconnected", "c disconnected", "d unknown-gateway"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecondEnvoyWithAnIDTakesItOver(t *testing.T) {
	s, fakes := start(t, xds.Config{}, "a", "a")
	snap := one(1, 1).snapshot()
	s.Publish("edge", snap)
	for _, f := range fakes {
		f.await(t, "the route", f.has(resource.RouteType, "edge", snap.Table(resource.RouteType).Version("edge")))
	}
	if got := s.Envoys(); len(got) != 1 {
		t.Errorf("%d Envoys, want 1: %+v", len(got), got)
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
