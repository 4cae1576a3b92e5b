package envoy_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/envoy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestBootstrapYAML(t *testing.T) {
	got, err := full().YAML()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "full.yaml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("bootstrap differs from %s (-want +got), run with -update if meant:\n%s", golden, diff)
	}
}

func TestBootstrapIsValid(t *testing.T) {
	binary := binary(t)
	certs := certificates(t)
	hostile := `a"b: {c}` + "\n- d # e"
	tests := []struct {
		name string
		give envoy.Bootstrap
	}{
		{"defaults", envoy.Bootstrap{Gateway: "edge", Node: "n1"}},
		{"everything", full()},
		{"three servers, sockets and names", envoy.Bootstrap{Gateway: "edge", Node: "n1", Agent: "unix:/run/sluice/agent.sock",
			Servers: []string{"unix:/run/sluice/xds.sock", "[::1]:18000", "localhost:18000"}, Admin: "unix:/run/sluice/admin.sock"}},
		{"mutual TLS", envoy.Bootstrap{Gateway: "edge", Node: "n1", Servers: []string{"192.0.2.1:18000", "xds.invalid:18000"}, TLS: certs}},
		{"mutual TLS, and the agent without", envoy.Bootstrap{Gateway: "edge", Node: "n1", Servers: []string{"192.0.2.1:18000"}, AgentXDS: envoy.DefaultAgentXDS, TLS: certs}},
		{"mutual TLS, rotating", envoy.Bootstrap{Gateway: "edge", Node: "n1", Servers: []string{"xds.invalid:18000"}, TLS: rotating(t, certs)}},
		{"hostile names", envoy.Bootstrap{Gateway: hostile, Node: hostile, Labels: map[string]string{hostile: hostile}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			yaml, err := tt.give.YAML()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "bootstrap.yaml")
			if err := os.WriteFile(file, yaml, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(binary, "--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", file).CombinedOutput()
			if err != nil {
				t.Errorf("envoy refuses it: %v\n%s", err, out)
			}
		})
	}
}

func TestBootstrapNode(t *testing.T) {
	b := parse(t, envoy.Bootstrap{Gateway: "edge", Node: "n1", Labels: map[string]string{"zone": "a", "tier": "gold"}})
	fields := b.GetNode().GetMetadata().GetFields()
	got := []string{
		b.GetNode().GetCluster(), b.GetNode().GetId(), b.GetNode().GetLocality().GetZone(),
		fields[envoy.MetadataBootstrap].GetStringValue(),
		fields[envoy.MetadataLabels].GetStructValue().GetFields()["tier"].GetStringValue(),
	}
	if diff := cmp.Diff([]string{"edge", "n1", "a", envoy.BootstrapVersion, "gold"}, got); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}

func TestBootstrapAdminOnlyReads(t *testing.T) {
	b := parse(t, envoy.Bootstrap{Gateway: "edge", Node: "n1"})
	allows := func(path string) bool {
		return slices.ContainsFunc(b.GetAdmin().GetAllowPaths(), func(m *matcherv3.StringMatcher) bool {
			return m.GetExact() == path || m.GetPrefix() != "" && strings.HasPrefix(path, m.GetPrefix())
		})
	}
	for _, path := range []string{"/ready", "/stats/prometheus?usedonly", "/clusters?format=json"} {
		if !allows(path) {
			t.Errorf("%s is not allowed", path)
		}
	}
	for _, path := range []string{"/", "/quitquitquit", "/runtime_modify?a=b", "/logging?level=trace", "/drain_listeners", "/healthcheck/fail", "/reset_counters"} {
		if allows(path) {
			t.Errorf("%s is allowed, it changes the Envoy", path)
		}
	}
}

func TestBootstrapErrors(t *testing.T) {
	tests := []struct {
		name string
		give envoy.Bootstrap
		want string
	}{
		{"no gateway", envoy.Bootstrap{Node: "n"}, "gateway is empty"},
		{"no node", envoy.Bootstrap{Gateway: "g"}, "node is empty"},
		{"bad server", envoy.Bootstrap{Gateway: "g", Node: "n", Servers: []string{"nope"}}, "want host:port or unix:/path"},
		{"port too large", envoy.Bootstrap{Gateway: "g", Node: "n", Servers: []string{"127.0.0.1:70000"}}, "up to 65535"},
		{"relative socket", envoy.Bootstrap{Gateway: "g", Node: "n", Agent: "unix:a.sock"}, "unix:/path"},
		{"remote server in clear", envoy.Bootstrap{Gateway: "g", Node: "n", Servers: []string{"192.0.2.1:1"}}, "not on this host"},
		{"remote agent", envoy.Bootstrap{Gateway: "g", Node: "n", Agent: "192.0.2.1:1"}, "agent runs beside"},
		{"remote agent's xDS", envoy.Bootstrap{Gateway: "g", Node: "n", AgentXDS: "192.0.2.1:1"}, "agent runs beside"},
		{"public admin", envoy.Bootstrap{Gateway: "g", Node: "n", Admin: "0.0.0.0:19000"}, "loopback"},
		{"half of TLS", envoy.Bootstrap{Gateway: "g", Node: "n", TLS: envoy.TLS{CA: "/ca"}}, "needed together"},
		{"relative key", envoy.Bootstrap{Gateway: "g", Node: "n", TLS: envoy.TLS{CA: "/ca", Certificate: "/c", Key: "k"}}, "absolute path"},
		{"name without TLS", envoy.Bootstrap{Gateway: "g", Node: "n", TLS: envoy.TLS{ServerName: "x"}}, "mean nothing"},
		{"negative heap", envoy.Bootstrap{Gateway: "g", Node: "n", MaxHeapBytes: -1}, "not be negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.give.YAML(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func full() envoy.Bootstrap {
	return envoy.Bootstrap{
		Gateway: "edge", Node: "edge-1", Labels: map[string]string{"region": "eu", "zone": "a", "tier": "gold"},
		Servers: []string{"127.0.0.1:18000", "127.0.0.1:18010"}, Agent: "unix:/run/sluice/agent.sock",
		AgentXDS: "unix:/run/sluice/xds.sock", Admin: "127.0.0.1:19000", MaxConnections: 1000, MaxHeapBytes: 1 << 30,
	}
}

func parse(t *testing.T, b envoy.Bootstrap) *bootstrapv3.Bootstrap {
	t.Helper()
	yaml, err := b.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, yaml)
}
