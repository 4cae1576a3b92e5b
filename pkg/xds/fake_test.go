package xds_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/xds"
)

// patience is about ten times the longest time anything here should take.
const patience = 30 * time.Second

// serve runs a server on an in-memory listener until the returned function is called.
func serve(tb rapid.TB, s *xds.Server) (*bufconn.Listener, func()) {
	tb.Helper()
	lis := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, lis) }()
	return lis, func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("run: %v", err)
		}
	}
}

type key struct{ typeURL, name, version string }

// fakeEnvoy speaks delta ADS as Envoy does: it asks for clusters, then for their endpoints, then for listeners and
// their routes; acknowledges clusters only when all have endpoints; applies the good resources of a response and refuses
// the bad; and names what it has when it reconnects.
type fakeEnvoy struct {
	id, gateway string
	lis         *bufconn.Listener

	mu       sync.Mutex
	changed  *sync.Cond
	conn     *grpc.ClientConn
	stream   discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	epoch    int
	ended    chan struct{}
	silent   bool
	queue    []*discoveryv3.DeltaDiscoveryResponse
	asked    map[string]bool            // types asked for on this stream
	names    map[string]map[string]bool // subscribed, by type
	extra    map[string][]string        // types and names to ask for besides
	acked    map[string]map[string]string
	applied  map[string]map[string][]byte
	clusters []*discoveryv3.DeltaDiscoveryResponse // unanswered: something is warming
	refused  map[key]string
	received map[key]int
	count    int // resources received
	removed  []string
	faults   []string
	history  []string // what went back and forth, for the report of a failure
	bad      func(typeURL, name string, body []byte) bool
	message  func(names []string) string
}

func newFake(id, gateway string, lis *bufconn.Listener) *fakeEnvoy {
	f := &fakeEnvoy{id: id, gateway: gateway, lis: lis, extra: map[string][]string{}, bad: marked}
	f.message = func(names []string) string {
		return "goo.gle/debugonly junk\nError adding/updating: " + strings.Join(names, ": no, ") + ": no"
	}
	f.changed = sync.NewCond(&f.mu)
	f.forget()
	return f
}

// marked takes a resource as bad that has the word in it.
func marked(_, _ string, body []byte) bool { return strings.Contains(string(body), "unacceptable") }

// forget is what a new process knows: nothing.
func (f *fakeEnvoy) forget() {
	f.note("new process")
	f.names, f.acked, f.applied = map[string]map[string]bool{}, map[string]map[string]string{}, map[string]map[string][]byte{}
	f.refused, f.received = map[key]string{}, map[key]int{}
}

func (f *fakeEnvoy) connect(tb rapid.TB) {
	tb.Helper()
	conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.lis.DialContext(ctx) }))
	if err != nil {
		tb.Fatal(err)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn, f.stream, f.ended = conn, stream, make(chan struct{})
	f.asked, f.queue, f.clusters = map[string]bool{}, nil, nil
	f.epoch++
	for _, url := range slices.Sorted(maps.Keys(f.extra)) {
		f.subscribe(url, f.extra[url], nil)
	}
	f.subscribe(resource.RuntimeType, []string{"sluice"}, nil)
	f.subscribe(resource.ClusterType, []string{"*"}, nil)
	for _, url := range []string{resource.EndpointType, resource.ListenerType, resource.RouteType} {
		held := f.names[url]
		if len(held) > 0 || url == resource.ListenerType && len(f.acked[resource.ClusterType]) > 0 {
			f.subscribe(url, slices.Sorted(maps.Keys(held)), nil)
		}
	}
	go f.read(stream, f.ended, f.epoch)
}

// disconnect ends the stream after all that was said has been heard.
func (f *fakeEnvoy) disconnect() {
	f.mu.Lock()
	conn, ended := f.conn, f.ended
	if conn != nil {
		_ = f.stream.CloseSend()
		f.epoch++ // what comes now is not read
		f.queue, f.clusters = nil, nil
	}
	f.mu.Unlock()
	if conn != nil {
		<-ended
		_ = conn.Close()
	}
	f.mu.Lock()
	f.conn = nil
	f.mu.Unlock()
}

func (f *fakeEnvoy) read(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, ended chan struct{}, epoch int) {
	defer close(ended)
	for {
		resp, err := stream.Recv()
		if err != nil {
			return
		}
		f.mu.Lock()
		if epoch == f.epoch {
			f.queue = append(f.queue, resp)
			f.work()
		}
		f.changed.Broadcast()
		f.mu.Unlock()
	}
}

// setSilent makes it read without answering, or answer what has piled up.
func (f *fakeEnvoy) setSilent(silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = silent
	f.work()
	f.changed.Broadcast()
}

func (f *fakeEnvoy) work() {
	for !f.silent && len(f.queue) > 0 {
		resp := f.queue[0]
		f.queue = f.queue[1:]
		f.apply(resp)
		f.answerWarm()
	}
}

func (f *fakeEnvoy) apply(resp *discoveryv3.DeltaDiscoveryResponse) {
	url := resp.GetTypeUrl()
	if f.applied[url] == nil {
		f.applied[url] = map[string][]byte{}
	}
	for _, r := range resp.GetResources() {
		f.receive(url, r)
	}
	for _, name := range resp.GetRemovedResources() {
		f.note("lost %s %s", path.Base(url), name)
		f.removed = append(f.removed, name)
		delete(f.applied[url], name)
	}
	switch url {
	case resource.ClusterType:
		f.follow(resource.EndpointType, f.assignments())
		f.clusters = append(f.clusters, resp)
	case resource.ListenerType:
		f.follow(resource.RouteType, f.routes())
		f.answer(resp)
	default:
		f.answer(resp)
	}
}

func (f *fakeEnvoy) receive(url string, r *discoveryv3.Resource) {
	k := key{url, r.GetName(), r.GetVersion()}
	f.count++
	f.received[k]++
	f.note("got %s %s %.4s", path.Base(url), r.GetName(), r.GetVersion())
	if f.refused[k] != "" {
		f.faults = append(f.faults, fmt.Sprintf("%v was sent again after it was refused:\n%s", k, strings.Join(f.history, "\n")))
	}
	body := r.GetResource().GetValue()
	if f.bad(url, r.GetName(), body) {
		return
	}
	if url == resource.RouteType {
		f.checkClusters(r.GetName(), body)
	}
	f.applied[url][r.GetName()] = body
}

// checkClusters looks whether the clusters of a route, in the versions its routes' names tell, are acknowledged.
func (f *fakeEnvoy) checkClusters(name string, body []byte) {
	for cluster, version := range namedClusters(body) {
		if f.acked[resource.ClusterType][cluster] != version && f.refused[key{resource.ClusterType, cluster, version}] == "" {
			f.faults = append(f.faults, fmt.Sprintf("route %s came before its cluster %s %.8s, has %.8s",
				name, cluster, version, f.acked[resource.ClusterType][cluster]))
		}
	}
}

// answerWarm acknowledges clusters when all have endpoints, then asks for listeners.
func (f *fakeEnvoy) answerWarm() {
	for name := range f.assignments() {
		if _, ok := f.applied[resource.EndpointType][name]; !ok {
			return
		}
	}
	for _, resp := range f.clusters {
		f.answer(resp)
	}
	if len(f.clusters) > 0 && !f.asked[resource.ListenerType] {
		f.subscribe(resource.ListenerType, nil, nil)
	}
	f.clusters = nil
}

func (f *fakeEnvoy) answer(resp *discoveryv3.DeltaDiscoveryResponse) {
	url := resp.GetTypeUrl()
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: resp.GetNonce()}
	var bad []string
	for _, r := range resp.GetResources() {
		if f.bad(url, r.GetName(), r.GetResource().GetValue()) {
			bad = append(bad, r.GetName())
			f.refused[key{url, r.GetName(), r.GetVersion()}] = "x"
		}
	}
	if len(bad) > 0 {
		req.ErrorDetail = &rpcstatus.Status{Code: 13, Message: f.message(bad)}
	}
	if f.acked[url] == nil {
		f.acked[url] = map[string]string{}
	}
	for _, r := range resp.GetResources() {
		byName := url == resource.RouteType || url == resource.EndpointType
		if len(bad) == 0 && (!byName || f.names[url][r.GetName()]) {
			f.acked[url][r.GetName()] = r.GetVersion()
		}
	}
	for _, name := range resp.GetRemovedResources() {
		delete(f.acked[url], name)
	}
	f.note("answered %s %s, bad %v", path.Base(url), resp.GetNonce(), bad)
	_ = f.stream.Send(req)
}

// note remembers an event.
func (f *fakeEnvoy) note(format string, args ...any) {
	f.history = append(f.history, fmt.Sprintf("%d: ", f.epoch)+fmt.Sprintf(format, args...))
	f.history = f.history[max(0, len(f.history)-60):]
}

// follow subscribes to exactly these names.
func (f *fakeEnvoy) follow(url string, want map[string]bool) {
	var add, drop []string
	for name := range want {
		if !f.names[url][name] {
			add = append(add, name)
		}
	}
	for name := range f.names[url] {
		if !want[name] {
			drop = append(drop, name)
			delete(f.applied[url], name)
			delete(f.acked[url], name)
		}
	}
	if len(add)+len(drop) > 0 {
		f.subscribe(url, add, drop)
	}
	f.names[url] = want
}

func (f *fakeEnvoy) subscribe(url string, names, not []string) {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names, ResourceNamesUnsubscribe: not}
	if len(f.asked) == 0 {
		req.Node = f.node()
	}
	if !f.asked[url] {
		f.asked[url] = true
		req.InitialResourceVersions = f.acked[url]
	}
	f.note("asked %s for %v, not %v, has %d", path.Base(url), names, not, len(req.GetInitialResourceVersions()))
	_ = f.stream.Send(req)
}

func (f *fakeEnvoy) node() *corev3.Node {
	return &corev3.Node{
		Id: f.id, Cluster: f.gateway, UserAgentName: "envoy",
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"sluice.bootstrap": structpb.NewStringValue("7"),
			"sluice.labels": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"zone": structpb.NewStringValue("a"),
			}}),
		}},
	}
}

// assignments are the EDS names of the clusters it has.
func (f *fakeEnvoy) assignments() map[string]bool {
	names := map[string]bool{}
	for _, body := range f.applied[resource.ClusterType] {
		c := &clusterv3.Cluster{}
		if proto.Unmarshal(body, c) == nil && c.GetType() == clusterv3.Cluster_EDS {
			names[c.GetEdsClusterConfig().GetServiceName()] = true
		}
	}
	return names
}

// routes are the RDS names of the listeners it has: the fake's listeners carry them as their stat prefix.
func (f *fakeEnvoy) routes() map[string]bool {
	names := map[string]bool{}
	for _, body := range f.applied[resource.ListenerType] {
		l := &listenerv3.Listener{}
		if proto.Unmarshal(body, l) == nil {
			names[l.GetStatPrefix()] = true
		}
	}
	return names
}

// await waits until the condition holds for what it has; the caller's condition runs under its lock.
func (f *fakeEnvoy) await(tb rapid.TB, what string, ok func() bool) {
	tb.Helper()
	timer := time.AfterFunc(patience, func() { f.changed.Broadcast() })
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		if !time.Now().Before(deadline) {
			tb.Fatalf("%s: waited in vain for %s:\n%s", f.id, what, strings.Join(f.history, "\n"))
		}
		f.changed.Wait()
	}
}

func (f *fakeEnvoy) has(url, name, version string) func() bool {
	return func() bool { return f.acked[url][name] == version }
}

func (f *fakeEnvoy) checkFaults(tb rapid.TB) {
	tb.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		tb.Errorf("%s: %s", f.id, fault)
	}
}

func (f *fakeEnvoy) resources() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}
