package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	fleetSize   = 1000
	fleetRules  = 500
	fleetRounds = 7
	syncRounds  = 3
)

// The targets of a thousand nodes, in milliseconds.
const (
	mostSyncing  = 5000.0
	mostChanging = 1000.0
)

// fleet is a thousand nodes: how long all of them take to connect and have everything, and then to have one change.
// Their protocol is Envoy's; they only do nothing with what they get. The control plane is in another process.
func fleet(ctx context.Context, b *bench) error {
	floor, err := b.startFloor(ctx)
	if err != nil {
		return err
	}
	defer floor.stop()
	measured, _, err := b.startSluice(ctx, b.newStore(), false)
	if err != nil {
		return err
	}
	defer measured.stop()
	s := site{rules: fleetRules, own: true}
	for _, p := range []plane{floor, measured} {
		if err := p.apply(ctx, control.Request{Set: s.objects(1, b.backend.Addr().String())}); err != nil {
			return err
		}
	}
	return errors.Join(b.syncing(ctx, floor, measured), b.changing(ctx, floor, measured))
}

// syncing connects all nodes at once.
func (b *bench) syncing(ctx context.Context, floor, measured plane) error {
	took := map[plane]series{}
	for range b.rounds(syncRounds) {
		for _, p := range []plane{floor, measured} {
			began := time.Now()
			n, err := connect(ctx, p.xds(), fleetSize)
			if err != nil {
				return err
			}
			took[p] = append(took[p], milliseconds(time.Since(began)))
			n.close()
		}
	}
	f := compare(fmt.Sprintf("%d nodes connect and have everything, %d services and rules", fleetSize, fleetRules), "ms", took[measured], took[floor])
	return b.out.add(f.atMost(mostSyncing))
}

// changing makes one change at all nodes, of each kind.
func (b *bench) changing(ctx context.Context, floor, measured plane) error {
	backend := b.backend.Addr().String()
	for _, c := range []struct {
		what, typeURL string
		target        float64
		object        func(i int) policy.Object
	}{
		{"endpoint", resource.EndpointType, mostChanging, func(i int) policy.Object { return service(serviceName(0), fmt.Sprintf("127.0.0.1:%d", 2000+i), "") }},
		{"cluster", resource.ClusterType, mostChanging, func(i int) policy.Object {
			return service(serviceName(1), backend, fmt.Sprintf("  circuitBreaker: {maxPending: %d}\n", 100+i))
		}},
		{"route", resource.RouteType, 0, func(i int) policy.Object {
			return rule(ruleName(2), rulePath(2), serviceName(2), fmt.Sprintf("  timeout: %ds\n", 10+i))
		}},
	} {
		took := map[plane]series{}
		for _, p := range []plane{floor, measured} {
			n, err := connect(ctx, p.xds(), fleetSize)
			if err != nil {
				return err
			}
			for i := range b.rounds(fleetRounds) {
				d, err := n.timeTo(ctx, p, c.typeURL, c.object(i))
				if err != nil {
					n.close()
					return fmt.Errorf("%s change: %w", c.what, err)
				}
				took[p] = append(took[p], milliseconds(d))
			}
			n.close()
		}
		f := compare(fmt.Sprintf("one %s change at %d nodes", c.what, fleetSize), "ms", took[measured], took[floor])
		if c.target > 0 {
			f = f.atMost(c.target)
		}
		if err := b.out.add(f); err != nil {
			return err
		}
	}
	return nil
}

// timeTo publishes a changed object and waits until every node has got something of that type.
func (n *nodes) timeTo(ctx context.Context, p plane, typeURL string, changed policy.Object) (time.Duration, error) {
	publish, err := p.ready(ctx, control.Request{Set: []policy.Object{changed}}, true)
	if err != nil {
		return 0, err
	}
	all := n.expect(typeURL)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- publish(ctx) }()
	if err := n.wait(ctx, all); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, <-done
}
