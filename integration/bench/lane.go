package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/control"
)

// pollEvery is how often a path is asked for that should appear.
const pollEvery = 500 * time.Microsecond

// lane is a control plane with one Envoy.
type lane struct {
	plane  plane
	envoy  *envoy.Process
	url    string
	port   int
	client *http.Client
}

// newLane takes the plane over: closing the lane stops it.
func (b *bench) newLane(p plane) (*lane, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	l := &lane{plane: p, url: "http://" + address, client: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
	if l.port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	b.nodes++
	node := "bench-" + strconv.Itoa(b.nodes)
	l.envoy = &envoy.Process{
		Binary: b.envoyBinary, Concurrency: 1,
		Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: node, Servers: []string{p.xds()}, Admin: "unix:" + b.dir + "/" + node},
	}
	return l, nil
}

// load brings the site up: first in the control plane, then in Envoy.
func (l *lane) load(ctx context.Context, s site, backend string) error {
	return l.begin(ctx, control.Request{Set: s.objects(l.port, backend)}, rulePath(s.rules-1)+"/1")
}

// begin applies, starts Envoy, and waits until the path answers.
func (l *lane) begin(ctx context.Context, change control.Request, path string) error {
	if err := l.plane.apply(ctx, change); err != nil {
		return err
	}
	if err := l.envoy.Start(); err != nil {
		return err
	}
	_, err := l.until(ctx, path, http.StatusOK)
	return err
}

func (l *lane) close() {
	l.client.CloseIdleConnections()
	if l.envoy.PID() != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.envoy.Stop(ctx)
	}
	l.plane.stop()
}

// until asks for a path until it answers so, and gives the time of that answer.
func (l *lane) until(ctx context.Context, path string, status int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := 0
	for {
		got, err := l.get(ctx, path)
		if err == nil && got == status {
			return time.Now(), nil
		}
		last = got
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%s never answered %d, but %d: %w", path, status, last, ctx.Err())
		case <-tick.C:
		}
	}
}

func (l *lane) get(ctx context.Context, path string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
