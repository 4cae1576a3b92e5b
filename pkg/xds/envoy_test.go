package xds_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// TestRealEnvoy runs one Envoy through what only it can show.
func TestRealEnvoy(t *testing.T) {
	binary := envoyBinary(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer backend.Close()
	r := &realRun{backend: backend.Listener.Addr().(*net.TCPAddr), listen: freePort(t), xds: freePort(t)}
	s, stop := r.serve(t)
	defer func() { stop() }()
	defer r.startEnvoy(t, binary)()
	t.Run("starts", func(t *testing.T) {
		s.Publish("edge", r.snapshot("c0", 1, 0))
		until(t, "the Envoy", func() bool { return len(s.Envoys()) == 1 })
		if got := r.reach(t, s, r.snapshot("c0", 1, 0)); got[0].State != xds.Synced || got[0].Version == "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("no error while a route flips to fresh clusters", func(t *testing.T) { r.flip(t, s) })
	t.Run("a changed cluster with the same endpoints", func(t *testing.T) {
		for v := 2; v < 5; v++ {
			if got := r.reach(t, s, r.snapshot("c30", v, 0)); got[0].State != xds.Synced {
				t.Errorf("%+v", got)
			}
		}
	})
	t.Run("a listener on a port in use", func(t *testing.T) { r.refuse(t, s) })
	t.Run("a restarted control plane sends nothing", func(t *testing.T) {
		stop()
		s, stop = r.serve(t)
		r.restarted(t, s)
	})
}

// realRun is what the parts of the test share.
type realRun struct {
	backend     *net.TCPAddr
	listen, xds int
}

func envoyBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLUICE_ENVOY"); path != "" {
		return path
	}
	path, err := exec.LookPath("envoy")
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "1":
		t.Fatal("no Envoy: set SLUICE_ENVOY")
	}
	t.Skip("no Envoy: set SLUICE_ENVOY or put envoy on PATH")
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

func (r *realRun) serve(t *testing.T) (*xds.Server, func()) {
	t.Helper()
	lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.xds))
	if err != nil {
		t.Fatal(err)
	}
	s := xds.New(xds.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, lis) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
}

func (r *realRun) reach(t *testing.T, s *xds.Server, snap *snapshot.Snapshot) []xds.EnvoyStatus {
	t.Helper()
	if err := snap.Consistent(); err != nil {
		t.Fatal(err)
	}
	return reach(t, s, snap)
}

func (r *realRun) flip(t *testing.T, s *xds.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	var requests, failed atomic.Int64
	var load errgroup.Group
	for range 4 {
		load.Go(func() error { return r.load(ctx, &requests, &failed) })
	}
	for i := range 30 {
		if got := r.reach(t, s, r.snapshot(fmt.Sprint("c", i+1), 1, 0)); got[0].State != xds.Synced {
			t.Errorf("flip %d: %+v", i, got)
		}
	}
	cancel()
	if err := load.Wait(); err != nil {
		t.Error(err)
	}
	if requests.Load() < 100 || failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), requests.Load())
	}
	t.Logf("%d requests over 30 flips, %d failed", requests.Load(), failed.Load())
}

// load asks again and again on one connection.
func (r *realRun) load(ctx context.Context, requests, failed *atomic.Int64) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for ctx.Err() == nil {
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", r.listen))
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		requests.Add(1)
		if resp.StatusCode != http.StatusOK {
			failed.Add(1)
		}
	}
	return nil
}

func (r *realRun) refuse(t *testing.T, s *xds.Server) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for i := range 3 {
		got := r.reach(t, s, r.snapshot(fmt.Sprint("d", i), 1, port))
		if got[0].State != xds.Refused || len(got[0].Refusals) != 1 {
			t.Fatalf("%+v", got)
		}
		refusal := got[0].Refusals[0]
		if refusal.Name != "taken" || refusal.Type != "listener" || !strings.Contains(refusal.Reason, "in use") {
			t.Errorf("%+v", refusal)
		}
		if got[0].Types["route"].Acknowledged != 1 {
			t.Errorf("the route did not come: %+v", got[0].Types)
		}
		if i == 0 {
			t.Log(refusal.Reason)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Metrics())
	if n := metric(t, reg, "sluice_xds_nack_total"); n != 1 {
		t.Errorf("%v refusals, want 1", n)
	}
	r.reach(t, s, r.snapshot("last", 1, 0))
}

func (r *realRun) restarted(t *testing.T, s *xds.Server) {
	snap := r.snapshot("last", 1, 0)
	s.Publish("edge", snap)
	until(t, "the Envoy to be synced", func() bool {
		got := s.Envoys()
		return len(got) == 1 && got[0].State == xds.Synced
	})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Metrics())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "sluice_xds_resources_sent_total" && m.GetCounter().GetValue() > 0 {
				t.Errorf("sent again: %v", m)
			}
		}
	}
	if got := r.reach(t, s, r.snapshot("later", 1, 0)); got[0].State != xds.Synced {
		t.Errorf("%+v", got)
	}
}

// snapshot routes all to one cluster, whose connect timeout is v seconds; taken, unless 0, is the port of a second
// listener.
func (r *realRun) snapshot(cluster string, v, taken int) *snapshot.Snapshot {
	service := fmt.Sprint(cluster, "/", v)
	listeners := map[string][]byte{"http": marshal(r.listener("http", r.listen))}
	if taken != 0 {
		listeners["taken"] = marshal(r.listener("taken", taken))
	}
	return snapshot.New(map[string]*snapshot.Table{
		resource.RuntimeType: snapshot.NewTable(map[string][]byte{"sluice": marshal(&runtimev3.Runtime{Name: "sluice"})}),
		resource.ClusterType: snapshot.NewTable(map[string][]byte{cluster: marshal(&clusterv3.Cluster{
			Name: cluster, ConnectTimeout: durationpb.New(time.Duration(v) * time.Second),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{ServiceName: service, EdsConfig: ads()},
		})}),
		resource.EndpointType: snapshot.NewTable(map[string][]byte{service: marshal(r.endpoints(service))}),
		resource.RouteType:    snapshot.NewTable(map[string][]byte{"edge": marshal(routeTo(cluster))}),
		resource.ListenerType: snapshot.NewTable(listeners),
	})
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func tcp(port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func (r *realRun) endpoints(service string) *endpointv3.ClusterLoadAssignment {
	endpoint := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Address: tcp(r.backend.Port)},
	}}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: service, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{endpoint}}},
	}
}

func routeTo(cluster string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: "edge", VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			}},
		}},
	}}}
}

func (r *realRun) listener(name string, port int) *listenerv3.Listener {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: "edge", ConfigSource: ads(),
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&routerv3.Router{})},
		}},
	}
	return &listenerv3.Listener{Name: name, Address: tcp(port), FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{
			Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(manager)},
		}},
	}}}
}

func packed(m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: marshal(m)}
}

const bootstrap = `
node: {id: real, cluster: edge}
layered_runtime:
  layers:
  - {name: rtds, rtds_layer: {name: sluice, rtds_config: {ads: {}, resource_api_version: V3}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services:
    - envoy_grpc: {cluster_name: xds, retry_policy: {retry_back_off: {base_interval: 0.05s, max_interval: 0.5s}}}
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: xds
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`

// startEnvoy starts one and returns what ends it.
func (r *realRun) startEnvoy(t *testing.T, binary string) func() {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, bootstrap, r.xds), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("envoy: %s", log.String())
		}
	}
}

// TestStatusIsReadByPrograms pins the names that scripts read from `envoys -o json`.
func TestStatusIsReadByPrograms(t *testing.T) {
	b, err := json.Marshal(xds.EnvoyStatus{Node: "a", State: xds.Synced, Refusals: []xds.RefusalStatus{{Type: "listener"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"node":"a","gateway":"","address":"","connected":false,"since":"0001-01-01T00:00:00Z","state":"synced",` +
		`"refusals":[{"type":"listener","name":"","version":"","reason":"","at":"0001-01-01T00:00:00Z"}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}
