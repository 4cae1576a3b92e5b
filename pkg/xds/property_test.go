package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// TestAnySequenceEndsAtTheTarget publishes, refuses, falls silent, reconnects and restarts in any order. At no time may
// a route come before its clusters are acknowledged or a refused version twice; in the end every Envoy has the target,
// but for what it refused.
func TestAnySequenceEndsAtTheTarget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := xds.New(xds.Config{PhaseTimeout: time.Minute, DrainDelay: time.Millisecond})
		lis, stop := serve(rt, s)
		defer stop()
		fakes := make([]*fakeEnvoy, rapid.IntRange(1, 3).Draw(rt, "envoys"))
		for i := range fakes {
			fakes[i] = newFake(fmt.Sprint("envoy-", i), "edge", lis)
			defer fakes[i].disconnect()
		}
		last := shape{}.snapshot()
		one := func(rt *rapid.T) *fakeEnvoy { return fakes[rapid.IntRange(0, len(fakes)-1).Draw(rt, "envoy")] }
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				last = drawShape(rt).snapshot()
				s.Publish("edge", last)
			},
			"publish and wait": func(rt *rapid.T) {
				for _, f := range fakes {
					f.setSilent(false)
				}
				last = drawShape(rt).snapshot()
				s.Publish("edge", last)
				wait(rt, s, last)
			},
			"fall silent": func(rt *rapid.T) { one(rt).setSilent(true) },
			"speak":       func(rt *rapid.T) { one(rt).setSilent(false) },
			"reconnect":   func(rt *rapid.T) { one(rt).reconnect(rt, false) },
			"restart":     func(rt *rapid.T) { one(rt).reconnect(rt, true) },
			"disconnect":  func(rt *rapid.T) { one(rt).disconnect() },
			"pause":       func(rt *rapid.T) { time.Sleep(time.Millisecond) }, // only to vary the interleaving
			"":            func(rt *rapid.T) { checkAll(rt, fakes) },
		})
		for _, f := range fakes {
			f.setSilent(false)
			if f.conn == nil {
				f.reconnect(rt, false)
			}
		}
		s.Publish("edge", last)
		for _, f := range fakes {
			f.await(rt, "the target", func() bool {
				lacks := f.lacks(last)
				if lacks != "" {
					f.note("%s", lacks)
				}
				return lacks == ""
			})
		}
		until(rt, "a state that says so", func() bool {
			return !slices.ContainsFunc(wait(rt, s, last), func(e xds.EnvoyStatus) bool {
				return e.State != xds.Synced && e.State != xds.Refused
			})
		})
		checkAll(rt, fakes)
	})
}

func drawShape(rt *rapid.T) shape {
	s := shape{clusters: map[string]int{}, routes: map[string]int{}, listeners: map[string]string{}, badOnes: map[string]bool{}}
	version := func(of string) int { return rapid.SampledFrom([]int{1, 2, 3, 4, -5}).Draw(rt, of) }
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"c", "cc", "d", "e"}), rapid.ID[string]).Draw(rt, "clusters") {
		s.clusters[name] = version(name)
	}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"l", "m"}), rapid.ID[string]).Draw(rt, "listeners") {
		route := rapid.SampledFrom([]string{"r", "q"}).Draw(rt, "of "+name)
		s.listeners[name], s.routes[route] = route, version(route)
		s.badOnes[name] = rapid.IntRange(0, 4).Draw(rt, "bad "+name) == 0
	}
	return s
}

func checkAll(rt *rapid.T, fakes []*fakeEnvoy) {
	for _, f := range fakes {
		f.mu.Lock()
		faults := f.faults
		f.mu.Unlock()
		if len(faults) > 0 {
			rt.Fatalf("%s: %v", f.id, faults)
		}
	}
}

func (f *fakeEnvoy) reconnect(tb rapid.TB, process bool) {
	f.disconnect()
	f.mu.Lock()
	if process {
		f.forget()
	}
	f.mu.Unlock()
	f.connect(tb)
}

// lacks is what it has not acknowledged of a snapshot although it asks for it and did not refuse it, or has although it
// should not; "" for nothing. Clusters may stay while an older listener or route is kept.
func (f *fakeEnvoy) lacks(snap *snapshot.Snapshot) string {
	kept := false
	for _, url := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.EndpointType} {
		table := snap.Table(url)
		for _, name := range table.Names() {
			want := table.Version(name)
			byName := url == resource.RouteType || url == resource.EndpointType
			if byName && !f.names[url][name] || f.acked[url][name] == want {
				continue
			}
			if f.refused[key{url, name, want}] == "" {
				return fmt.Sprint("lacks ", url, " ", name)
			}
			kept = kept || f.acked[url][name] != ""
		}
		for _, name := range slices.Sorted(maps.Keys(f.acked[url])) {
			if table.Version(name) == "" && !kept && url != resource.EndpointType {
				return fmt.Sprint("still has ", url, " ", name)
			}
		}
	}
	return ""
}
