package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// served is the real program, `sluice serve`, and one Envoy.
type served struct {
	t          *testing.T
	binary     string
	dir        string
	xds, admin string // addresses
	client     *admin.Client
	cmd        *exec.Cmd
	log        *gateway.Buffer
	envoyAdmin string
	args       []string // more of them
}

// startServed builds and starts the program on an empty store, with more arguments.
func startServed(t *testing.T, args ...string) *served {
	t.Helper()
	s := &served{t: t, dir: t.TempDir(), log: &gateway.Buffer{}, args: args}
	s.xds, s.admin = fmt.Sprintf("127.0.0.1:%d", gateway.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", gateway.FreePort(t))
	s.binary = filepath.Join(s.dir, "sluice")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", s.binary, "../cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	client, err := admin.NewClient(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	s.client = client
	s.start()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("serve: %s", s.log)
		}
	})
	return s
}

// start starts the program on its store, and waits until it is ready.
func (s *served) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "serve", "--store", filepath.Join(s.dir, "store.db"), "--listen-xds", s.xds, "--listen-admin", s.admin, "--envoy", featuretest.Envoy(s.t))
	s.cmd.Args = append(s.cmd.Args, s.args...)
	s.cmd.Env = []string{"HOME=" + s.dir, "STATE_DIRECTORY=" + s.dir, "PATH=" + os.Getenv("PATH")}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	gateway.Eventually(s.t, "serve is ready", func() bool {
		resp, err := http.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill is kill -9.
func (s *served) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
}

// startEnvoy starts an Envoy of the gateway edge, and waits until it serves.
func (s *served) startEnvoy() {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // a socket's path must be short
	if err != nil {
		s.t.Fatal(err)
	}
	s.envoyAdmin = "unix:" + filepath.Join(dir, "admin")
	p := &envoy.Process{
		Binary: featuretest.Envoy(s.t), Concurrency: 1, DrainTime: time.Second,
		Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "e1", Servers: []string{s.xds}, Admin: s.envoyAdmin},
	}
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
	defer cancel()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
		defer cancel()
		_ = p.Stop(ctx)
		_ = os.RemoveAll(dir)
	})
	if err := p.Ready(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// envoyIs waits until the Envoy is in a state.
func (s *served) envoyIs(state string) {
	s.t.Helper()
	gateway.Eventually(s.t, "the Envoy is "+state, func() bool {
		known, err := s.client.Envoys(context.Background())
		return err == nil && len(known.Envoys) == 1 && known.Envoys[0].Connected && string(known.Envoys[0].State) == state
	})
}

// metric is the sum over a metric's series whose labels hold a text.
func (s *served) metric(name, labels string) float64 {
	s.t.Helper()
	sum := 0.0
	for line := range strings.Lines(s.fetch(http.DefaultClient, "http://"+s.admin+"/metrics")) {
		var value float64
		series, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(series, name) || !strings.Contains(series, labels) {
			continue
		}
		if _, err := fmt.Sscan(rest, &value); err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		sum += value
	}
	return sum
}

// stats are those of the Envoy whose name matches, as it prints them.
func (s *served) stats(filter string) string {
	s.t.Helper()
	return s.fetch(envoy.AdminClient(s.envoyAdmin), "http://envoy/stats?filter="+filter)
}

func (s *served) fetch(client *http.Client, url string) string {
	s.t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// run runs a command of the program against the server, and gives its output and exit code.
func (s *served) run(args ...string) (string, int) {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir, cmd.Env = s.dir, []string{"HOME=" + s.dir, "SLUICE_SERVER=" + s.admin, "USER=tester"}
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func objectsOf(t *testing.T, text string) []policy.Object {
	t.Helper()
	var problems policy.Problems
	objects, _ := policy.Split("policy.yaml", text, "test", &problems)
	if problems.Failed() {
		t.Fatal(problems.Render())
	}
	return objects
}
