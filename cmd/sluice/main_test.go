package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

// binary is the program as it is shipped, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is the surroundings of one test's commands.
type world struct {
	t   *testing.T
	dir string // also HOME
	env []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	return &world{t: t, dir: dir, env: []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "USER=tester"}}
}

func (w *world) with(env ...string) *world {
	out := *w
	out.env = append(append([]string{}, w.env...), env...)
	return &out
}

// withEnvoy lets commands find the real Envoy.
func (w *world) withEnvoy() *world {
	w.t.Helper()
	return w.with("SLUICE_ENVOY=" + featuretest.Envoy(w.t))
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

func (w *world) run(args ...string) result { w.t.Helper(); return w.runIn("", args...) }

func (w *world) runIn(stdin string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = w.dir, w.env, strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) || ctx.Err() != nil {
		w.t.Fatalf("sluice %s: %v", strings.Join(args, " "), err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// wants checks how a command ended, and that its output holds some texts.
func (r result) wants(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("no %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
		t.FailNow()
	}
}

// process is a command that runs on.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	output strings.Builder
	more   chan struct{} // closed and replaced with each line
}

func (w *world) start(args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(binary, args...), done: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = w.dir, w.env
	r, pipe := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = pipe, pipe
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go p.read(r)
	go func() {
		_ = p.cmd.Wait() // the exit code is read from the state
		pipe.Close()
		close(p.done)
	}()
	w.t.Cleanup(func() { p.kill() })
	return p
}

func (p *process) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.output.WriteString(lines.Text() + "\n")
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

func (p *process) said() (string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String(), p.more
}

// await waits until the process has said a text after what it had said at the offset given, and gives the new offset.
func (p *process) await(offset int, text string) int {
	p.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		all, more := p.said()
		if i := strings.Index(all[offset:], text); i >= 0 {
			return offset + i + len(text)
		}
		select {
		case <-more:
		case <-p.done:
			if all, _ := p.said(); !strings.Contains(all[offset:], text) {
				p.t.Fatalf("ended without saying %q:\n%s", text, all)
			}
		case <-deadline:
			p.t.Fatalf("does not say %q:\n%s", text, all)
		}
	}
}

// interrupt ends the process as Ctrl-C does, and gives its exit code.
func (p *process) interrupt() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		all, _ := p.said()
		p.t.Fatalf("does not end:\n%s", all)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// freePort is a port that nobody uses now.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// policies are a gateway on a port, and one route that answers itself.
func policies(port int, body string) string {
	return fmt.Sprintf(`apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: %d, address: 127.0.0.1}]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: hello}
spec: {match: GET /hello, direct: {status: 200, body: %s}}
`, port, body)
}

// ask gets /hello of a gateway.
func ask(t *testing.T, port int) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/hello", port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
