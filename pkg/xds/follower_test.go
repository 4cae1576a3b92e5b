package xds_test

import (
	"context"
	"maps"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

func dial(t *testing.T, lis *bufconn.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// follower takes everything there is for Envoys, as an agent does.
type follower struct {
	t       *testing.T
	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	bodies  map[string]map[string][]byte
	version string
}

func follow(t *testing.T, lis *bufconn.Listener, have map[string]map[string][]byte) *follower {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, lis)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, stream: stream, bodies: map[string]map[string][]byte{}}
	for _, url := range xds.EnvoyTypes() {
		f.bodies[url] = map[string][]byte{}
		maps.Copy(f.bodies[url], have[url])
		versions := map[string]string{}
		table := snapshot.NewTable(maps.Clone(f.bodies[url]))
		for _, name := range table.Names() {
			versions[name] = table.Version(name)
		}
		err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: "agent", Cluster: "edge", UserAgentName: "sluice-agent"}, TypeUrl: url,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: versions,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// take takes responses until what there is bears the version that they say; it returns how many resources came.
func (f *follower) take() (resources int) {
	f.t.Helper()
	for first := true; first || f.digest() != f.version; first = false {
		resp, err := f.stream.Recv()
		if err != nil {
			f.t.Fatal(err)
		}
		f.version = resp.GetSystemVersionInfo()
		for _, r := range resp.GetResources() {
			f.bodies[resp.GetTypeUrl()][r.GetName()] = r.GetResource().GetValue()
			resources++
		}
		for _, name := range resp.GetRemovedResources() {
			delete(f.bodies[resp.GetTypeUrl()], name)
		}
		if err := f.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}); err != nil {
			f.t.Fatal(err)
		}
	}
	return resources
}

func (f *follower) digest() string {
	tables := map[string]*snapshot.Table{}
	for url, bodies := range f.bodies {
		tables[url] = snapshot.NewTable(maps.Clone(bodies))
	}
	return snapshot.New(tables).Digest()
}

func TestServer_WhoFollowsAllKnowsWhenNothingIsMissing(t *testing.T) {
	s := xds.New(xds.Config{PhaseTimeout: time.Minute, DrainDelay: time.Millisecond})
	lis, stop := serve(t, s)
	t.Cleanup(stop)
	secret := snapshot.NewTable(map[string][]byte{"certificate": []byte("key")})
	policy := snapshot.NewTable(map[string][]byte{"p": []byte("policy")})
	published := func(shape shape) *snapshot.Snapshot {
		return shape.snapshot().With(resource.SecretType, secret).With("type.googleapis.com/sluice.agent.v1.Policy", policy)
	}
	s.Publish("edge", published(one(1, 1)))
	f := follow(t, lis, nil)
	if f.take(); string(f.bodies[resource.SecretType]["certificate"]) != "key" || len(f.bodies[resource.RouteType]) != 1 {
		t.Errorf("it has %v", f.bodies)
	}
	// The clusters' endpoints of the first are named by nothing any more, and so are gone.
	s.Publish("edge", published(one(2, 2)))
	if f.take(); len(f.bodies[resource.EndpointType]) != 1 {
		t.Errorf("endpoints: %v", f.bodies[resource.EndpointType])
	}
	// One that has everything is told so, and nothing else.
	again := follow(t, lis, f.bodies)
	if n := again.take(); n != 0 {
		t.Errorf("%d resources came again", n)
	}
}

func TestServer_TurnsAwayThoseWhoPreferAnother(t *testing.T) {
	s := xds.New(xds.Config{})
	lis, stop := serve(t, s)
	t.Cleanup(stop)
	s.Publish("edge", one(1, 1).snapshot())
	for range 2 { // who comes again is served again
		f := follow(t, lis, nil)
		f.take()
		if n := s.TurnAway(); n != 1 {
			t.Errorf("turned %d away", n)
		}
		for {
			if _, err := f.stream.Recv(); err != nil {
				break
			}
		}
		connected(t, s, 0)
	}
	if n := s.TurnAway(); n != 0 {
		t.Errorf("turned %d away, and nobody is there", n)
	}
}

func TestServer_ServesOnceAnythingIsPublished(t *testing.T) {
	s := xds.New(xds.Config{})
	lis, stop := serve(t, s)
	t.Cleanup(stop)
	client := healthpb.NewHealthClient(dial(t, lis))
	is := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%v %v, want %v", got, err, want)
		}
	}
	is(healthpb.HealthCheckResponse_NOT_SERVING)
	s.Publish("edge", one(1, 1).snapshot())
	is(healthpb.HealthCheckResponse_SERVING)
}
