package proof_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/proof"
)

func TestProve(t *testing.T) {
	p := prover(t)
	badRoute := func(i int) proof.Fault {
		return proof.Fault{Resource: resourcev3.RouteType, Name: fmt.Sprintf("route-%d", i), Origin: fmt.Sprintf("routes.yaml:%d", 10*i+1)}
	}
	badCluster := proof.Fault{Resource: resourcev3.ClusterType, Name: "service-7"}
	tests := []struct {
		name   string
		change func(*gateway)
		want   []proof.Fault
		reason string // part of the first fault's
	}{
		{name: "sound", change: func(*gateway) {}},
		{"regex in a leaf", func(g *gateway) { g.routes[777].Match = regex("a[(") }, []proof.Fault{badRoute(777)}, "missing ]: [("},
		{"the first and the last route and a cluster", func(g *gateway) {
			g.routes[0].Match, g.routes[999].Match = regex("a("), regex("b)")
			g.clusters[7].ConnectTimeout = durationpb.New(-1)
		}, []proof.Fault{badCluster, badRoute(0), badRoute(999)}, "Expected positive duration"},
		{"unknown cluster in a leaf", func(g *gateway) {
			g.routes[5].Action = &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "gone"}}}
		}, []proof.Fault{badRoute(5)}, `unknown cluster "gone"`},
		{"unknown cluster beside a regex", func(g *gateway) {
			g.routes[5].GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "gone"}}
			g.routes[6].Match = regex("a(")
		}, []proof.Fault{badRoute(5), badRoute(6)}, `unknown cluster "gone"`},
		{"plain list", func(g *gateway) {
			g.plain = true
			g.routes[3].Match, g.routes[400].Match = regex("a["), regex("b[")
			g.routes[4].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "gone"}
		}, []proof.Fault{badRoute(4), badRoute(3), badRoute(400)}, "unknown cluster"},
		{"what no part alone shows", func(g *gateway) { g.input = &routerv3.Router{} },
			[]proof.Fault{{}}, "Didn't find a registered implementation"},
		{"filter", func(g *gateway) { g.filters = []*hcmv3.HttpFilter{lua("lua", "not lua (")} }, []proof.Fault{
			{Resource: resourcev3.ListenerType, Name: "http"}, {Resource: resourcev3.ListenerType, Name: "https"}}, "script load error"},
		{"discovered filter", func(g *gateway) { g.providers.Providers["idp"].JwksSourceSpecifier = inlineKeys("no keys") },
			[]proof.Fault{{Resource: resourcev3.ExtensionConfigType, Name: "jwt"}}, "Jwks"},
		{"certificate", func(g *gateway) { g.secret = secret("no certificate") },
			[]proof.Fault{{Resource: resourcev3.SecretType, Name: "edge-cert"}}, "Failed to load certificate chain"},
		{"domain given twice", func(g *gateway) { g.domains = []string{"api.example", "*"} },
			[]proof.Fault{{Resource: resourcev3.RouteType, Name: "any"}}, "Only a single wildcard domain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(1000)
			tt.change(g)
			got, err := p.Prove(t.Context(), g.snapshot())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(proof.Fault{}, "Reason"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("faults (-want +got):\n%s\n%+v", diff, got)
			}
			for _, f := range got {
				if f.Reason == "" || strings.ContainsAny(f.Reason, "\n") {
					t.Errorf("reason of %s = %q, want one line", f.Name, f.Reason)
				}
			}
			if len(got) > 0 && !strings.Contains(got[0].Reason, tt.reason) {
				t.Errorf("reason = %q, want %q in it", got[0].Reason, tt.reason)
			}
		})
	}
}

func TestProveLeavesNothing(t *testing.T) {
	p := prover(t)
	g := newGateway(10)
	g.accessLog = filepath.Join(t.TempDir(), "access.log")
	if faults, err := p.Prove(t.Context(), g.snapshot()); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	if _, err := os.Stat(g.accessLog); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the proof opened the access log: %v", err)
	}
	left, err := os.ReadDir(p.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestProveLooksUpNoName(t *testing.T) {
	p := prover(t)
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	g := newGateway(1)
	c := g.clusters[0]
	c.ClusterDiscoveryType, c.EdsClusterConfig = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}, nil
	c.TypedDnsResolverConfig = &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: pack(&caresv3.CaresDnsResolverConfig{
		Resolvers: []*corev3.Address{socket(uint32(dns.LocalAddr().(*net.UDPAddr).Port))}})}
	address := socket(80)
	address.GetSocketAddress().Address = "orders.internal"
	c.LoadAssignment = assignment(c.GetName(), address)
	if faults, err := p.Prove(t.Context(), g.snapshot()); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	// Envoy has ended: what it asked stands in the socket's buffer.
	if err := dns.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := dns.ReadFrom(make([]byte, 512)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the name server was asked %d bytes, %v", n, err)
	}
}

func TestProveRemembers(t *testing.T) {
	p := prover(t)
	s := newGateway(10).snapshot()
	if faults, err := p.Prove(t.Context(), s); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	p.Binary = "/gone"
	if faults, err := p.Prove(t.Context(), s); err != nil || len(faults) > 0 {
		t.Errorf("the same again: %v, %v; want no run", faults, err)
	}
	if _, err := p.Prove(t.Context(), newGateway(11).snapshot()); err == nil {
		t.Error("another snapshot was proven without an Envoy")
	}
}

func TestProveErrors(t *testing.T) {
	s := newGateway(1).snapshot()
	dir := t.TempDir()
	script := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return file
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		give *proof.Prover
		want string
	}{
		{"no binary", t.Context(), &proof.Prover{Binary: filepath.Join(dir, "none")}, "no such file"},
		{"no Envoy", t.Context(), &proof.Prover{Binary: script("other", "echo what >&2; exit 3")}, "exit status 3: what"},
		{"hangs", t.Context(), &proof.Prover{Binary: script("hangs", "exec sleep 60"), Timeout: 1}, "did not answer within"},
		{"canceled", canceled, &proof.Prover{Binary: script("never", "exit 0")}, "context canceled"},
		{"no folder", t.Context(), &proof.Prover{Binary: script("unused", "exit 0"), Dir: filepath.Join(dir, "none")}, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.give
			if faults, err := p.Prove(tt.ctx, s); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Prove = %v, %v; want an error with %q", faults, err, tt.want)
			}
		})
	}
}

func BenchmarkProve(b *testing.B) {
	for _, routes := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprint(routes), func(b *testing.B) {
			p := prover(b)
			s := newGateway(routes).snapshot()
			for b.Loop() {
				fresh := &proof.Prover{Binary: p.Binary, Dir: p.Dir}
				if faults, err := fresh.Prove(b.Context(), s); err != nil || len(faults) > 0 {
					b.Fatal(faults, err)
				}
			}
		})
	}
}
