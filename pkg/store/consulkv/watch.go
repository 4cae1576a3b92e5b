package consulkv

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// The head is asked for at most askRate times a second, after askBurst times at will.
const (
	askRate  rate.Limit = 2
	askBurst            = 10
)

// follow reads what others commit, until ctx ends. What was read last stays when that fails.
func (s *Store) follow(ctx context.Context) {
	limiter := rate.NewLimiter(askRate, askBurst)
	index, failures := uint64(1), 0
	for limiter.Wait(ctx) == nil {
		_, next, err := s.kv.await(ctx, headKey, index, s.Wait)
		if err == nil {
			err = s.Refresh(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		s.note(err)
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
func (s *Store) note(err error) {
	if err == nil {
		if s.problem.Swap(nil) != nil {
			s.Log.Info("the store is followed again", "prefix", s.Prefix)
		}
		return
	}
	if s.problem.Swap(&err) == nil {
		s.Log.Error("the store cannot be followed; what was read last stays", "prefix", s.Prefix, "error", err)
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
