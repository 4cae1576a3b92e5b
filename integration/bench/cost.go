package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	costRounds    = 20
	rebuildRounds = 5
)

// The targets of what the control plane costs.
const (
	mostCPU        = 50.0  // milliseconds for one changed rule at 5,000
	mostMemory     = 120.0 // MiB at 1,000 rules with services of their own
	mostRebuilding = 1000.0
)

// cost is what a control plane with one Envoy takes: processor time for a changed rule, memory, and the time that it
// needs to serve again after a restart.
func cost(ctx context.Context, b *bench, s site) error {
	bareProcess, err := b.startFloor(ctx)
	if err != nil {
		return err
	}
	floor, err := b.newLane(bareProcess)
	if err != nil {
		return err
	}
	defer floor.close()
	store := b.newStore()
	serve, _, err := b.startSluice(ctx, store, false)
	if err != nil {
		return err
	}
	measured, err := b.newLane(serve)
	if err != nil {
		return err
	}
	defer measured.close()
	for _, l := range []*lane{floor, measured} {
		if err := l.load(ctx, s, b.backend.Addr().String()); err != nil {
			return err
		}
	}
	if err := errors.Join(b.changeCost(ctx, s, floor, measured), b.memoryCost(s, floor, measured)); err != nil {
		return err
	}
	measured.close() // the store is free
	return b.rebuilding(ctx, s, store)
}

// changeCost is the processor time that one changed rule takes, until Envoy has it.
func (b *bench) changeCost(ctx context.Context, s site, floor, measured *lane) error {
	took := map[*lane]series{}
	for i := range b.rounds(costRounds) {
		for _, l := range []*lane{floor, measured} {
			n := i % s.rules
			d, err := l.cpuOf(ctx, rule(ruleName(n), rulePath(n), serviceName(n), fmt.Sprintf("  timeout: %ds\n", i+2)))
			if err != nil {
				return err
			}
			took[l] = append(took[l], milliseconds(d))
		}
	}
	f := compare(fmt.Sprintf("processor time of the control plane, one changed rule of %d, proof apart", s.rules), "ms", took[measured], took[floor])
	return b.out.add(f.atMost(mostCPU))
}

// cpuOf is the processor time that publishing a changed object takes.
func (l *lane) cpuOf(ctx context.Context, changed policy.Object) (time.Duration, error) {
	publish, err := l.plane.ready(ctx, control.Request{Set: []policy.Object{changed}}, true)
	if err != nil {
		return 0, err
	}
	before, err := l.plane.proc().cpu()
	if err != nil {
		return 0, err
	}
	if err := publish(ctx); err != nil {
		return 0, err
	}
	after, err := l.plane.proc().cpu()
	return after - before, err
}

func (b *bench) memoryCost(s site, floor, measured *lane) error {
	own, err := measured.plane.proc().memory()
	if err != nil {
		return err
	}
	bare, err := floor.plane.proc().memory()
	if err != nil {
		return err
	}
	f := compare(fmt.Sprintf("resident memory of the control plane, %d rules with services of their own", s.rules), "MiB", series{own}, series{bare})
	if s.rules == 1000 {
		f = f.atMost(mostMemory)
	}
	return b.out.add(f)
}

// rebuilding is how long a restarted control plane takes until it is ready, with what is in the store and with an empty
// one.
func (b *bench) rebuilding(ctx context.Context, s site, store string) error {
	for _, proven := range []bool{false, true} {
		var full, empty series
		for range b.rounds(rebuildRounds) {
			for _, r := range []struct {
				store string
				took  *series
			}{{b.newStore(), &empty}, {store, &full}} {
				p, took, err := b.startSluice(ctx, r.store, proven)
				if err != nil {
					return err
				}
				p.stop()
				*r.took = append(*r.took, milliseconds(took))
			}
		}
		f := compare(fmt.Sprintf("ready after a restart, %d rules with services of their own, %s", s.rules, proofWord(proven)), "ms", full, empty)
		if !proven {
			f = f.atMost(mostRebuilding)
		}
		if err := b.out.add(f.over("the same on an empty store")); err != nil {
			return err
		}
	}
	return nil
}

func proofWord(proven bool) string {
	if proven {
		return "with proof"
	}
	return "proof apart"
}
