package xds

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// fleetSnapshot has n clusters, their endpoints, and a route and a listener of version v.
func fleetSnapshot(n, v int) *snapshot.Snapshot {
	clusters, endpoints := map[string][]byte{}, map[string][]byte{}
	for i := range n {
		name := fmt.Sprintf("service-%04d", i)
		clusters[name], endpoints[name] = make([]byte, 200), make([]byte, 200)
	}
	clusters["changing"], endpoints["changing"] = []byte(fmt.Sprint(v)), []byte(fmt.Sprint(v))
	return snapshot.New(map[string]*snapshot.Table{
		resource.ClusterType: snapshot.NewTable(clusters), resource.EndpointType: snapshot.NewTable(endpoints),
		resource.RouteType:    snapshot.NewTable(map[string][]byte{"edge": []byte(fmt.Sprint(v))}),
		resource.ListenerType: snapshot.NewTable(map[string][]byte{"http": []byte("l")}),
	})
}

// answered drives a node until it has nothing more to say, acknowledging all of it; it returns how many resources
// were sent.
func answered(n *node) int {
	sent := 0
	for {
		now := time.Now()
		out, _, _ := n.step(now)
		if len(out) == 0 {
			return sent
		}
		for _, resp := range out {
			sent += len(resp.GetResources())
			n.handle(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}, now)
		}
	}
}

// fleet connects nodes that have taken the present target.
func fleet(s *Server, size int) []*node {
	var nodes []*node
	for i := range size {
		n := s.attach(nodeInfo{id: fmt.Sprint(i), gateway: "edge", envoy: true})
		for _, url := range []string{resource.ClusterType, resource.ListenerType} {
			n.handle(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, Node: &corev3.Node{Id: n.info.id}}, time.Now())
		}
		for url, t := range map[string]*snapshot.Table{
			resource.EndpointType: n.gateway.target.Load().snap.Table(resource.EndpointType),
			resource.RouteType:    n.gateway.target.Load().snap.Table(resource.RouteType),
		} {
			n.handle(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: t.Names()}, time.Now())
		}
		answered(n)
		nodes = append(nodes, n)
	}
	return nodes
}

// BenchmarkPublish is one changed cluster, its endpoints and a route, through all phases of a thousand nodes that have
// two thousand resources each; without the network.
func BenchmarkPublish(b *testing.B) {
	const nodes, clusters = 1000, 1000
	s := New(Config{})
	s.Publish("edge", fleetSnapshot(clusters, 0))
	before := heap()
	all := fleet(s, nodes)
	memory := float64(heap()-before) / nodes / 1024
	snaps := []*snapshot.Snapshot{fleetSnapshot(clusters, 1), fleetSnapshot(clusters, 2)}
	b.ResetTimer()
	for i := range b.N {
		s.Publish("edge", snaps[i%2])
		for _, n := range all {
			if sent := answered(n); sent != 3 {
				b.Fatalf("%d resources sent for 3 changes", sent)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/nodes, "µs/node")
	b.ReportMetric(memory, "KiB/node")
	runtime.KeepAlive(all)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRecordSharesWhatTheFleetHas says that a node which is up to date costs no memory for each resource it has, but
// its subscriptions.
func TestRecordSharesWhatTheFleetHas(t *testing.T) {
	s := New(Config{})
	snap := fleetSnapshot(100, 0)
	s.Publish("edge", snap)
	n := fleet(s, 1)[0]
	for url, r := range n.records {
		if r.base != snap.Table(url) || len(r.diff) > 0 || len(r.inflight) > 0 || len(r.changes) > 0 {
			t.Errorf("%s: %d of its own, %d in flight, %d changes", url, len(r.diff), len(r.inflight), len(r.changes))
		}
	}
}
