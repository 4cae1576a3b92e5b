package consul

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/shield"
)

// Source is a catalog.Source that asks Consul. Make it by New and Run it once; the other methods may be called at any
// time, from anywhere.
type Source struct {
	config Config
	asker  *asker
	counts *counts

	mu    sync.Mutex
	state *state
	poke  chan struct{}
}

var _ catalog.Source = (*Source)(nil)

// New checks the config and connects to nothing yet.
func New(c Config) (*Source, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	counts := &counts{}
	return &Source{
		config: c, asker: newAsker(c, client, counts), counts: counts, state: newState(c, counts), poke: make(chan struct{}, 1),
	}, nil
}

// answered is what a watch of a service heard.
type answered struct {
	key catalog.Key
	result[[]registration]
}

// loop is what a run of the source holds beside its state.
type loop struct {
	*Source
	ctx        context.Context
	tasks      sync.WaitGroup
	answers    chan answered
	discovered chan result[[]string]
	saves      chan []catalog.Service
}

// Run reports until the context ends, and then returns nil.
func (s *Source) Run(ctx context.Context, wanted <-chan []catalog.Key, out chan<- []catalog.Service) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{Source: s, ctx: ctx, answers: make(chan answered), discovered: make(chan result[[]string]), saves: make(chan []catalog.Service, 1)}
	l.load()
	l.tasks.Go(func() { s.asker.contact.run(ctx) })
	l.tasks.Go(l.save)
	if s.config.Discover {
		l.tasks.Go(l.discover)
	}
	l.serve(wanted, out)
	cancel()
	l.tasks.Wait()
	s.state.resolver.wait.Wait()
	s.asker.client.transport.close()
	l.saveNow(s.snapshot())
	return nil
}

func (l *loop) serve(wanted <-chan []catalog.Key, out chan<- []catalog.Service) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, sink := l.prepare(timer), out
		if batch == nil {
			sink = nil
		}
		select {
		case <-l.ctx.Done():
			return
		case keys, ok := <-wanted:
			if !ok {
				wanted = nil
				continue
			}
			l.update(func(now time.Time) { l.state.want(keys, now) })
		case a := <-l.answers:
			l.update(func(now time.Time) { l.state.answer(a, now) })
		case d := <-l.discovered:
			l.update(func(now time.Time) { l.state.discover(d, now) })
		case found := <-l.state.resolver.done:
			l.update(func(now time.Time) { l.state.resolved(found, now) })
		case sink <- batch:
			l.update(func(time.Time) { l.state.sent(batch) })
		case <-timer.C:
			l.update(l.state.tick)
		case <-l.poke:
		}
	}
}

// update changes the state, and starts and stops watches as it then says.
func (l *loop) update(change func(now time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	change(now)
	l.state.resolver.start(l.ctx, now)
	for _, key := range l.state.takeStarts() {
		l.start(key)
	}
	l.report(l.state.shield.Reports())
	if l.config.Saver != nil && l.state.saveDue(now) {
		l.offerSave(l.state.snapshot())
	}
}

// maxLogged is how many reports of one moment are logged one by one.
const maxLogged = 5

// report logs and counts what the shield did.
func (l *loop) report(reports []shield.Report) {
	for n, r := range reports {
		l.counts.reported(r)
		if n < maxLogged || r.Key == (catalog.Key{}) {
			l.config.Log.Warn("consul: shield", "report", string(r.Kind), "service", r.Key.String(), "instances", r.Instances, "why", r.Why)
		}
	}
	if more := len(reports) - maxLogged; more > 0 {
		l.config.Log.Warn("consul: shield: more of the same moment", "reports", more)
	}
}

// prepare sets the timer to what comes next, and returns what is to be sent.
func (l *loop) prepare(timer *time.Timer) []catalog.Service {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if next := l.state.next(); !next.IsZero() {
		timer.Reset(max(next.Sub(now), time.Millisecond))
	} else {
		timer.Stop()
	}
	lost, _ := l.asker.contact.State()
	return l.state.batch(lost != nil)
}

// start begins to watch a service.
func (l *loop) start(key catalog.Key) {
	entry := l.state.entries[key]
	ctx, cancel := context.WithCancel(l.ctx)
	entry.stop = cancel
	w := &watch[[]registration]{asker: l.asker, ask: askHealth(l.asker.client, key), polled: &entry.polled}
	w.deliver = func(ctx context.Context, r result[[]registration]) {
		select {
		case l.answers <- answered{key, r}:
		case <-ctx.Done():
		}
	}
	l.tasks.Go(func() { w.run(ctx) })
}

// discover asks who opted in.
func (l *loop) discover() {
	w := &watch[[]string]{asker: l.asker, ask: askOptIns(l.asker.client), polled: &l.state.optInsPolled, free: true}
	w.deliver = func(ctx context.Context, r result[[]string]) {
		select {
		case l.discovered <- r:
		case <-ctx.Done():
		}
	}
	w.run(l.ctx)
}

// load takes over what was saved; what cannot be read is as if nothing was.
func (l *loop) load() {
	if l.config.Saver == nil {
		return
	}
	services, err := l.config.Saver.Load()
	if err != nil {
		l.config.Log.Error("consul: the last known services are lost", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.restore(services, time.Now())
}

// save writes what is offered, apart from the loop, which never waits for a disk.
func (l *loop) save() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case services := <-l.saves:
			l.saveNow(services)
		}
	}
}

// offerSave replaces what waits to be saved.
func (l *loop) offerSave(services []catalog.Service) {
	select {
	case <-l.saves:
	default:
	}
	l.saves <- services
}

func (l *loop) saveNow(services []catalog.Service) {
	if l.config.Saver == nil {
		return
	}
	if err := l.config.Saver.Save(services); err != nil {
		l.config.Log.Error("consul: the last known services cannot be saved", "error", err)
	}
}

func (s *Source) snapshot() []catalog.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.snapshot()
}

// Release lets go of what the shield holds of a service, by its registered name; of all, and ends a freeze, if the name
// is empty. It returns how many watches had something held, and an error if no such service is watched.
func (s *Source) Release(service string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if service != "" && !s.state.watches(service) {
		return 0, errors.New("consul: service " + service + " is not watched: see the list of services for names")
	}
	n := s.state.release(service, time.Now())
	select {
	case s.poke <- struct{}{}:
	default:
	}
	return n, nil
}
