package shield

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// flap is how often an instance changed lately.
type flap struct {
	changes []time.Time
	// until is the end of its pin, zero if it is not pinned.
	until time.Time
	// last is how it looked when it was last usable.
	last catalog.Instance
}

// noteFlaps counts the instances that came, went, broke or healed in an answer, and pins those that do it too often.
func (s *Shield) noteFlaps(v *service, answer []catalog.Instance, now time.Time) {
	if !v.known {
		return
	}
	before, after := byID(v.latest), byID(answer)
	for _, i := range v.latest {
		if i.Usable() && !after[i.ID].Usable() {
			s.noteFlap(v, i, now)
		}
	}
	for _, i := range answer {
		if i.Usable() && !before[i.ID].Usable() {
			s.noteFlap(v, i, now)
		}
	}
}

func (s *Shield) noteFlap(v *service, i catalog.Instance, now time.Time) {
	f := v.flaps[i.ID]
	if f == nil {
		f = &flap{}
		if v.flaps == nil {
			v.flaps = map[string]*flap{}
		}
		v.flaps[i.ID] = f
	}
	f.last = i
	f.changes = append(f.recent(now.Add(-s.config.FlapWindow)), now)
	if len(f.changes) <= s.config.FlapChanges {
		return
	}
	if f.until.IsZero() {
		s.report(Flapping, v.key, 1, fmt.Sprintf("%q changed %d times within %s", i.ID, len(f.changes), s.config.FlapWindow))
	}
	f.changes = f.changes[len(f.changes)-s.config.FlapChanges:]
	f.until = now.Add(s.config.FlapPin)
	delete(v.held, i.ID)
}

func (f *flap) recent(since time.Time) []time.Time {
	return slices.DeleteFunc(f.changes, func(t time.Time) bool { return !t.After(since) })
}

// next is when endPins has something to do.
func (f *flap) next(c Config) time.Time {
	if !f.until.IsZero() {
		return f.until
	}
	return f.changes[len(f.changes)-1].Add(c.FlapWindow)
}

// endPins ends the pins whose time is over, and forgets instances that have been steady.
func (s *Shield) endPins(v *service, now time.Time) {
	for id, f := range v.flaps {
		if !f.until.IsZero() && !f.until.After(now) {
			f.until = time.Time{}
			s.report(Steady, v.key, 1, fmt.Sprintf("%q has been steady for %s", id, s.config.FlapPin))
		}
		f.changes = f.recent(now.Add(-s.config.FlapWindow))
		if f.until.IsZero() && len(f.changes) == 0 {
			delete(v.flaps, id)
		}
	}
}

func (v *service) pinnedOut(id string) bool {
	f := v.flaps[id]
	return f != nil && !f.until.IsZero()
}

// pinned are the IDs of pinned instances, sorted.
func (v *service) pinned() []string {
	var ids []string
	for id := range v.flaps {
		if v.pinnedOut(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// applyPins takes pinned instances out; where no other is usable, it puts them in instead, as passing.
func (v *service) applyPins(instances map[string]catalog.Instance) {
	pinned := v.pinned()
	for _, id := range pinned {
		delete(instances, id)
	}
	for _, i := range instances {
		if i.Usable() {
			return
		}
	}
	for _, id := range pinned {
		last := v.flaps[id].last
		last.Health = catalog.Passing
		instances[id] = last
	}
}
