package consul

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
)

// state is all that a source knows, and decides what is to be sent. It starts nothing and waits for nothing.
type state struct {
	config   Config
	counts   *counts
	shield   *shield.Shield
	resolver *resolver

	entries map[catalog.Key]*entry
	// unsettled and emptied are those of them that wait for a time.
	unsettled, emptied map[catalog.Key]*entry
	saved              map[catalog.Key]catalog.Service
	// pending is what is to be sent; batched is the form it was offered in, nil if it has changed since.
	pending map[catalog.Key]catalog.Service
	batched []catalog.Service
	// announced says that the first batch was sent, which tells that all is known even where there is nothing.
	announced bool
	starts    []catalog.Key
	// begun is when the first wanted list came; complete says that every key of it has been answered, or waited for.
	begun    time.Time
	complete bool
	// optInsKnown says that it was once heard who opted in.
	optInsKnown  bool
	optInsErr    error
	optInsPolled atomic.Bool
	unsaved      bool
	nextSave     time.Time
}

// entry is one service.
type entry struct {
	stop context.CancelFunc
	// wanted by a policy; listed as opting in; optedIn was listed once, so that its metadata is read.
	wanted, listed, optedIn bool
	polled                  atomic.Bool
	since                   time.Time
	// settled says that it may be sent: it was answered, or waited for long enough.
	settled bool
	// registered is the last good answer, before host names are looked up.
	registered []registration
	suspect    bool
	err        error
	failing    time.Time
	good       time.Time
	problems   []string
	optIn      *catalog.OptIn
	// empty is since when an opted-in service has had no instances.
	empty time.Time
	// delivered is the digest of what was sent last.
	delivered string
}

func newState(c Config, counts *counts) *state {
	return &state{
		config: c, counts: counts, shield: shield.New(c.Shield), resolver: newResolver(c.Resolve),
		entries: map[catalog.Key]*entry{}, unsettled: map[catalog.Key]*entry{}, emptied: map[catalog.Key]*entry{},
		pending: map[catalog.Key]catalog.Service{},
	}
}

// restore remembers what was saved; services that had opted in are watched from the start.
func (s *state) restore(services []catalog.Service, now time.Time) {
	s.saved = make(map[catalog.Key]catalog.Service, len(services))
	for _, v := range services {
		s.saved[v.Key] = v
		if v.OptIn != nil && s.config.Discover {
			s.ensure(v.Key, now).optedIn = true
		}
	}
}

// ensure is the entry of the key, begun if there is none.
func (s *state) ensure(key catalog.Key, now time.Time) *entry {
	if e, ok := s.entries[key]; ok {
		return e
	}
	e := &entry{since: now}
	if old, ok := s.saved[key]; ok {
		e.good, e.optIn = old.Answered, old.OptIn
		s.shield.Restore(key, old.Instances, now)
		delete(s.saved, key)
	}
	s.entries[key], s.unsettled[key] = e, e
	s.starts = append(s.starts, key)
	return e
}

func (s *state) takeStarts() []catalog.Key {
	list := slices.DeleteFunc(s.starts, func(k catalog.Key) bool { return s.entries[k] == nil || s.entries[k].stop != nil })
	s.starts = nil
	slices.SortFunc(list, catalog.Key.Compare)
	return slices.Compact(list)
}

// want takes over a list of wanted keys.
func (s *state) want(keys []catalog.Key, now time.Time) {
	if s.begun.IsZero() {
		s.begun = now
	}
	wanted := make(map[catalog.Key]bool, len(keys))
	for _, k := range keys {
		if k.Service != "" {
			wanted[k] = true
			s.ensure(k, now).wanted = true
		}
	}
	for k, e := range s.entries {
		switch e.wanted = wanted[k]; {
		case e.wanted:
		case e.optedIn:
			s.publish(k, now)
		default:
			s.drop(k, now)
		}
	}
	s.advance(now)
}

// discover takes over the list of those that opt in.
func (s *state) discover(d result[[]string], now time.Time) {
	if s.optInsErr = d.err; d.err != nil {
		return
	}
	s.optInsKnown = true
	listed := make(map[catalog.Key]bool, len(d.value))
	for _, name := range d.value {
		key := catalog.Key{Service: name}
		listed[key] = true
		if e := s.ensure(key, now); !e.optedIn {
			e.optedIn = true
			s.publish(key, now)
		}
	}
	for k, e := range s.entries {
		if e.listed = listed[k]; e.optedIn && !e.listed {
			s.publish(k, now)
		}
	}
	s.advance(now)
}

// answer takes in what a watch heard.
func (s *state) answer(a answered, now time.Time) {
	e, ok := s.entries[a.key]
	if !ok {
		return
	}
	if e.err = a.err; a.err != nil {
		if e.failing.IsZero() {
			e.failing = now
			s.config.Log.Debug("consul: a query failed", "service", a.key.String(), "error", a.err)
		}
		s.shield.Observe(a.key, shield.Answer{Err: a.err}, now)
		return
	}
	e.registered, e.suspect, e.failing, e.good = a.value, a.suspect, time.Time{}, now
	s.apply(a.key, now)
	s.advance(now)
}

// resolved takes in the end of a lookup.
func (s *state) resolved(found lookedUp, now time.Time) {
	for _, key := range s.resolver.take(found, now) {
		if s.entries[key] != nil {
			s.apply(key, now)
		}
	}
	s.advance(now)
}

// apply gives the last answer of a service to the shield, once its host names are known.
func (s *state) apply(key catalog.Key, now time.Time) {
	e := s.entries[key]
	instances, problems, ready := s.resolver.instances(key, e.registered)
	e.problems = problems
	if !ready {
		return
	}
	s.shield.Observe(key, shield.Answer{Instances: instances, Suspect: e.suspect}, now)
	s.settle(key, e)
	s.publish(key, now)
	for _, touched := range s.shield.Touched() {
		s.publish(touched, now)
	}
}

func (s *state) settle(key catalog.Key, e *entry) {
	e.settled = true
	delete(s.unsettled, key)
}

// publish notes what is to be sent of a service, if it differs from what was.
func (s *state) publish(key catalog.Key, now time.Time) {
	e := s.entries[key]
	if e == nil || !e.settled {
		return
	}
	instances, _ := s.shield.Serve(key)
	s.readOptIn(key, e, instances, now)
	if s.isGone(e, instances, now) {
		s.drop(key, now)
		return
	}
	service := catalog.Service{Key: key, Instances: instances, OptIn: e.optIn, Answered: e.good}
	s.batched = nil
	if digest := service.Digest(); digest == e.delivered {
		delete(s.pending, key)
		return
	}
	s.pending[key] = service
	s.setUnsaved(now)
}

// readOptIn reads what the registration asks for, as long as there are instances to say it.
func (s *state) readOptIn(key catalog.Key, e *entry, instances []catalog.Instance, now time.Time) {
	switch {
	case !e.optedIn:
		return
	case len(instances) > 0:
		before := e.optIn
		e.optIn, e.empty = catalog.ReadOptIn(key.Service, instances), time.Time{}
		if e.optIn != nil {
			e.optIn.Follows(before)
		}
		delete(s.emptied, key)
	case e.empty.IsZero():
		e.empty = now
		s.emptied[key] = e
	case s.hasEnded(e) && !now.Before(e.empty.Add(s.config.Linger)):
		e.optIn = nil
	}
}

// hasEnded says whether a service opted in once, and is known not to any more.
func (s *state) hasEnded(e *entry) bool {
	return e.optedIn && !e.listed && s.optInsKnown && e.err == nil && !e.good.Before(e.since)
}

// mayGo says whether a service is there only because it opted in, and that is known to have ended.
func (s *state) mayGo(e *entry) bool { return !e.wanted && s.hasEnded(e) }

// isGone says whether a service that may go does: it has instances that ask for nothing, or has had none for long.
func (s *state) isGone(e *entry, instances []catalog.Instance, now time.Time) bool {
	if len(instances) > 0 {
		return s.mayGo(e) && e.optIn == nil
	}
	return s.mayGo(e) && !now.Before(e.empty.Add(s.config.Linger))
}

// drop ends a service. One that was reported though nobody wanted it is reported as gone.
func (s *state) drop(key catalog.Key, now time.Time) {
	e := s.entries[key]
	if e.stop != nil {
		e.stop()
	}
	delete(s.entries, key)
	delete(s.unsettled, key)
	delete(s.emptied, key)
	delete(s.pending, key)
	s.batched = nil
	s.shield.Forget(key, now)
	s.resolver.release(key, nil)
	s.setUnsaved(now)
	if e.optedIn && e.delivered != "" {
		s.pending[key] = catalog.Service{Key: key, Gone: true}
	}
}

// tick lets time pass.
func (s *state) tick(now time.Time) {
	for _, key := range s.shield.Tick(now) {
		s.publish(key, now)
	}
	for key := range s.emptied {
		s.publish(key, now)
	}
	s.advance(now)
}

// advance settles what was waited for long enough, and notes when everything has been.
func (s *state) advance(now time.Time) {
	if s.begun.IsZero() {
		return
	}
	asked := s.optInsKnown || !s.config.Discover || !now.Before(s.begun.Add(s.config.FirstWait))
	for key, e := range s.unsettled {
		if !now.Before(s.deadline(e)) {
			s.settle(key, e)
			s.publish(key, now)
		}
	}
	s.complete = s.complete || asked && len(s.unsettled) == 0
}

// deadline is when a service is waited for no longer; the clock does not run before anything is wanted.
func (s *state) deadline(e *entry) time.Time {
	if e.since.Before(s.begun) {
		return s.begun.Add(s.config.FirstWait)
	}
	return e.since.Add(s.config.FirstWait)
}

// next is when tick has something to do, zero if never.
func (s *state) next() time.Time {
	next := earlier(s.shield.Next(), s.resolver.Next())
	if s.unsaved && s.complete {
		next = earlier(next, s.nextSave)
	}
	if !s.complete && !s.begun.IsZero() {
		next = earlier(next, s.begun.Add(s.config.FirstWait))
	}
	for _, e := range s.unsettled {
		if !s.begun.IsZero() {
			next = earlier(next, s.deadline(e))
		}
	}
	for _, e := range s.emptied {
		if s.hasEnded(e) && (e.optIn != nil || !e.wanted) {
			next = earlier(next, e.empty.Add(s.config.Linger))
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// batch is what is to be sent now, in the order of keys; nil if nothing is, as before everything is known.
func (s *state) batch(lost bool) []catalog.Service {
	if !s.complete {
		return nil
	}
	if !s.announced && len(s.pending) == 0 {
		return []catalog.Service{}
	}
	if s.batched == nil && len(s.pending) > 0 {
		for _, v := range s.pending {
			e := s.entries[v.Key]
			v.Stale = !v.Gone && (lost || e.err != nil || e.good.Before(e.since))
			s.batched = append(s.batched, v)
		}
		slices.SortFunc(s.batched, func(a, b catalog.Service) int { return a.Key.Compare(b.Key) })
	}
	return s.batched
}

func (s *state) sent(batch []catalog.Service) {
	for _, v := range batch {
		digest := v.Digest()
		if e := s.entries[v.Key]; e != nil && !v.Gone {
			e.delivered = digest
		}
		if s.pending[v.Key].Digest() == digest { // else it has changed since it was offered
			delete(s.pending, v.Key)
		}
	}
	s.counts.updates.Add(int64(len(batch)))
	s.batched, s.announced = nil, true
}

func (s *state) release(service string, now time.Time) int {
	keys := s.shield.Release(service, now)
	for _, key := range keys {
		s.publish(key, now)
	}
	return len(keys)
}

func (s *state) watches(service string) bool {
	for key := range s.entries {
		if key.Service == service {
			return true
		}
	}
	return false
}

func (s *state) setUnsaved(now time.Time) {
	if s.config.Saver != nil && !s.unsaved {
		s.unsaved, s.nextSave = true, now.Add(s.config.SaveEvery)
	}
}

func (s *state) saveDue(now time.Time) bool {
	if !s.unsaved || now.Before(s.nextSave) || !s.complete {
		return false
	}
	s.unsaved = false
	return true
}

// snapshot is what to save: all that was ever answered. Before everything is known, what was saved before stays in it.
func (s *state) snapshot() []catalog.Service {
	var list []catalog.Service
	for key, e := range s.entries {
		if instances, known := s.shield.Serve(key); known {
			list = append(list, catalog.Service{Key: key, Instances: instances, OptIn: e.optIn, Answered: e.good})
		}
	}
	if !s.complete {
		list = slices.AppendSeq(list, maps.Values(s.saved))
	}
	slices.SortFunc(list, func(a, b catalog.Service) int { return a.Key.Compare(b.Key) })
	return list
}
