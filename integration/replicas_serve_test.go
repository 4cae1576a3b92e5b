package integration

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/envoy"
	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store/consulkv"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// replica is a control plane of several.
type replica struct {
	*control.Controller
	store *consulkv.Store
}

func startReplica(t *testing.T, a *agents.Agent) *replica {
	t.Helper()
	r := &replica{store: openReplica(t, a)}
	server := xds.New(xds.Config{})
	r.Controller = control.New(control.Config{Features: all.Features(), Store: r.store, Publisher: server, Log: slog.New(slog.DiscardHandler), Loopback: true})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	running.Go(func() { _ = server.Run(ctx, lis) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

// digests are those of what is served, by gateway.
func (r *replica) digests() map[string]string {
	out := map[string]string{}
	if b := r.Serving(); b != nil {
		out["revision"] = fmt.Sprint(b.Revision.Number)
		for name, s := range b.Snapshots {
			out[name] = s.Digest()
		}
	}
	return out
}

// TestReplicas_SameBytes applies anything at any of two replicas: both, and one that has just started, serve the same bytes.
func TestReplicas_SameBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SLUICE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	a := agents.Start(t, agents.Options{})
	replicas := []*replica{startReplica(t, a), startReplica(t, a)}
	apply := func(request control.Request) uint64 {
		t.Helper()
		request.AllowRemovals = true
		result, err := replicas[r.IntN(2)].Apply(t.Context(), request)
		if err != nil {
			t.Fatalf("%+v: %v", request, err)
		}
		return result.Build.Revision.Number
	}
	text := ""
	for _, name := range []string{"edge", "inside"} {
		text += fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: %s}\nspec: {listeners: [{name: http, port: %d}]}\n---\n", name, gateway.FreePort(t))
	}
	for n := range 5 {
		text += fmt.Sprintf("apiVersion: sluice/v1\nkind: Service\nmetadata: {name: s%d}\nspec: {endpoints: [127.0.0.1:%d]}\n---\n", n, 9000+n)
	}
	apply(control.Request{Set: objectsOf(t, text)})
	there := map[string]bool{}
	rounds := Amount(300)
	for range rounds {
		name := fmt.Sprint("r", r.IntN(30))
		request := control.Request{Delete: []policy.Ref{{Kind: "Route", Name: name}}}
		if there[name] = !there[name] || r.IntN(2) == 0; there[name] {
			request = control.Request{Set: objectsOf(t, fmt.Sprintf("apiVersion: sluice/v1\nkind: Route\nmetadata: {name: %s}\nspec: {gateway: %s, match: /%s/%d, to: s%d, timeout: %ds}\n",
				name, []string{"edge", "inside"}[r.IntN(2)], name, r.IntN(3), r.IntN(5), 1+r.IntN(3)))}
		}
		revision := apply(request)
		for _, replica := range replicas {
			gateway.Eventually(t, fmt.Sprint("every replica serves revision ", revision), func() bool {
				return replica.Serving().Revision.Number == revision
			})
		}
		if d := cmp.Diff(replicas[0].digests(), replicas[1].digests()); d != "" {
			t.Fatalf("revision %d: replicas differ:\n%s", revision, d)
		}
	}
	fresh := startReplica(t, a)
	gateway.Eventually(t, "a fresh start serves", func() bool { return fresh.Serving() != nil })
	if d := cmp.Diff(replicas[0].digests(), fresh.digests()); d != "" {
		t.Errorf("a fresh start differs:\n%s", d)
	}
}

// TestReplicas_Conflicts applies at both replicas at once: what is bound to no revision is made again on the new head,
// what is bound to one is refused when another was faster.
func TestReplicas_Conflicts(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	replicas := []*replica{startReplica(t, a), startReplica(t, a)}
	route := func(n int) control.Request {
		return control.Request{Set: objectsOf(t, fmt.Sprintf("apiVersion: sluice/v1\nkind: Route\nmetadata: {name: r%d}\nspec: {match: /r%d, direct: {}}\n", n, n))}
	}
	edge := fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: %d}]}\n", gateway.FreePort(t))
	if _, err := replicas[0].Apply(t.Context(), control.Request{Set: objectsOf(t, edge)}); err != nil {
		t.Fatal(err)
	}
	const each = 20
	var running sync.WaitGroup
	for i, replica := range replicas {
		running.Go(func() {
			for n := range each {
				if _, err := replica.Apply(t.Context(), route(i*each+n)); err != nil {
					t.Errorf("apply %d at replica %d: %v", n, i, err)
				}
			}
		})
	}
	running.Wait()
	head, objects, err := openReplica(t, a).Head(t.Context())
	if err != nil || head.Number != 2*each+1 || len(objects) != 2*each+1 {
		t.Fatalf("revision %d with %d objects, want %d: %v", head.Number, len(objects), 2*each+1, err)
	}

	planned := head.Number
	if _, err := replicas[1].Apply(t.Context(), route(100)); err != nil {
		t.Fatal(err)
	}
	bound := route(101)
	bound.Base = &planned
	if _, err := replicas[0].Apply(t.Context(), bound); err == nil || !strings.Contains(err.Error(), "conflict") {
		t.Errorf("a change planned on a revision that is no longer the head: %v", err)
	}
	planned++ // a plan made at one replica, applied at the other, which may not have seen that revision yet
	if _, err := replicas[0].Apply(t.Context(), bound); err != nil {
		t.Errorf("a change planned on the head: %v", err)
	}
}

// inConsul are serve's arguments for a store that an agent keeps.
func inConsul(a *agents.Agent) []string { return []string{"--store", "consul", "--consul", a.Address} }

// TestReplicas_ReplicaKilledDuringPushes kills the replica that an Envoy talks to, again and again, while changes are
// pushed at the other and clients ask.
func TestReplicas_ReplicaKilledDuringPushes(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	one := startServed(t, inConsul(a)...)
	two := startServed(t, inConsul(a)...)
	k := &killed{served: one, port: gateway.FreePort(t), address: gateway.Echo(t, "orders")}
	k.url = fmt.Sprintf("http://127.0.0.1:%d", k.port)
	if _, err := one.client.Apply(t.Context(), admin.ApplyRequest{Request: control.Request{Set: standing(t)}}); err != nil {
		t.Fatal(err)
	}
	k.pushInPeace(0)
	startEnvoyOf(t, "e1", one, two)
	k.serves(0)
	l := startLoad(t, k.url, 2, wholeRevisions)
	// In one run of a dozen a single answer of some thousands was 503, for a reason that is not known yet.
	l.borne = Amount(30)

	push := 0
	for round := range Amount(30) {
		first, second := one, two
		if round%2 == 1 {
			first, second = two, one
		}
		connectedTo(t, first, second)
		stop := make(chan struct{})
		acknowledged := make(chan int)
		go func() { acknowledged <- pushUntil(t, k, second, push+1, stop) }()
		gateway.Eventually(t, "pushes are under way", func() bool { return revisions(t, second) >= uint64(push+4) })
		before, at := second.metric("sluice_xds_resources_sent_total", ""), revisions(t, second)
		first.kill()
		gateway.Eventually(t, "the Envoy is at the other replica", func() bool { return second.metric("sluice_xds_connected", "edge") == 1 })
		close(stop)
		push = <-acknowledged
		k.serves(push)
		sent, pushes := second.metric("sluice_xds_resources_sent_total", "")-before, revisions(t, second)-at
		t.Logf("round %d: %d pushes, the Envoy got %v resources after the kill", round, pushes, sent)
		// A push changes a cluster, its endpoints and the routes.
		if most := 3 * float64(pushes+2); sent > most || sent >= standingServices {
			t.Errorf("%v resources were sent for %d pushes, at most %v have changed", sent, pushes, most)
		}
		first.start()
	}
	l.end(t)
	for _, s := range []*served{one, two} {
		gateway.Eventually(t, "every replica has every push", func() bool { return revisions(t, s) == uint64(push+2) })
	}
	history, err := two.client.History(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, rev := range history.Revisions {
		if want := fmt.Sprintf("push-%d", int(rev.Number)-2); rev.Number > 1 && rev.RequestID != want {
			t.Errorf("revision %d is %s, want %s", rev.Number, rev.RequestID, want)
		}
	}
	sendsNothing(t, one, two)
}

const standingServices = 60

// standing are services and a route that no push touches.
func standing(t *testing.T) []policy.Object {
	text := ""
	rules := ""
	for n := range standingServices {
		text += fmt.Sprintf("apiVersion: sluice/v1\nkind: Service\nmetadata: {name: s%d}\nspec: {endpoints: [127.0.0.1:%d]}\n---\n", n, 9000+n)
		rules += fmt.Sprintf("    - {match: /s%d, to: s%d}\n", n, n)
	}
	return objectsOf(t, text+"apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, address: 127.0.0.1, port: 9}]}\n---\n"+
		"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: standing}\nspec:\n  rules:\n"+rules)
}

// pushUntil pushes one change after another at a replica, and returns the last that was acknowledged.
func pushUntil(t *testing.T, k *killed, s *served, n int, stop <-chan struct{}) int {
	for ; ; n++ {
		if _, err := s.client.Apply(context.Background(), k.request(n)); err != nil {
			t.Errorf("push %d: %v", n, err)
			return n - 1
		}
		select {
		case <-stop:
			return n
		default:
		}
	}
}

func revisions(t *testing.T, s *served) uint64 {
	t.Helper()
	history, err := s.client.History(context.Background(), 1)
	if err != nil || len(history.Revisions) == 0 {
		return 0
	}
	return history.Revisions[0].Number
}

// connectedTo makes the Envoy talk to one replica, by taking the other away for a moment.
func connectedTo(t *testing.T, s, other *served) {
	t.Helper()
	if s.metric("sluice_xds_connected", "edge") == 1 {
		return
	}
	other.kill()
	gateway.Eventually(t, "the Envoy is at this replica", func() bool { return s.metric("sluice_xds_connected", "edge") == 1 })
	other.start()
}

// sendsNothing kills the replica that the Envoy talks to while nothing changes: the other has nothing to send.
func sendsNothing(t *testing.T, one, two *served) {
	t.Helper()
	connectedTo(t, one, two)
	one.envoyIs("synced")
	before := two.metric("sluice_xds_resources_sent_total", "")
	one.kill()
	two.envoyIs("synced")
	if sent := two.metric("sluice_xds_resources_sent_total", "") - before; sent != 0 {
		t.Errorf("%v resources were sent after a failover with nothing changed", sent)
	}
}

// startEnvoyOf starts an Envoy of the gateway edge that tries these servers in their order.
func startEnvoyOf(t *testing.T, node string, servers ...*served) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	b := envoy.Bootstrap{Gateway: "edge", Node: node, Admin: "unix:" + filepath.Join(dir, "admin")}
	for _, s := range servers {
		b.Servers = append(b.Servers, s.xds)
		s.envoyAdmin = b.Admin
	}
	p := &envoy.Process{Binary: featuretest.Envoy(t), Concurrency: 1, DrainTime: time.Second, Bootstrap: b}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
		defer cancel()
		_ = p.Stop(ctx)
		_ = os.RemoveAll(dir)
	})
	ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}
