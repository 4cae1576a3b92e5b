package consul

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// contact knows whether Consul can be asked at all, by looking at its leader once in a while: a blocking query cannot
// tell silence from peace. When contact comes back, or the token changes, an epoch ends, and with it every wait.
type contact struct {
	client *client
	every  time.Duration

	mu    sync.Mutex
	err   error // nil if the last looks went well
	seen  time.Time
	epoch context.Context
	end   context.CancelFunc
	token string
}

// lostAfter is how many looks in a row must fail.
const lostAfter = 2

func newContact(c *client, every time.Duration) *contact {
	k := &contact{client: c, every: every, token: c.token.Get()}
	k.epoch, k.end = context.WithCancel(context.Background())
	return k
}

// Epoch is done when whoever waits should ask anew.
func (k *contact) Epoch() context.Context {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.epoch
}

// State says why Consul cannot be asked, nil if it can, and when it was last seen well.
func (k *contact) State() (error, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err, k.seen
}

// run looks until the context ends.
func (k *contact) run(ctx context.Context) {
	defer k.stop()
	failures := 0
	for ctx.Err() == nil {
		err := k.look(ctx)
		if failures++; err == nil {
			failures = 0
		}
		k.note(err, failures)
		pause := k.every
		if failures > 0 {
			pause /= 2
		}
		sleep(ctx, pause, ctx)
	}
}

func (k *contact) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end()
}

func (k *contact) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(2*k.every, time.Second))
	defer cancel()
	leader, err := k.client.api.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("looking for consul's leader: %w", err)
	}
	if leader == "" {
		return errNoLeader
	}
	return nil
}

func (k *contact) note(err error, failures int) {
	token := k.client.token.Get()
	k.mu.Lock()
	defer k.mu.Unlock()
	renew := k.token != token
	k.token = token
	switch {
	case err == nil:
		renew = renew || k.err != nil
		k.err, k.seen = nil, time.Now()
	case failures >= lostAfter:
		k.err = err
	}
	if renew {
		k.end()
		k.epoch, k.end = context.WithCancel(context.Background())
	}
}

// sleep waits for the time or the end of either context.
func sleep(ctx context.Context, d time.Duration, other context.Context) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-other.Done():
	}
}
