package consul

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// One watch asks at most askRate times a second, after askBurst times at will.
const (
	askRate  rate.Limit = 1.8
	askBurst            = 5
	// pollRate bounds all polls together, in a second; pollsAtOnce their connections.
	pollRate    rate.Limit = 200
	pollsAtOnce            = 4
)

// asker is what all watches of a source share.
type asker struct {
	config  Config
	client  *client
	contact *contact
	slots   *slots
	polls   *rate.Limiter
	polling chan struct{}
	watches atomic.Int64
	counts  *counts
}

func newAsker(c Config, client *client, counts *counts) *asker {
	a := &asker{config: c, client: client, contact: newContact(client, c.Probe), counts: counts,
		polls: rate.NewLimiter(pollRate, 1), polling: make(chan struct{}, pollsAtOnce)}
	a.slots = &slots{limit: a.maxBlocking}
	return a
}

// sharedBlocking is the limit where hundreds of queries share a connection.
const sharedBlocking = 30_000

func (a *asker) maxBlocking() int {
	if a.client.transport.separate.Load() {
		return a.config.MaxBlocking
	}
	return sharedBlocking
}

// result is what a watch heard.
type result[T any] struct {
	value   T
	suspect bool
	err     error
}

// watch is one series of queries. deliver takes each result and may wait.
type watch[T any] struct {
	*asker
	ask     ask[T]
	deliver func(context.Context, result[T])
	// free watches need no slot.
	free   bool
	polled *atomic.Bool
}

// run asks until the context ends.
func (w *watch[T]) run(ctx context.Context) {
	w.watches.Add(1)
	defer w.watches.Add(-1)
	slot := false
	defer func() { w.slots.release(slot) }()
	limiter := rate.NewLimiter(askRate, askBurst)
	var at cursor
	for failures := 0; ; {
		slot = !w.free && w.slots.acquire(slot)
		blocks := slot || w.free
		w.polled.Store(!blocks)
		if limiter.Wait(ctx) != nil {
			return
		}
		epoch := w.contact.Epoch()
		r, next, interrupted := w.query(ctx, epoch, at, blocks)
		if ctx.Err() != nil {
			return
		}
		at = next
		if interrupted {
			failures = 0
			w.spread(ctx)
			continue
		}
		w.deliver(ctx, r)
		if r.err == nil {
			failures = 0
			continue
		}
		failures++
		sleep(ctx, backoff(failures, w.config.Backoff, w.config.BackoffMax), epoch)
		if epoch.Err() != nil {
			failures = 0
			w.spread(ctx)
		}
	}
}

// query asks once, and says where the series stands then; interrupted if it is to be asked again for a reason of ours.
func (w *watch[T]) query(ctx, epoch context.Context, at cursor, blocks bool) (r result[T], next cursor, interrupted bool) {
	wait := w.config.Wait
	if !blocks {
		wait = 0
		if !w.poll(ctx) {
			return r, at, true
		}
		defer func() { <-w.polling }()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout(wait))
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()
	value, meta, err := w.ask(ctx, at.options(wait, w.client.token.Get()))
	if err == nil {
		err = believable(meta, w.config.MaxContact)
	}
	if err != nil && epoch.Err() != nil {
		return r, at.failed(err), true
	}
	if err != nil {
		w.counts.failed(err)
		return result[T]{err: err}, at.failed(err), false
	}
	next, suspect := at.next(meta)
	return result[T]{value: value, suspect: suspect}, next, false
}

// poll waits for this watch's turn among those without a slot.
func (w *watch[T]) poll(ctx context.Context) bool {
	sleep(ctx, w.config.PollEvery/2+rand.N(w.config.PollEvery/2+1), ctx)
	if w.polls.Wait(ctx) != nil {
		return false
	}
	select {
	case w.polling <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// spread keeps thousands from asking in the same moment.
func (w *watch[T]) spread(ctx context.Context) {
	sleep(ctx, rand.N(time.Duration(w.watches.Load())*100*time.Microsecond+1), ctx)
}

// slots are the places for blocking queries. Who has one keeps it, so that who is polled does not change all the time.
type slots struct {
	limit func() int

	mu   sync.Mutex
	used int
}

// acquire takes a slot, or keeps the one held; false if there is none, or none any more.
func (s *slots) acquire(held bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.limit()
	switch {
	case held && s.used > limit:
		s.used--
		return false
	case !held && s.used < limit:
		s.used++
		return true
	}
	return held
}

func (s *slots) release(held bool) {
	if held {
		s.mu.Lock()
		s.used--
		s.mu.Unlock()
	}
}
