package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// fleet is the Envoys that dev starts, one for each Gateway.
type fleet struct {
	binary   string // empty: none are started
	servers  []string
	agent    string // where they ask it; "" for the default
	admin    string
	log      io.Writer
	logLevel string

	running map[string]*envoy.Process
	started int
	failed  chan error
}

// until is a writer that is not written to any more when ctx has ended: that Envoys are told to end is no news.
type until struct {
	ctx context.Context
	w   io.Writer
}

func (u until) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return len(p), nil
	}
	return u.w.Write(p)
}

// stopTime is how long an Envoy may take to end before it is killed.
const stopTime = 5 * time.Second

// serve starts an Envoy for each Gateway that has none, and ends those of Gateways that are gone.
func (f *fleet) serve(ctx context.Context, config *model.Config) error {
	if f.binary == "" {
		return nil
	}
	wanted := map[string]bool{}
	for _, g := range config.Gateways {
		wanted[g.Name] = true
		if f.running[g.Name] == nil {
			if err := f.start(ctx, g.Name); err != nil {
				return err
			}
		}
	}
	for name, p := range f.running {
		if !wanted[name] {
			delete(f.running, name)
			if err := end(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fleet) start(ctx context.Context, gateway string) error {
	adminAddress, err := f.adminAddress()
	if err != nil {
		return err
	}
	p := &envoy.Process{
		Binary: f.binary, Log: until{ctx, f.log}, LogLevel: f.logLevel, Concurrency: 2, DrainTime: 5 * time.Second,
		Bootstrap: envoy.Bootstrap{Gateway: gateway, Node: "dev-" + gateway, Servers: f.servers, Agent: f.agent, Admin: adminAddress},
	}
	if err := p.Start(); err != nil {
		return err
	}
	if f.running == nil {
		f.running = map[string]*envoy.Process{}
	}
	f.running[gateway] = p
	f.started++
	go f.guard(p)
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Ready(ready); err != nil && ctx.Err() == nil {
		return fmt.Errorf("gateway %s: %w: what Envoy says stands above", gateway, err)
	}
	return nil
}

// guard tells when an Envoy ends by itself.
func (f *fleet) guard(p *envoy.Process) {
	if err := p.Wait(); err != nil {
		select {
		case f.failed <- fmt.Errorf("an Envoy ended by itself: %w", err):
		default:
		}
	}
}

// adminAddress is where the next Envoy's admin interface listens.
func (f *fleet) adminAddress() (string, error) {
	if f.admin != "" && f.started == 0 {
		return f.admin, nil
	}
	if f.admin != "" {
		host, port, err := net.SplitHostPort(f.admin)
		n, convErr := strconv.Atoi(port)
		if err != nil || convErr != nil {
			return fmt.Sprintf("%s-%d", f.admin, f.started+1), nil // a unix socket
		}
		return net.JoinHostPort(host, strconv.Itoa(n+f.started)), nil
	}
	address := "127.0.0.1:" + strconv.Itoa(19000+f.started)
	lis, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s, for Envoy's admin interface, is in use: is another Envoy running? Stop it, or choose with --envoy-admin", address)
	}
	return address, lis.Close()
}

// stop ends all Envoys.
func (f *fleet) stop() error {
	var errs []error
	for _, p := range f.running {
		errs = append(errs, end(p))
	}
	return errors.Join(errs...)
}

func end(p *envoy.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return p.Stop(ctx)
}

type listeningEnvoy struct{ gateway, admin string }

// listening are the Envoys' admin interfaces, by gateway.
func (f *fleet) listening() []listeningEnvoy {
	var out []listeningEnvoy
	for _, name := range slices.Sorted(maps.Keys(f.running)) {
		out = append(out, listeningEnvoy{name, f.running[name].Bootstrap.Admin})
	}
	return out
}
