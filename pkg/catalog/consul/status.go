package consul

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// ServiceStatus is what an operator should see of a service.
type ServiceStatus struct {
	Key catalog.Key
	// Instances are those served; Usable those of them that may take traffic.
	Instances, Usable int
	// Answered is when Consul was last known to agree, zero if never. Staleness is how long ago that was, 0 while the
	// service is fresh: while a query waits at a Consul that has a leader.
	Answered  time.Time
	Staleness time.Duration
	// Error is why it is stale, "" if it is fresh.
	Error string
	// Polled says that there was no connection left to wait for changes.
	Polled bool
	// Held instances are served although Consul does not have them any more, at the latest until HeldUntil.
	Held      int
	HeldUntil time.Time
	HeldWhy   string
	// Flapping are the IDs of instances that change too often, sorted.
	Flapping []string
	// Problems are registrations that were left out, and why.
	Problems []string
	// OptIn is what its registration asks for, nil if nothing. Without instances, it stands until EmptyUntil.
	OptIn      *catalog.OptIn
	EmptyUntil time.Time
}

// Summary is what an operator should see of Consul as a whole.
type Summary struct {
	// Address is the agent's.
	Address string
	// Error is why it cannot be asked, "" if it can; Seen is when it was last well.
	Error string
	Seen  time.Time
	// Services are watched; Stale and Polled ones among them.
	Services, Stale, Polled int
	// Cure says how to do without polling, "" if nothing is polled.
	Cure string
	// FrozenUntil and FrozenWhy are of a freeze of removals, zero if there is none.
	FrozenUntil time.Time
	FrozenWhy   string
	// OptInsError is why it cannot be found out who opts in, "" if it can.
	OptInsError string
}

// Status of every service, in the order of their keys.
func (s *Source) Status() []ServiceStatus {
	now := time.Now()
	lost, seen := s.asker.contact.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ServiceStatus, 0, len(s.state.entries))
	for key, e := range s.state.entries {
		list = append(list, s.state.status(key, e, lost, seen, now))
	}
	slices.SortFunc(list, func(a, b ServiceStatus) int { return a.Key.Compare(b.Key) })
	return list
}

func (s *state) status(key catalog.Key, e *entry, lost error, seen, now time.Time) ServiceStatus {
	instances, _ := s.shield.Serve(key)
	held := s.shield.State(key)
	v := ServiceStatus{
		Key: key, Instances: len(instances), Answered: e.good, Polled: e.polled.Load(), Held: held.Held, HeldUntil: held.Until,
		HeldWhy: held.Why, Flapping: held.Flapping, Problems: e.problems, OptIn: e.optIn,
	}
	for _, i := range instances {
		if i.Usable() {
			v.Usable++
		}
	}
	if !e.empty.IsZero() {
		v.EmptyUntil = e.empty.Add(s.config.Linger)
	}
	since, why := e.freshness(lost, seen)
	if v.Error = why; why != "" {
		v.Staleness = max(now.Sub(since), time.Nanosecond)
	} else {
		v.Answered = since
	}
	return v
}

// freshness is until when a service is known to be right, and why not longer, "" if it still is.
func (e *entry) freshness(lost error, seen time.Time) (time.Time, string) {
	known := e.good
	if known.IsZero() {
		known = e.since
	}
	switch {
	case e.err != nil:
		if e.failing.After(known) && seen.After(known) {
			known = earlier(e.failing, seen)
		}
		return known, e.err.Error()
	case e.good.Before(e.since):
		return known, "consul has not answered yet"
	}
	if seen.After(known) {
		known = seen
	}
	if lost != nil {
		return known, lost.Error()
	}
	return known, ""
}

// Summary of the whole.
func (s *Source) Summary() Summary {
	lost, seen := s.asker.contact.State()
	sum := Summary{Address: s.config.Address, Seen: seen}
	if lost != nil {
		sum.Error = lost.Error()
	}
	for _, v := range s.Status() {
		sum.Services++
		if v.Error != "" {
			sum.Stale++
		}
		if v.Polled {
			sum.Polled++
		}
	}
	if sum.Polled > 0 {
		sum.Cure = fmt.Sprintf("%d of %d services are polled, since over HTTP/1.1 each waiting query takes one of the agent's connections; "+
			"reach the agent by https, or raise its limits.http_max_conns_per_client and the number of blocking queries here", sum.Polled, sum.Services)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.FrozenUntil, sum.FrozenWhy = s.state.shield.Frozen()
	if s.state.optInsErr != nil {
		sum.OptInsError = s.state.optInsErr.Error()
	}
	return sum
}
