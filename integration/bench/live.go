package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const liveRounds = 15

// The targets of one more rule, in milliseconds: above the floor without the proof, in all with it.
func liveTargets(rules int) (above, proven float64) {
	switch rules {
	case 1000:
		return 15, 150
	case 5000:
		return 40, 400
	}
	return 0, 0
}

// lanes are a floor and what is held against it.
type lanes struct{ floor, unproven, proven *lane }

func (l lanes) all() []*lane { return []*lane{l.floor, l.unproven, l.proven} }

func (b *bench) startLanes(ctx context.Context) (l lanes, stop func(), err error) {
	stop = func() {
		for _, one := range l.all() {
			if one != nil {
				one.close()
			}
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	bare, err := b.startFloor(ctx)
	if err != nil {
		return l, stop, err
	}
	if l.floor, err = b.newLane(bare); err != nil {
		return l, stop, err
	}
	if l.unproven, err = b.sluiceLane(ctx, false); err != nil {
		return l, stop, err
	}
	l.proven, err = b.sluiceLane(ctx, true)
	return l, stop, err
}

func (b *bench) sluiceLane(ctx context.Context, proven bool) (*lane, error) {
	p, _, err := b.startSluice(ctx, b.newStore(), proven)
	if err != nil {
		return nil, err
	}
	return b.newLane(p)
}

// live is one more rule: from the request to the admin API until the first 200 through Envoy.
func live(ctx context.Context, b *bench, s site) error {
	l, stop, err := b.startLanes(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, one := range l.all() {
		if err := one.load(ctx, s, b.backend.Addr().String()); err != nil {
			return err
		}
	}
	return errors.Join(b.oneMore(ctx, l, s, false), b.oneMore(ctx, l, s, true))
}

func (b *bench) oneMore(ctx context.Context, l lanes, s site, newService bool) error {
	took := map[*lane]series{}
	for i := range b.rounds(liveRounds) + 1 {
		for _, one := range l.all() {
			d, err := one.liveRound(ctx, s, i, newService, b.backend.Addr().String())
			if err != nil {
				return err
			}
			if i > 0 { // the first round warms up
				took[one] = append(took[one], milliseconds(d))
			}
		}
	}
	to := map[bool]string{false: "known", true: "new"}[newService]
	name := fmt.Sprintf("one more rule live, %d rules, %s services, to a %s service", s.rules, map[bool]string{false: "shared", true: "own"}[s.own], to)
	above, most := liveTargets(s.rules)
	unproven := compare(name+", "+proofWord(false), "ms", took[l.unproven], took[l.floor])
	proven := compare(name+", "+proofWord(true), "ms", took[l.proven], took[l.floor])
	if above > 0 {
		unproven, proven = unproven.atMost(unproven.Floor+above), proven.atMost(most)
	}
	return errors.Join(b.out.add(unproven), b.out.add(proven))
}

// liveRound adds a rule, and takes it away again.
func (l *lane) liveRound(ctx context.Context, s site, i int, newService bool, backend string) (time.Duration, error) {
	to, name := serviceName(0), fmt.Sprintf("extra-%d", i)
	path := fmt.Sprintf("/team%d/extra%d/api", i%20, i)
	var change, undo control.Request
	if newService {
		to = name
		change.Set = append(change.Set, service(name, backend, ""))
		undo.Delete = append(undo.Delete, policy.Ref{Kind: "Service", Name: name})
	}
	change.Set = append(change.Set, rule(name, path, to, ""))
	undo.Delete = append(undo.Delete, policy.Ref{Kind: "Route", Name: name})
	took, err := l.timeTo(ctx, change, path+"/1")
	if err != nil {
		return 0, err
	}
	if err := l.plane.apply(ctx, undo); err != nil {
		return 0, err
	}
	_, err = l.until(ctx, path+"/1", http.StatusNotFound)
	return took, err
}

// timeTo publishes a change and asks for a path until it is there.
func (l *lane) timeTo(ctx context.Context, change control.Request, path string) (time.Duration, error) {
	publish, err := l.plane.ready(ctx, change, false)
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- publish(ctx) }()
	at, err := l.until(ctx, path, http.StatusOK)
	return at.Sub(began), errors.Join(err, <-done)
}
