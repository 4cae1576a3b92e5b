package shield

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// freeze is a time in which nothing is removed.
type freeze struct {
	until time.Time
	why   string
	// enough is how many usable instances end it early.
	enough int
}

func (f freeze) on() bool { return !f.until.IsZero() }

// checkCatalog freezes removals when the whole catalog shrinks, and holds what goes in a freeze.
func (s *Shield) checkCatalog(answered *service, now time.Time) {
	most, count := s.window.most(now), s.window.count
	switch {
	case s.frozen.on():
		s.holdInFreeze(answered, now)
	case s.shrank(most, count, answered, now):
		s.startFreeze(most, count, now)
		s.holdInFreeze(answered, now)
		for _, v := range s.active {
			s.holdInFreeze(v, now)
		}
	}
	if s.frozen.on() && count >= s.frozen.enough {
		s.endFreeze("the catalog has recovered")
		s.shortenHolds(now.Add(s.config.Hold))
	}
}

func (s *Shield) startFreeze(most, count int, now time.Time) {
	s.frozen = freeze{
		until:  now.Add(s.config.Freeze),
		why:    fmt.Sprintf("the catalog shrank from %d instances to %d within %s", most, count, s.config.CatalogWindow),
		enough: int(math.Ceil(float64(most) * (1 - s.config.CatalogLoss))),
	}
	s.report(Frozen, catalog.Key{}, most-count, s.frozen.why)
}

// shrank says whether the loss is one of the whole catalog: large in share and number, and of more than one service.
func (s *Shield) shrank(most, count int, answered *service, now time.Time) bool {
	fall := most - count
	if fall < s.config.CatalogLossMin || float64(fall) <= s.config.CatalogLoss*float64(most) {
		return false
	}
	losers := 0
	for _, v := range s.active {
		v.forgetLosses(now.Add(-s.config.CatalogWindow))
		if v != answered && len(v.gone)+len(v.held) > 0 {
			losers++
		}
	}
	return losers > 0 && len(answered.gone)+len(answered.held) > 0
}

func (s *Shield) holdInFreeze(v *service, now time.Time) {
	if v.exempt || len(v.gone)+len(v.held) == 0 {
		return
	}
	changed := len(v.gone) > 0
	v.forgetLosses(now.Add(-s.config.CatalogWindow))
	lost := make([]catalog.Instance, 0, len(v.gone))
	for _, id := range slices.Sorted(maps.Keys(v.gone)) {
		lost = append(lost, v.gone[id].instance)
	}
	v.hold(lost, s.frozen.until, s.frozen.why)
	for id, h := range v.held {
		h.until, h.why = s.frozen.until, s.frozen.why
		v.held[id] = h
	}
	if changed {
		v.touched = true
		s.settle(v, now)
	}
}

func (s *Shield) thaw(now time.Time) {
	if s.frozen.on() && !s.frozen.until.After(now) {
		s.endFreeze("its time is over")
	}
}

func (s *Shield) endFreeze(why string) {
	if !s.frozen.on() {
		return
	}
	s.frozen = freeze{}
	s.window.reset(s.window.count)
	s.report(Thawed, catalog.Key{}, 0, why)
	for _, v := range s.services {
		v.exempt = false
	}
}

func (s *Shield) shortenHolds(until time.Time) {
	for _, v := range s.services {
		for id, h := range v.held {
			if h.until.After(until) {
				h.until = until
				v.held[id] = h
			}
		}
	}
}

// window is how many usable instances there were in the last while.
type window struct {
	length time.Duration
	count  int
	past   []step
}

// step is the count that held until a change.
type step struct {
	at    time.Time
	count int
}

// grain is how exact the window is: changes closer together are one.
const grain = 100 * time.Millisecond

func (w *window) add(now time.Time, delta int) {
	if delta == 0 {
		return
	}
	n := len(w.past)
	if n == 0 || now.Sub(w.past[n-1].at) > grain {
		w.past = append(w.past, step{now, w.count})
	} else {
		w.past[n-1].count = max(w.past[n-1].count, w.count)
	}
	w.count += delta
}

// forget takes out instances that are no loss.
func (w *window) forget(n int) {
	w.count -= n
	for i := range w.past {
		w.past[i].count = max(w.past[i].count-n, 0)
	}
}

// reset begins anew with a count.
func (w *window) reset(count int) {
	w.count, w.past = count, nil
}

// most is the highest count within the window.
func (w *window) most(now time.Time) int {
	w.past = slices.DeleteFunc(w.past, func(s step) bool { return now.Sub(s.at) > w.length })
	most := w.count
	for _, s := range w.past {
		most = max(most, s.count)
	}
	return most
}
