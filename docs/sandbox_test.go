package docs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

// patience is how long an expected event is waited for: far longer than it ever takes.
const patience = 30 * time.Second

// tools are the programs that pages use.
type tools struct {
	dir   string // on the PATH of pages: sluice, envoy
	envoy string
	ports *ports
}

// ports gives each page ports of its own, below those that systems give to outgoing connections.
type ports struct {
	mu   sync.Mutex
	next int
}

// row is a hundred ports in a row that nothing listens on: its first.
func (p *ports) row(t *testing.T) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next < 32000 {
		first := p.next
		p.next += 100
		if free(first, 100) {
			return first
		}
	}
	t.Fatal("no hundred free ports in a row")
	return 0
}

func free(first, n int) bool {
	for port := first; port < first+n; port++ {
		lis, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		lis.Close()
	}
	return true
}

// buildTools builds them once. The envoy of pages is the real one, told not to share memory with others that run here.
func buildTools(t *testing.T) tools {
	t.Helper()
	out := tools{dir: t.TempDir(), envoy: featuretest.Envoy(t), ports: &ports{next: 10000 + 100*rand.IntN(150)}}
	build(t, out.dir, "./cmd/sluice")
	build(t, out.dir, "./examples/food-delivery")
	script := fmt.Sprintf("#!/bin/sh\nexec %q --disable-hot-restart --concurrency 1 -l warning \"$@\"\n", out.envoy)
	if err := os.WriteFile(filepath.Join(out.dir, "envoy"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return out
}

// addConsul puts the real Consul where pages find it; without one, a page that needs it is skipped.
func (t tools) addConsul(of *testing.T) {
	of.Helper()
	if err := os.Symlink(consul.Binary(of), filepath.Join(t.dir, "consul")); err != nil && !errors.Is(err, fs.ErrExist) {
		of.Fatal(err)
	}
}

// sandbox is a folder, ports and processes for one page.
type sandbox struct {
	t       *testing.T
	tools   tools
	dir     string
	ports   map[string]string // as pages write them: as they are here
	exports []string          // NAME=value lines of the page's own
	status  int               // exit code of the last command
	first   int               // of its hundred ports
}

func newSandbox(t *testing.T, tools tools) *sandbox {
	t.Helper()
	s := &sandbox{t: t, tools: tools, dir: t.TempDir(), ports: map[string]string{}}
	s.first = tools.ports.row(t)
	for i, port := range []string{"8080", "8081", "18000", "18001", "18080", "18081", "19000", "19001", "8500", "18011", "8443", "18002", "18003"} {
		s.ports[port] = strconv.Itoa(s.first + i)
	}
	for offset := 1; offset < 50; offset++ {
		s.ports[strconv.Itoa(9000+offset)] = strconv.Itoa(s.backends() + offset)
	}
	return s
}

var number = regexp.MustCompile(`\b\d{4,5}\b`)

// here is a page's text with the ports and folders of this sandbox; there is the way back.
func (s *sandbox) here(text string) string {
	text = strings.NewReplacer("/var/log/envoy", s.dir, "/etc/sluice", s.dir).Replace(text)
	return number.ReplaceAllStringFunc(text, func(n string) string {
		if port, ok := s.ports[n]; ok {
			return port
		}
		return n
	})
}

func (s *sandbox) there(text string) string {
	back := map[string]string{}
	for page, port := range s.ports {
		back[port] = page
	}
	return number.ReplaceAllStringFunc(text, func(n string) string {
		if page, ok := back[n]; ok {
			return page
		}
		return n
	})
}

func (s *sandbox) write(file, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(s.here(text)), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// environment is that of a user, with the defaults of addresses moved to this sandbox.
func (s *sandbox) environment() []string {
	admin := "127.0.0.1:" + s.ports["18080"]
	return append([]string{
		"PATH=" + s.tools.dir + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + s.dir, "USER=you", "LANG=C.UTF-8", "STATE_DIRECTORY=" + filepath.Join(s.dir, "state"),
		"SLUICE_ENVOY=" + s.tools.envoy, "SLUICE_SERVER=http://" + admin, "SLUICE_LISTEN_ADMIN=" + admin,
		"SLUICE_LISTEN_XDS=127.0.0.1:" + s.ports["18000"], "SLUICE_STORE=" + filepath.Join(s.dir, "store.db"),
		"CONSUL_HTTP_ADDR=127.0.0.1:" + s.ports["8500"],
	}, s.exports...)
}

// shell prepares a command line. The addresses that cannot be given by a variable are given as flags.
func (s *sandbox) shell(line string) *exec.Cmd {
	line = s.here(line)
	if !strings.Contains(line, "--xds") {
		line = strings.Replace(line, "sluice bootstrap ", fmt.Sprintf("sluice bootstrap --xds 127.0.0.1:%s --admin 127.0.0.1:%s --agent-xds 127.0.0.1:%s ",
			s.ports["18000"], s.ports["19000"], s.ports["18003"]), 1)
		line = strings.Replace(line, "sluice agent ", fmt.Sprintf("sluice agent --xds 127.0.0.1:%s --listen-agent 127.0.0.1:%s --listen-metrics 127.0.0.1:%s --listen-agent-xds 127.0.0.1:%s ",
			s.ports["18000"], s.ports["18001"], s.ports["18002"], s.ports["18003"]), 1)
	}
	line = strings.Replace(line, "sluice dev ", fmt.Sprintf("sluice dev --envoy-admin 127.0.0.1:%s ", s.ports["19000"]), 1)
	line = strings.Replace(line, "consul agent -dev", s.consulAgent(), 1)
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.environment()
	cmd.WaitDelay = time.Second
	return cmd
}

// consulAgent starts an agent that listens nowhere but on this sandbox's ports.
func (s *sandbox) consulAgent() string {
	first := s.first + 20
	return fmt.Sprintf("consul agent -dev -log-level=warn -http-port=%s -server-port=%d -serf-lan-port=%d -serf-wan-port=%d -dns-port=-1 -grpc-port=-1 -grpc-tls-port=-1",
		s.ports["8500"], first, first+1, first+2)
}

// run runs a command to its end and gives what it prints, with the ports of pages.
func (s *sandbox) run(line string) string {
	s.t.Helper()
	cmd := s.shell(line)
	out, _ := cmd.CombinedOutput() // a failure shows in the exit code
	s.status = cmd.ProcessState.ExitCode()
	return strings.ReplaceAll(s.there(string(out)), s.dir+"/", "")
}

// startExample is what make run does: the backends, and sluice dev on a copy of the example. Its variants lie beside it.
func (s *sandbox) startExample() {
	s.t.Helper()
	s.startBackends()
	files, err := filepath.Glob("../examples/food-delivery*/*.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	starters, err := filepath.Glob("../policies/*.yaml") // so that no page writes where the repository has something
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range append(files, starters...) {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		s.write(strings.TrimPrefix(filepath.ToSlash(file), "../"), string(text))
	}
	s.start("sluice dev examples/food-delivery")
}

// backends is the port that those of the backends are counted from.
func (s *sandbox) backends() int { return s.first + 50 }

// startBackends runs the example's backends.
func (s *sandbox) startBackends() {
	s.t.Helper()
	out := s.launch(exec.Command(filepath.Join(s.tools.dir, "food-delivery"), "-base", strconv.Itoa(s.backends())))
	s.await("the backends", out, func() bool { return strings.Contains(out.String(), "ready\n") })
}

// start starts what goes on running, and waits until it is there.
func (s *sandbox) start(line string) {
	s.t.Helper()
	admin, envoyAdmin := "18080", "19000"
	if strings.Contains(line, "18081") {
		admin = "18081"
	}
	if strings.Contains(line, "--base-id") {
		envoyAdmin = "19001"
	}
	out := s.launch(s.shell("exec " + line))
	scheme := "http://"
	if strings.Contains(line, "--admin-cert") {
		scheme = "https://"
	}
	address := scheme + "127.0.0.1:" + s.ports[admin] + "/readyz"
	if strings.HasPrefix(line, "envoy") { // it is ready only once there are policies, but lists its statistics before
		address = "http://127.0.0.1:" + s.ports[envoyAdmin] + "/stats?filter=server.live"
	}
	if strings.HasPrefix(line, "sluice agent") {
		address = "http://127.0.0.1:" + s.ports["18002"] + "/metrics"
	}
	if strings.HasPrefix(line, "consul agent") {
		address = "http://127.0.0.1:" + s.ports["8500"] + "/v1/catalog/nodes"
	}
	s.await(line, out, func() bool { return answers(address) })
	if strings.HasPrefix(line, "envoy") { // so that an apply after it does not come first
		s.await(line, out, func() bool { return !strings.Contains(s.run("sluice envoys"), "no Envoy has connected") })
	}
	if strings.HasPrefix(line, "sluice dev") {
		s.await(line, out, func() bool { return strings.Contains(out.String(), "listening:") })
	}
}

func answers(address string) bool {
	// Whether a server is there is asked, not which: pages show how certificates are checked.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	client := &http.Client{Timeout: 2 * time.Second, Transport: transport}
	resp, err := client.Get(address)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// launch starts a process that ends with the test.
func (s *sandbox) launch(cmd *exec.Cmd) *transcript {
	s.t.Helper()
	out := &transcript{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); out.end(); close(ended) }()
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
			s.t.Errorf("%s did not end when asked to", cmd)
		}
		if s.t.Failed() {
			s.t.Logf("%s printed:\n%s", cmd, out)
		}
	})
	return out
}

func (s *sandbox) await(what string, out *transcript, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if out.ended() || time.Now().After(deadline) {
			s.t.Fatalf("%s: it ended, or was not ready in %s:\n%s", what, patience, out)
		}
		time.Sleep(20 * time.Millisecond) // between looks
	}
}

// transcript gathers what a process prints, to be read meanwhile.
type transcript struct {
	mu   sync.Mutex
	b    bytes.Buffer
	done bool
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *transcript) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = true
}

func (o *transcript) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.done
}
