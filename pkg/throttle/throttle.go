// Package throttle bounds how often strangers may do what costs something, however many addresses they have.
package throttle

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses is how many addresses are told apart.
const maxAddresses = 1024

// others is the key of all addresses beyond those.
const others = "others"

// Throttle counts by address. Safe for concurrent use.
type Throttle struct {
	limit rate.Limit
	burst int

	mu   sync.Mutex
	from map[string]*rate.Limiter
}

// New lets an address do something burst times, and then limit times a second.
func New(limit rate.Limit, burst int) *Throttle {
	return &Throttle{limit: limit, burst: burst, from: map[string]*rate.Limiter{}}
}

// Allow tells whether an address, host:port or another text, may do it once more now.
func (t *Throttle) Allow(from string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limiter(Key(from), now).AllowN(now, 1)
}

// limiter finds an address. When there are too many, those at rest are forgotten; all further ones count as one.
func (t *Throttle) limiter(key string, now time.Time) *rate.Limiter {
	if one := t.from[key]; one != nil {
		return one
	}
	if len(t.from) >= maxAddresses {
		for name, one := range t.from {
			if one.TokensAt(now) >= float64(t.burst) {
				delete(t.from, name)
			}
		}
	}
	if len(t.from) >= maxAddresses {
		key = others
	}
	if t.from[key] == nil {
		t.from[key] = rate.NewLimiter(t.limit, t.burst)
	}
	return t.from[key]
}

// Key is what an address counts as: without its port, and of IPv6 the network, since a stranger has a whole one. Another
// text counts as itself.
func Key(from string) string {
	ip, err := netip.ParseAddr(from)
	if at, failed := netip.ParseAddrPort(from); failed == nil {
		ip, err = at.Addr(), nil
	}
	if err != nil {
		return from
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	net, _ := ip.Prefix(64) // it has as many bits
	return net.String()
}
