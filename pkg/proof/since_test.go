package proof_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/proof"
)

// TestProveSince has a prover that knows a snapshot judge a changed one: it finds what one finds that knows nothing.
func TestProveSince(t *testing.T) {
	route := func(i int) proof.Fault {
		return proof.Fault{Resource: resourcev3.RouteType, Name: fmt.Sprintf("route-%d", i), Origin: fmt.Sprintf("routes.yaml:%d", 10*i+1)}
	}
	tests := []struct {
		name   string
		change func(*gateway)
		want   []proof.Fault
	}{
		{"a route", func(g *gateway) { g.routes[3].GetRoute().PrefixRewrite = "/x" }, nil},
		{"a wrong route", func(g *gateway) { g.routes[177].Match = regex("a[(") }, []proof.Fault{route(177)}},
		{"a wrong cluster", func(g *gateway) { g.clusters[7].ConnectTimeout = durationpb.New(-1) },
			[]proof.Fault{{Resource: resourcev3.ClusterType, Name: "service-7"}}},
		{"a route to a cluster that is not there", func(g *gateway) {
			g.routes[5].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "gone"}
		}, []proof.Fault{route(5)}},
		{"a cluster goes that unchanged routes name", func(g *gateway) { g.clusters = g.clusters[:19] }, []proof.Fault{
			route(19), route(39), route(59), route(139), route(159), route(179), route(199), route(79), route(99), route(119)}}, // by leaf
		{"another domain, given twice", func(g *gateway) { g.domains = []string{"api.example", "*"} },
			[]proof.Fault{{Resource: resourcev3.RouteType, Name: "any"}}},
		{"a filter", func(g *gateway) { g.providers.Providers["idp"].JwksSourceSpecifier = inlineKeys("no keys") },
			[]proof.Fault{{Resource: resourcev3.ExtensionConfigType, Name: "jwt"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, p := newGateway(200), prover(t)
			if faults, err := p.Prove(t.Context(), g.snapshot()); err != nil || len(faults) > 0 {
				t.Fatal(faults, err)
			}
			tt.change(g)
			fresh, err := prover(t).Prove(t.Context(), g.snapshot())
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Prove(t.Context(), g.snapshot())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fresh, got); diff != "" {
				t.Errorf("a prover that knows nothing (-) and one that does (+):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(proof.Fault{}, "Reason"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProveSince_ShowsEnvoyOnlyWhatChanged looks at how much Envoy is given to read.
func TestProveSince_ShowsEnvoyOnlyWhatChanged(t *testing.T) {
	p := prover(t)
	sizes := filepath.Join(t.TempDir(), "sizes")
	script := filepath.Join(t.TempDir(), "envoy")
	text := fmt.Sprintf("#!/bin/sh\nwc -c <\"$4\" >>%s\nexec %s \"$@\"\n", sizes, p.Binary)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	p.Binary = script
	g := newGateway(1000)
	for _, change := range []func(){
		func() {},
		func() { g.routes[500].GetRoute().PrefixRewrite = "/x" },
		func() { g.clusters[50].ConnectTimeout = durationpb.New(9) },
	} {
		change()
		if faults, err := p.Prove(t.Context(), g.snapshot()); err != nil || len(faults) > 0 {
			t.Fatal(faults, err)
		}
	}
	read, err := os.ReadFile(sizes)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, field := range strings.Fields(string(read)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if len(got) != 3 || got[1] > got[0]/8 || got[2] > got[0]/8 {
		t.Errorf("Envoy read %v bytes: a whole, then twice a small change", got)
	}
}
