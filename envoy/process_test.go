package envoy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/envoy"
)

// patience is what an event may take before a test gives up; each comes within a second or two.
const patience = 30 * time.Second

func TestProcessFailsOver(t *testing.T) {
	dead := freeAddress(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer backend.Close()
	gateway := freeAddress(t)
	p := process(t, []string{dead, serveXDS(t, gateway, backend.Listener.Addr().String())})
	start(t, p)
	eventually(t, "answer through the gateway", func() bool { return get(t, http.DefaultClient, "http://"+gateway+"/a") == "hello" })

	admin := envoy.AdminClient(p.Bootstrap.Admin)
	defer admin.CloseIdleConnections()
	if got := get(t, admin, "http://envoy/server_info?x"); !strings.Contains(got, envoy.Release) {
		t.Errorf("server_info = %.100q, want release %s in it", got, envoy.Release)
	}
	if got := get(t, admin, "http://envoy/config_dump?resource=static_clusters"); strings.Contains(got, "not allowed") {
		t.Errorf("config_dump = %.100q", got)
	}
	resp, err := admin.Post("http://envoy/quitquitquit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("quitquitquit: %s, want 403", resp.Status)
	}
	checkSeries(t, get(t, admin, "http://envoy/stats/prometheus"))
}

// checkSeries counts what each route costs whoever keeps the metrics.
func checkSeries(t *testing.T, metrics string) {
	t.Helper()
	perRoute, perCluster := 0, 0
	for line := range strings.Lines(metrics) {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.Contains(line, `envoy_route="a-route"`):
			perRoute++
		case strings.Contains(line, `envoy_cluster_name="service"`):
			perCluster++
		}
	}
	if perRoute == 0 || perRoute > 20 {
		t.Errorf("%d series for a route, want 1 to 20", perRoute)
	}
	if perCluster == 0 || perCluster > 60 {
		t.Errorf("%d series for a cluster, want 1 to 60", perCluster)
	}
	t.Logf("%d series for a route, %d for a cluster, %d lines in all", perRoute, perCluster, strings.Count(metrics, "\n"))
}

func TestProcessSpeaksMutualTLS(t *testing.T) {
	certs := certificates(t)
	tests := []struct {
		name string
		tls  envoy.TLS
	}{
		{"files", certs},
		{"rotating files", rotating(t, certs)},
		{"server name", named(certs, "xds.example")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := process(t, []string{serveXDS(t, freeAddress(t), "127.0.0.1:1", mutualTLS(t, certs))})
			p.Bootstrap.TLS = tt.tls
			start(t, p)
		})
	}
}

// TestProcessRefusesAnotherServer has no event to wait for: Envoy says in its log that it refuses.
func TestProcessRefusesAnotherServer(t *testing.T) {
	certs := certificates(t)
	p := process(t, []string{serveXDS(t, freeAddress(t), "127.0.0.1:1", mutualTLS(t, certs))})
	p.Bootstrap.TLS = named(certs, "other.example")
	var log safeBuffer
	p.Log = &log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refusal in the log", func() bool { return strings.Contains(log.String(), "CERTIFICATE_VERIFY_FAILED") })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestProcessStopsAndWaits(t *testing.T) {
	p := process(t, []string{serveXDS(t, freeAddress(t), "127.0.0.1:1")})
	start(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("Wait after Stop = %v, want nil", err)
	}
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestProcessKillsWhatDoesNotStop(t *testing.T) {
	stubborn := filepath.Join(t.TempDir(), "stubborn")
	if err := os.WriteFile(stubborn, []byte("#!/bin/sh\ntrap '' TERM\necho up\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, log := io.Pipe()
	p := &envoy.Process{Binary: stubborn, Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "n"}, Log: log}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // the trap is set
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestProcessSaysWhyItIsNotReady(t *testing.T) {
	var log safeBuffer
	p := process(t, nil)
	p.Log, p.Args = &log, []string{"--no-such-flag"}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Ready(ctx); err == nil || !strings.Contains(err.Error(), "has exited") {
		t.Errorf("Ready = %v, want that it has exited", err)
	}
	if err := p.Wait(); err == nil {
		t.Error("Wait = nil, want how it ended")
	}
	if !strings.Contains(log.String(), "no-such-flag") {
		t.Errorf("log = %q, want Envoy's complaint", log.String())
	}
}

// TestProcessDiesWithItsParent kills a program that runs an Envoy: itself, run again with parentOf set.
func TestProcessDiesWithItsParent(t *testing.T) {
	const parentOf = "SLUICE_TEST_PARENT_OF"
	if path := os.Getenv(parentOf); path != "" {
		p := &envoy.Process{Binary: path, Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "n", Admin: freeAddress(t)}}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", p.PID())
		t.Log(p.Wait())
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child to its parent")
	}
	parent := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	parent.Env = append(os.Environ(), parentOf+"="+binary(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	eventually(t, "Envoy's end", func() bool { return gone(pid) })
}

// gone counts a zombie as gone: nobody may be there to reap it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func process(t *testing.T, servers []string) *envoy.Process {
	t.Helper()
	return &envoy.Process{
		Binary:      binary(t),
		Concurrency: 1,
		Bootstrap:   envoy.Bootstrap{Gateway: "edge", Node: "n1", Servers: servers, Admin: freeAddress(t)},
	}
}

// start gives back a process that is ready, and ends it with the test.
func start(t *testing.T, p *envoy.Process) {
	t.Helper()
	var log safeBuffer
	p.Log = &log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// serveXDS gives every Envoy a gateway at address with one route to backend.
func serveXDS(t *testing.T, address, backend string, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cache := cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil)
	if err := cache.SetSnapshot(t.Context(), "n1", oneRoute(t, address, backend)); err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	ctx, cancel := context.WithCancel(context.Background())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, serverv3.NewServer(ctx, cache, nil))
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(func() { cancel(); s.Stop() })
	return l.Addr().String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// safeBuffer takes Envoy's output while the test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
