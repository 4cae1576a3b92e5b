// Package shield decides what to serve of what a registry answers, since a registry may lie or vanish. Its rules:
//
//   - An answer that failed changes nothing: the last known instances stay for as long as the registry cannot be asked.
//   - A service that is emptied at once, or that loses more than half and at least three of its instances in one answer,
//     keeps them for Hold. The loss of one instance is never held, unless it was the last one and the answer is suspect
//     (the first after a failure, or by a registry whose index went backwards).
//   - When the whole catalog shrinks by more than CatalogLoss within CatalogWindow, what was lost in that time comes
//     back, and nothing is removed for Freeze, or until the catalog has recovered.
//   - An instance that changes more than FlapChanges times within FlapWindow is left out until it has been steady for
//     FlapPin; if nothing else of its service is left, it is kept instead, as passing.
//   - An instance is kept back no longer when another one is registered at its address, or when Release says so.
//
// Nothing here knows the time or starts anything: every call brings its own now, and the same calls give the same result.
package shield

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// Config holds the limits. Start from Default.
type Config struct {
	// Hold is how long instances stay that went in a mass loss.
	Hold time.Duration
	// CatalogLoss is the share, of 1, whose loss within CatalogWindow freezes removals for Freeze; at least
	// CatalogLossMin instances of two services.
	CatalogLoss    float64
	CatalogLossMin int
	CatalogWindow  time.Duration
	Freeze         time.Duration
	// FlapChanges within FlapWindow are the most that an instance may do without being pinned for FlapPin.
	FlapChanges int
	FlapWindow  time.Duration
	FlapPin     time.Duration
}

// Default is what fits most sites.
func Default() Config {
	return Config{
		Hold:        30 * time.Second,
		CatalogLoss: 0.3, CatalogLossMin: 5, CatalogWindow: 10 * time.Second, Freeze: 5 * time.Minute,
		FlapChanges: 5, FlapWindow: time.Minute, FlapPin: 30 * time.Second,
	}
}

// Answer is what a registry said about a service.
type Answer struct {
	// Instances are sorted by ID. Without meaning if Err is set.
	Instances []catalog.Instance
	// Suspect says that the registry may have lost its state, so that an empty answer proves nothing.
	Suspect bool
	// Err says why there is no answer.
	Err error
}

// ReportKind is what a Report is about.
type ReportKind string

// The kinds of reports.
const (
	// Held: instances that the registry no longer has are still served.
	Held ReportKind = "held"
	// LetGo: the time of held instances is over.
	LetGo ReportKind = "let go"
	// Released: an operator let them go.
	Released ReportKind = "released"
	// Frozen: the catalog shrank, removals stop.
	Frozen ReportKind = "frozen"
	// Thawed: removals count again.
	Thawed ReportKind = "thawed"
	// Flapping: an instance changes too often and is pinned.
	Flapping ReportKind = "flapping"
	// Steady: a pinned instance counts again.
	Steady ReportKind = "steady"
)

// Report is something an operator should know.
type Report struct {
	Kind ReportKind
	// Key is the service, zero for the whole catalog.
	Key catalog.Key
	// Instances is how many are concerned.
	Instances int
	// Why is for people.
	Why string
}

// Shield is the state. Not safe for concurrent use.
type Shield struct {
	config   Config
	services map[catalog.Key]*service
	// active are those for which time matters: with holds, late losses or flaps.
	active map[catalog.Key]*service
	// owners are the IDs of the instances that the latest answers have at each endpoint.
	owners  map[string][]string
	window  window
	frozen  freeze
	reports []Report
}

// New has no services yet.
func New(config Config) *Shield {
	return &Shield{
		config: config, services: map[catalog.Key]*service{}, active: map[catalog.Key]*service{}, owners: map[string][]string{},
		window: window{length: config.CatalogWindow},
	}
}

// Restore takes over what was served before a restart. It counts as the last answer; the next one is suspect.
func (s *Shield) Restore(key catalog.Key, instances []catalog.Instance, now time.Time) {
	v := s.service(key)
	v.served, v.failing, v.known = instances, true, true
	s.take(v, instances, now)
}

// Forget drops a service that nobody wants any more. That is no loss.
func (s *Shield) Forget(key catalog.Key, now time.Time) {
	if v, ok := s.services[key]; ok {
		s.window.forget(usable(v.latest))
		s.disown(v.latest)
		delete(s.services, key)
		delete(s.active, key)
	}
}

// Observe takes in an answer; Serve and Reports have the consequences.
func (s *Shield) Observe(key catalog.Key, a Answer, now time.Time) {
	v := s.service(key)
	if a.Err != nil {
		v.failing = true
		return
	}
	suspect := a.Suspect || v.failing
	before := v.latest
	s.noteFlaps(v, a.Instances, now)
	lost := v.lost(a.Instances)
	v.failing, v.known = false, true
	s.take(v, a.Instances, now)
	if why := massLoss(before, a.Instances, len(lost), suspect); why != "" {
		if n := v.hold(lost, now.Add(s.config.Hold), why); n > 0 {
			s.report(Held, key, n, why)
		}
	} else {
		v.remember(lost, now)
	}
	if suspect {
		v.renewHolds(now.Add(s.config.Hold))
	}
	s.checkCatalog(v, now)
	s.settle(v, now)
	s.evict(before, a.Instances, now)
}

// take makes an answer the latest one.
func (s *Shield) take(v *service, answer []catalog.Instance, now time.Time) {
	s.window.add(now, usable(answer)-usable(v.latest))
	s.disown(v.latest)
	for _, i := range answer {
		s.owners[endpoint(i)] = append(s.owners[endpoint(i)], i.ID)
	}
	v.latest = answer
}

// Tick lets time pass: it ends holds and pins, and returns the keys whose instances may have changed, sorted.
func (s *Shield) Tick(now time.Time) []catalog.Key {
	s.thaw(now)
	var touched []catalog.Key
	for _, key := range keys(s.active) {
		v := s.active[key]
		if next := v.next(s.config); !next.IsZero() && !next.After(now) {
			s.settle(v, now)
			touched = append(touched, key)
		}
	}
	return touched
}

// Next is when Tick has something to do, zero if never.
func (s *Shield) Next() time.Time {
	next := s.frozen.until
	for _, v := range s.active {
		next = earlier(next, v.next(s.config))
	}
	return next
}

// Serve is what to serve of the service, sorted, and whether there ever was an answer.
func (s *Shield) Serve(key catalog.Key) ([]catalog.Instance, bool) {
	v, ok := s.services[key]
	if !ok {
		return nil, false
	}
	return v.served, v.known
}

// Touched are the keys of services whose holds another one's answer may have changed, since the last call; sorted.
func (s *Shield) Touched() []catalog.Key {
	var list []catalog.Key
	for _, key := range keys(s.active) {
		if v := s.active[key]; v.touched {
			v.touched = false
			list = append(list, key)
		}
	}
	return list
}

// Release lets go of all that is held of a service, whatever its tags; of every service, and the freeze, if the name is
// empty. It returns the keys concerned, sorted. A service released in a freeze stays out of it.
func (s *Shield) Release(name string, now time.Time) []catalog.Key {
	var released []catalog.Key
	for _, key := range keys(s.active) {
		v := s.active[key]
		if name != "" && key.Service != name {
			continue
		}
		if n := len(v.held); n > 0 {
			s.report(Released, key, n, "an operator let them go")
			released = append(released, key)
		}
		v.held, v.gone, v.exempt = nil, nil, s.frozen.on()
		s.settle(v, now)
	}
	if name == "" {
		s.endFreeze("an operator ended it")
	}
	return released
}

// Reports hands out what was reported since the last call, by service.
func (s *Shield) Reports() []Report {
	list := s.reports
	slices.SortStableFunc(list, func(a, b Report) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Why, b.Why))
	})
	s.reports = nil
	return list
}

// State is what an operator should see of a service.
type State struct {
	// Held instances are served although the registry does not have them, at the latest until Until.
	Held  int
	Until time.Time
	Why   string
	// Flapping are the IDs of pinned instances, sorted.
	Flapping []string
}

// State of a service.
func (s *Shield) State(key catalog.Key) State {
	v, ok := s.services[key]
	if !ok {
		return State{}
	}
	state := State{Held: len(v.held), Flapping: v.pinned()}
	for _, id := range slices.Sorted(maps.Keys(v.held)) {
		if h := v.held[id]; h.until.After(state.Until) {
			state.Until, state.Why = h.until, h.why
		}
	}
	return state
}

// Frozen says until when removals are frozen, and why; zero if they are not.
func (s *Shield) Frozen() (time.Time, string) {
	return s.frozen.until, s.frozen.why
}

func (s *Shield) service(key catalog.Key) *service {
	v, ok := s.services[key]
	if !ok {
		v = &service{key: key}
		s.services[key] = v
	}
	return v
}

func keys(services map[catalog.Key]*service) []catalog.Key {
	return slices.SortedFunc(maps.Keys(services), catalog.Key.Compare)
}

func (s *Shield) report(kind ReportKind, key catalog.Key, n int, why string) {
	s.reports = append(s.reports, Report{kind, key, n, why})
}

func usable(instances []catalog.Instance) int {
	n := 0
	for _, i := range instances {
		if i.Usable() {
			n++
		}
	}
	return n
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
