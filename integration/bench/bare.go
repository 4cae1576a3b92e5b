package main

import (
	"context"
	"maps"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// drainDelay is how long requests that took an old route have before its clusters go: the same as Sluice's.
const drainDelay = 50 * time.Millisecond

// bare is a go-control-plane server with one snapshot for all nodes, published in the same three phases as Sluice does.
type bare struct {
	cache cachev3.SnapshotCache
	acks  acks
	was   *snapshot.Snapshot
}

// oneNode serves every node the same.
type oneNode struct{}

// ID implements cachev3.NodeHash.
func (oneNode) ID(*corev3.Node) string { return "edge" }

func newBare() *bare {
	return &bare{cache: cachev3.NewSnapshotCache(true, oneNode{}, nil), acks: acks{streams: map[int64]deliveries{}}}
}

func (b *bare) register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(context.Background(), b.cache, &serverv3.CallbackFuncs{
		DeltaStreamOpenFunc: func(_ context.Context, id int64, _ string) error { b.acks.open(id); return nil },
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) {
			b.acks.closed(id)
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error { b.acks.answer(id, r); return nil },
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			b.acks.sent(id, r)
		},
	}))
}

// steps are what a change goes through: additions, the switch, removals.
type steps struct{ warm, switched, final *snapshot.Snapshot }

// ready makes the steps to a snapshot.
func (b *bare) ready(to *snapshot.Snapshot) steps {
	if b.was == nil {
		return steps{final: to}
	}
	tables := map[string]*snapshot.Table{}
	for _, url := range b.was.Types() {
		tables[url] = snapshot.Overlay(b.was.Table(url), to.Table(url))
	}
	for _, url := range []string{resource.ListenerType, resource.RouteType} {
		tables[url] = b.was.Table(url)
	}
	s := steps{warm: snapshot.New(tables), final: to}
	switched := maps.Clone(tables)
	for _, url := range []string{resource.ListenerType, resource.RouteType} {
		switched[url] = to.Table(url)
	}
	s.switched = snapshot.New(switched)
	return s
}

// publish goes through the steps; it returns when the last one has been answered.
func (b *bare) publish(ctx context.Context, s steps) error {
	for _, step := range []struct {
		to    *snapshot.Snapshot
		await []string
	}{{s.warm, []string{resource.ClusterType, resource.EndpointType}}, {s.switched, []string{resource.RouteType, resource.ListenerType}}, {s.final, nil}} {
		if step.to == nil || step.to.Digest() == b.was.Digest() {
			continue
		}
		if step.to == s.final && s.switched != nil {
			time.Sleep(drainDelay)
		}
		done := b.acks.await(changed(b.was, step.to, step.await))
		if err := b.cache.SetSnapshot(ctx, "edge", step.to); err != nil {
			return err
		}
		b.was = step.to
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// changed are the resources of some types that a step brings, with their versions.
func changed(was, to *snapshot.Snapshot, types []string) map[string]string {
	out := map[string]string{}
	if was == nil {
		return out
	}
	for _, url := range types {
		for _, name := range snapshot.Diff(was.Table(url), to.Table(url)) {
			if v := to.Table(url).Version(name); v != "" {
				out[url+" "+name] = v
			}
		}
	}
	return out
}

// deliveries are a stream's unanswered responses: what each brought, by nonce.
type deliveries map[string]map[string]string

// acks knows which streams have yet to acknowledge the present step.
type acks struct {
	mu      sync.Mutex
	streams map[int64]deliveries
	want    map[string]string
	left    map[int64]int // resources that a stream has not acknowledged yet
	done    chan struct{}
}

func (a *acks) open(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[id] = deliveries{}
}

func (a *acks) closed(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, id)
	a.has(id)
}

func (a *acks) sent(id int64, r *discoveryv3.DeltaDiscoveryResponse) {
	brought := map[string]string{}
	for _, res := range r.GetResources() {
		brought[r.GetTypeUrl()+" "+res.GetName()] = res.GetVersion()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.streams[id]; s != nil {
		s[r.GetNonce()] = brought
	}
}

func (a *acks) answer(id int64, r *discoveryv3.DeltaDiscoveryRequest) {
	if r.GetResponseNonce() == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	brought := a.streams[id][r.GetResponseNonce()]
	delete(a.streams[id], r.GetResponseNonce())
	for key, version := range a.want {
		if brought[key] == version {
			a.left[id]--
		}
	}
	if a.left[id] == 0 {
		a.has(id)
	}
}

// has crosses a stream off.
func (a *acks) has(id int64) {
	if _, waiting := a.left[id]; !waiting {
		return
	}
	if delete(a.left, id); len(a.left) == 0 {
		close(a.done)
	}
}

// await is closed when every stream has acknowledged what is wanted.
func (a *acks) await(want map[string]string) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want, a.left, a.done = want, map[int64]int{}, make(chan struct{})
	if len(want) == 0 || len(a.streams) == 0 {
		close(a.done)
		a.left = nil
		return a.done
	}
	for id := range a.streams {
		a.left[id] = len(want)
	}
	return a.done
}
