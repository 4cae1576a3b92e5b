package lastgood_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/lastgood"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// patience is about ten times the longest time anything here should take.
const patience = 30 * time.Second

// snap is a gateway's configuration with so many clusters; policy is what only agents are sent.
func snap(version string, clusters int, policy string) *snapshot.Snapshot {
	bodies := map[string]map[string][]byte{
		resource.ListenerType: {"http": []byte("listener")},
		resource.RouteType:    {"edge": []byte("routes " + version)},
		resource.SecretType:   {"certificate": []byte("key " + version), "other": []byte("key")},
		resource.ClusterType:  {}, resource.EndpointType: {},
	}
	wrapped, err := feature.Wrap([]byte(policy))
	if err != nil {
		panic(err)
	}
	bodies[feature.DataType] = map[string][]byte{"data": wrapped}
	for i := range clusters {
		name := "s" + strconv.Itoa(i)
		bodies[resource.ClusterType][name] = []byte("cluster")
		bodies[resource.EndpointType][name+"/"+version] = []byte("endpoints")
	}
	tables := map[string]*snapshot.Table{}
	for url, b := range bodies {
		tables[url] = snapshot.NewTable(b)
	}
	return snapshot.New(tables)
}

// version is the digest of what of a snapshot is for Envoys.
func version(s *snapshot.Snapshot) string { return s.With(feature.DataType, nil).Digest() }

// plane is a control plane that can be stopped and started.
type plane struct {
	t       *testing.T
	address string
	server  *xds.Server
	stop    func()
}

func startPlane(t *testing.T) *plane {
	p := &plane{t: t, address: "127.0.0.1:0"}
	p.start()
	return p
}

func (p *plane) start() {
	p.t.Helper()
	p.server = xds.New(xds.Config{DrainDelay: time.Millisecond})
	p.address, p.stop = run(p.t, p.server, p.address)
}

func run(t *testing.T, s *xds.Server, at string) (address string, stop func()) {
	t.Helper()
	lis, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, lis) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
		}
	}
	t.Cleanup(stop)
	return lis.Addr().String(), stop
}

// parser takes every data.
type parser struct{}

func (parser) Info() feature.Info            { return feature.Info{Name: "data", Stage: feature.StageExtAuthz} }
func (parser) New() feature.Spec             { return nil }
func (parser) ParseData([]byte) (any, error) { return struct{}{}, nil }

// beside is an agent with its copy.
type beside struct {
	*lastgood.Copy
	address string
	stop    func()
}

func startAgent(t *testing.T, file, server string) *beside {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	c := lastgood.New(lastgood.Config{Gateway: "edge", File: file, Server: xds.New(xds.Config{}), Log: log})
	if err := c.Load(); err != nil {
		t.Fatal(err)
	}
	client := &agent.Client{Holder: agent.NewHolder(feature.NewSet(parser{})), Gateway: "edge", Node: "agent-1", Servers: []string{server}, Mirror: c, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- client.Run(ctx) }()
	go func() { done <- c.Run(ctx) }()
	b := &beside{Copy: c}
	var stopServer func()
	b.address, stopServer = run(t, c.Server, "127.0.0.1:0")
	stopped := false
	b.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			<-done
			stopServer()
		}
	}
	t.Cleanup(b.stop)
	return b
}

func eventually(t rapid.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (b *beside) has(s *snapshot.Snapshot, stale bool) func() bool {
	return func() bool { now := b.Status(); return now.Version == version(s) && now.Stale == stale }
}

// ask is what an Envoy of a gateway is sent of a type at once; nothing comes in a moment where nothing is served.
func ask(t *testing.T, address, gateway, typeURL string) []string {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "e1", Cluster: gateway, UserAgentName: "envoy"}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range resp.GetResources() {
		names = append(names, r.GetName())
	}
	return names
}

func TestCopy_ServesTheLastGoodWhenTheControlPlaneIsAway(t *testing.T) {
	p, file := startPlane(t), filepath.Join(t.TempDir(), "copy")
	first, second := snap("1", 3, "a"), snap("2", 2, "b")
	p.server.Publish("edge", first)
	a := startAgent(t, file, p.address)
	eventually(t, "it has the first", a.has(first, false))
	p.server.Publish("edge", second)
	eventually(t, "it has the second, and not what that lacks", a.has(second, false))
	p.stop()
	eventually(t, "it is stale", a.has(second, true))
	if got := ask(t, a.address, "edge", resource.ClusterType); !slices.Equal(got, []string{"s0", "s1"}) {
		t.Errorf("an Envoy is sent %v", got)
	}
	if got := ask(t, a.address, "shop", resource.ClusterType); got != nil {
		t.Errorf("an Envoy of another gateway is sent %v", got)
	}
	asOf := a.Status().AsOf
	a.stop()

	// Another process, with only the file.
	a = startAgent(t, file, p.address)
	eventually(t, "the copy on disk is served", func() bool {
		return slices.Equal(ask(t, a.address, "edge", resource.ClusterType), []string{"s0", "s1"})
	})
	if now := a.Status(); !now.Stale || now.Version != version(second) || !now.AsOf.Truncate(time.Second).Equal(asOf.Truncate(time.Second)) {
		t.Errorf("%+v, was as of %v", now, asOf)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}

	// Back, with nothing changed: nothing is sent, and the server is told who was served meanwhile.
	p.start()
	p.server.Publish("edge", second)
	eventually(t, "it follows again", a.has(second, false))
	var told *xds.Outage
	for _, e := range p.server.Envoys() {
		told = e.Outage
	}
	if told == nil || !slices.Equal(told.Envoys, []string{"e1"}) || told.Since.After(told.Until) {
		t.Errorf("the control plane was told %+v", told)
	}
}

func TestCopy_AServerThatLostItsStoreWipesNothing(t *testing.T) {
	p, file := startPlane(t), filepath.Join(t.TempDir(), "copy")
	good := snap("1", 2, "a")
	p.server.Publish("edge", good)
	a := startAgent(t, file, p.address)
	eventually(t, "it has it", a.has(good, false))
	p.stop()
	p.start()
	p.server.Publish("shop", snap("9", 1, "x"))
	eventually(t, "the agent is back", func() bool { return len(p.server.Envoys()) == 1 })
	if !a.has(good, true)() {
		t.Errorf("%+v", a.Status())
	}
	if got := ask(t, a.address, "edge", resource.ClusterType); len(got) != 2 {
		t.Errorf("an Envoy is sent %v", got)
	}
	small := snap("2", 0, "a") // what is published is followed, however little it is
	p.server.Publish("edge", small)
	eventually(t, "a removal is a removal", a.has(small, false))
}

func TestCopy_EnvoysAreSentBack(t *testing.T) {
	p := startPlane(t)
	good := snap("1", 2, "a")
	p.server.Publish("edge", good)
	a := startAgent(t, "", p.address)
	eventually(t, "it has it", a.has(good, false))
	conn, err := grpc.NewClient("passthrough:///"+a.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "e1", Cluster: "edge"}, TypeUrl: resource.ClusterType}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.Recv(); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		t.Error("the stream was not ended")
	}
}

func TestLoad_WhatIsDamagedIsNotTaken(t *testing.T) {
	p, file := startPlane(t), filepath.Join(t.TempDir(), "copy")
	p.server.Publish("edge", snap("1", 3, "a"))
	a := startAgent(t, file, p.address)
	eventually(t, "it is written", func() bool { _, err := os.Stat(file); return err == nil })
	a.stop()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(text)
	changed[len(changed)-3] ^= 1
	for _, tt := range []struct{ name, gateway, text, want string }{
		{"whole", "edge", string(text), ""},
		{"cut", "edge", string(text[:len(text)-1]), "damaged"},
		{"empty", "edge", "", "damaged"},
		{"one bit", "edge", string(changed), "damaged"},
		{"another version", "edge", strings.Replace(string(text), " 1 ", " 2 ", 1), "of this version"},
		{"another gateway's", "shop", string(text), `of gateway "edge"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := lastgood.New(lastgood.Config{Gateway: tt.gateway, File: file, Server: xds.New(xds.Config{}), Log: slog.New(slog.DiscardHandler)})
			err := c.Load()
			if tt.want == "" && (err != nil || c.Status().Version == "") {
				t.Errorf("%v %+v", err, c.Status())
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || c.Status().Version != "") {
				t.Errorf("%v %+v", err, c.Status())
			}
		})
	}
}

// What is good is always something that was published, however the parts of it come.
func TestTake_NeverHalfAChange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		server := xds.New(xds.Config{})
		c := lastgood.New(lastgood.Config{Gateway: "edge", Server: server, Log: slog.New(slog.DiscardHandler)})
		held := snapshot.New(map[string]*snapshot.Table{})
		published := map[string]bool{"": true}
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			next := snap(rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "version"), rapid.IntRange(0, 3).Draw(rt, "clusters"), "").With(feature.DataType, nil)
			published[next.Digest()] = true
			urls := rapid.Permutation(xds.EnvoyTypes()).Draw(rt, "order")
			for _, url := range urls[:rapid.IntRange(0, len(urls)).Draw(rt, "that come")] {
				resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, SystemVersionInfo: next.Digest()}
				for _, name := range snapshot.Diff(held.Table(url), next.Table(url)) {
					if body := next.Table(url).Body(name); body != nil {
						resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: name, Resource: &anypb.Any{TypeUrl: url, Value: body}})
						continue
					}
					resp.RemovedResources = append(resp.RemovedResources, name)
				}
				c.Take("server", resp)
				held = held.With(url, next.Table(url))
				if !published[c.Status().Version] {
					rt.Fatalf("%s was never published", c.Status().Version)
				}
			}
		}
	})
}
