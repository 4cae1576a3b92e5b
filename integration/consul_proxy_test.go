package integration

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// faultProxy stands between two that talk: a control plane and an agent of Consul's, or Envoy and an agent of ours.
type faultProxy struct {
	address string
	backend string

	mu    sync.Mutex
	mode  proxyMode
	conns map[net.Conn]bool
}

type proxyMode int

// delay is how late what delays passes on is.
const delay = 500 * time.Millisecond

const (
	passes proxyMode = iota
	// swallows takes connections and bytes, and never answers: a network that drops everything.
	swallows
	// breaks resets every connection.
	breaks
	// delays passes everything on, late.
	delays
)

// startProxy listens until the test ends.
func startProxy(t *testing.T, backend string) *faultProxy {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{address: lis.Addr().String(), backend: backend, conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { lis.Close(); p.set(breaks); running.Wait() })
	return p
}

// set changes what happens, also to connections that are open; breaks ends them.
func (p *faultProxy) set(m proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	for c := range p.conns {
		if m == breaks {
			c.Close()
		}
	}
}

func (p *faultProxy) is(m proxyMode) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode == m
}

// keep remembers a connection; false if it is to end at once.
func (p *faultProxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return p.mode != breaks
}

func (p *faultProxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *faultProxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.keep(client) {
		return
	}
	network := "tcp"
	if strings.HasPrefix(p.backend, "/") {
		network = "unix"
	}
	server, err := net.Dial(network, p.backend)
	if err != nil {
		return
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client) })
	both.Go(func() { p.copy(client, server) })
	both.Wait()
}

func (p *faultProxy) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if p.is(delays) {
			time.Sleep(delay)
		}
		if !p.is(swallows) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}
