package snapshot_test

import (
	"maps"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

func table(of map[string]string) *snapshot.Table {
	bodies := map[string][]byte{}
	for name, body := range of {
		bodies[name] = []byte(body)
	}
	return snapshot.NewTable(bodies)
}

func TestReadyBytesMarshalToThemselves(t *testing.T) {
	body, err := proto.Marshal(&routev3.RouteConfiguration{Name: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot.New(map[string]*snapshot.Table{resource.RouteType: snapshot.NewTable(map[string][]byte{"edge": body})})
	got, err := cachev3.MarshalResource(s.GetResources(resource.RouteType)["edge"])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(body, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := cachev3.HashResource(body); s.GetVersionMap(resource.RouteType)["edge"] != want {
		t.Error("the version is not the hash of the bytes")
	}
}

func TestNilIsEmpty(t *testing.T) {
	var none *snapshot.Table
	if none.Len() != 0 || none.Version("a") != "" || none.Body("a") != nil || snapshot.Diff(none, table(nil)) != nil {
		t.Error("a nil table is not empty")
	}
	if got := snapshot.Diff(none, table(map[string]string{"a": "1"})); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("got %v", got)
	}
}

// TestDiffAndOverlay compares both with what they are defined to be.
func TestDiffAndOverlay(t *testing.T) {
	names := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom([]string{"1", "2"}))
	rapid.Check(t, func(rt *rapid.T) {
		a, b := names.Draw(rt, "a"), names.Draw(rt, "b")
		differ := map[string]bool{}
		for _, name := range []string{"a", "b", "c", "d"} {
			if a[name] != b[name] {
				differ[name] = true
			}
		}
		got := map[string]bool{}
		for _, name := range snapshot.Diff(table(a), table(b)) {
			got[name] = true
		}
		if diff := cmp.Diff(differ, got); diff != "" {
			rt.Fatalf("diff (-want +got):\n%s", diff)
		}
		union := maps.Clone(a)
		maps.Copy(union, b)
		if snapshot.Overlay(table(a), table(b)).Digest() != table(union).Digest() {
			rt.Fatalf("overlay of %v and %v is not %v", a, b, union)
		}
	})
}

func TestConsistent(t *testing.T) {
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
		Rds: &hcmv3.Rds{RouteConfigName: "edge"},
	}, HttpFilters: []*hcmv3.HttpFilter{{Name: "f", ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
	}}}
	eds := &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	tests := []struct {
		name      string
		cluster   *clusterv3.Cluster
		listener  *listenerv3.Listener
		endpoints string
		routes    string
		filters   string
		want      []string
	}{
		{"all there", &clusterv3.Cluster{ClusterDiscoveryType: eds}, &listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{chain}}, "c", "edge", "f", nil},
		{"no endpoints", &clusterv3.Cluster{ClusterDiscoveryType: eds}, &listenerv3.Listener{}, "x", "edge", "", []string{`"c"`}},
		{
			"service name", &clusterv3.Cluster{ClusterDiscoveryType: eds, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: "s"}},
			&listenerv3.Listener{DefaultFilterChain: chain}, "c", "other", "g", []string{`"s"`, `"edge"`, `"f"`},
		},
		{"static cluster", &clusterv3.Cluster{}, &listenerv3.Listener{}, "x", "x", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cluster.Name = "c"
			err := snapshot.New(map[string]*snapshot.Table{
				resource.ClusterType:  one(t, "c", tt.cluster),
				resource.ListenerType: one(t, "l", tt.listener),
				resource.EndpointType: table(map[string]string{tt.endpoints: ""}),
				resource.RouteType:    table(map[string]string{tt.routes: ""}),

				resource.ExtensionConfigType: table(map[string]string{tt.filters: ""}),
			}).Consistent()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("error %v, want one that names %v", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %s", err, want)
				}
			}
		})
	}
}

func one(t *testing.T, name string, m proto.Message) *snapshot.Table {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.NewTable(map[string][]byte{name: body})
}

func TestChange(t *testing.T) {
	before := snapshot.NewTable(map[string][]byte{"a": []byte("1"), "b": []byte("1"), "c": []byte("1")})
	after := before.Change(map[string][]byte{"b": []byte("2"), "d": []byte("1")}, []string{"a", "x"})
	want := snapshot.NewTable(map[string][]byte{"b": []byte("2"), "c": []byte("1"), "d": []byte("1")})
	if after.Digest() != want.Digest() || before.Version("a") == "" {
		t.Errorf("%v, and before %v", after.Names(), before.Names())
	}
	if first := (*snapshot.Table)(nil).Change(map[string][]byte{"a": []byte("1")}, nil); first.Len() != 1 {
		t.Errorf("from nothing: %v", first.Names())
	}
}
