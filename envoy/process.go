package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is one Envoy to run. Its fields are set before Start and not changed after.
type Process struct {
	// Binary is the path of Envoy. Required.
	Binary string
	// Bootstrap is what Envoy starts with.
	Bootstrap Bootstrap
	// Concurrency is the number of worker threads. 0 leaves it to Envoy: one a processor.
	Concurrency int
	// DrainTime is how long connections of a replaced listener live on, in whole seconds. 0 means Envoy's 600 s.
	DrainTime time.Duration
	// LogLevel is Envoy's, trace to off. Empty means warning.
	LogLevel string
	// Log receives what Envoy writes to its stdout and stderr. Nil discards it.
	Log io.Writer
	// Args are further flags of Envoy.
	Args []string

	cmd  *exec.Cmd
	file string
	done chan struct{}
	err  error
	// ended says that Stop was asked for, so that dying by its signal is no error.
	ended atomic.Bool
}

// Start starts Envoy and returns at once. On Linux, Envoy is killed when this program dies, however it dies.
func (p *Process) Start() error {
	yaml, err := p.Bootstrap.YAML()
	if err != nil {
		return err
	}
	if p.file, err = writeTemporary(yaml); err != nil {
		return fmt.Errorf("envoy: write bootstrap: %w", err)
	}
	p.cmd = exec.Command(p.Binary, p.arguments()...)
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	// Bounds the wait for a pipe that a child of Envoy might hold open.
	p.cmd.WaitDelay = time.Second
	dieWithParent(p.cmd)
	p.done = make(chan struct{})
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return fmt.Errorf("envoy: start %s: %w", p.Binary, err)
	}
	return nil
}

// run keeps its thread for itself: the signal of a parent's death is bound to the thread that started the child.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	defer os.Remove(p.file)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		err = p.cmd.Wait()
	}
	if err != nil && !p.ended.Load() {
		p.err = fmt.Errorf("envoy: %w", err)
	}
}

func (p *Process) arguments() []string {
	level := p.LogLevel
	if level == "" {
		level = "warning"
	}
	// Hot restart would tie Envoys of one host together by shared memory.
	args := []string{"--config-path", p.file, "--disable-hot-restart", "--log-level", level}
	if p.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(p.Concurrency))
	}
	if p.DrainTime > 0 {
		args = append(args, "--drain-time-s", strconv.Itoa(int(p.DrainTime/time.Second)))
	}
	return append(args, p.Args...)
}

// PID is Envoy's process id, 0 before Start.
func (p *Process) PID() int {
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Ready waits until Envoy's admin interface says that it serves. It fails when ctx or Envoy ends first.
func (p *Process) Ready(ctx context.Context) error {
	client := AdminClient(p.Bootstrap.withDefaults().Admin)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if isReady(ctx, client) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("envoy: not ready: %w", ctx.Err())
		case <-p.done:
			return fmt.Errorf("envoy: not ready: %w", errors.Join(errors.New("it has exited"), p.err))
		case <-tick.C:
		}
	}
}

func isReady(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/ready", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// AdminClient speaks to an admin interface at host:port or unix:/path, whatever host its requests name.
func AdminClient(admin string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		a, err := parseAddress(admin)
		if err != nil {
			return nil, err
		}
		if a.path != "" {
			return new(net.Dialer).DialContext(ctx, "unix", a.path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a.host, strconv.Itoa(int(a.port))))
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}
}

// Stop asks Envoy to end, kills it when ctx is done first, and returns when it is gone.
func (p *Process) Stop(ctx context.Context) error {
	if p.done == nil {
		return nil
	}
	p.ended.Store(true)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("envoy: stop: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("envoy: kill: %w", err)
	}
	<-p.done
	return nil
}

// Wait returns when Envoy has ended: nil after Stop or a clean exit, else how it ended.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

func writeTemporary(yaml []byte) (string, error) {
	f, err := os.CreateTemp("", "sluice-envoy-*.yaml")
	if err != nil {
		return "", err
	}
	_, err = f.Write(yaml)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}
