package consulkv

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// The head is asked for at most askRate times a second, after askBurst times at will.
const (
	askRate  rate.Limit = 2
	askBurst            = 10
)

// follow reads what others commit, until ctx ends.
func (s *Store) follow(ctx context.Context) {
	s.followKey(ctx, headKey, rate.NewLimiter(askRate, askBurst), func() error { return s.Refresh(ctx) },
		func(err error) { s.note(&s.problem, "policies", err) })
}

// followKey reads when a key has changed, until ctx ends, and notes how that went. What was read last stays when it
// fails.
func (s *Store) followKey(ctx context.Context, key string, limiter *rate.Limiter, read func() error, note func(error)) {
	note(read())
	index, failures := uint64(1), 0
	for limiter.Wait(ctx) == nil {
		_, next, err := s.kv.await(ctx, key, index, s.Wait)
		if err == nil {
			err = read()
		}
		if ctx.Err() != nil {
			return
		}
		note(err)
		if err == nil {
			index, failures = next, 0
			continue
		}
		failures++
		index = 0 // the next answer comes at once, changed or not
		if !sleep(ctx, backoff(failures, s.Backoff, s.BackoffMax)) {
			return
		}
	}
}

// note remembers why nothing arrives, and reports when that begins and ends.
func (s *Store) note(problem *atomic.Pointer[error], what string, err error) {
	if err == nil {
		if problem.Swap(nil) != nil {
			s.Log.Info("the store is followed again", "prefix", s.Prefix, "what", what)
		}
		return
	}
	if problem.Swap(&err) == nil {
		s.Log.Error("the store cannot be followed; what was read last stays", "prefix", s.Prefix, "what", what, "error", err)
	}
}

// backoff is drawn between nothing and a bound that doubles with each failure.
func backoff(failures int, least, most time.Duration) time.Duration {
	bound := least << min(failures-1, 20)
	if bound <= 0 || bound > most {
		bound = most
	}
	return rand.N(bound + 1)
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Collector shows whether what other replicas commit arrives here.
func (s *Store) Collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_store_following", Help: "1 when what other replicas commit arrives, 0 when Consul cannot be read or what it holds is damaged.",
	}, func() float64 {
		if s.Err() != nil {
			return 0
		}
		return 1
	})
}
