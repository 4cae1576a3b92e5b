package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluice-gateway/sluice/envoy"
)

// bench is what all scenarios share.
type bench struct {
	quick                     bool
	dir                       string
	sluiceBinary, envoyBinary string
	backend                   net.Listener // answers everything with 200
	log                       *os.File     // what the children write
	out                       *output
	stores, nodes             int
}

func newBench(ctx context.Context, quick bool) (_ *bench, err error) {
	b := &bench{quick: quick, out: &output{to: os.Stdout}}
	if b.envoyBinary, err = envoy.Find(""); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.log, err = os.Create(filepath.Join(b.dir, "log")); err != nil {
		return nil, err
	}
	b.sluiceBinary = filepath.Join(b.dir, "sluice")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.sluiceBinary, "github.com/sluice-gateway/sluice/cmd/sluice")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return b, b.startBackend()
}

func (b *bench) startBackend() (err error) {
	if b.backend, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	go func() { _ = http.Serve(b.backend, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) }()
	return nil
}

func (b *bench) close() {
	if b.backend != nil {
		b.backend.Close()
	}
	if b.log != nil {
		b.log.Close()
	}
	_ = os.RemoveAll(b.dir)
}

// rounds is how many a figure has, fewer in a quick run.
func (b *bench) rounds(n int) int {
	if b.quick {
		return max(n/4, 3)
	}
	return n
}
