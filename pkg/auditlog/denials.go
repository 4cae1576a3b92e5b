package auditlog

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// How many denials are written: of one address, of all, and how many addresses are told apart.
const (
	perAddress      = rate.Limit(1)
	perAddressBurst = 20
	perLog          = rate.Limit(20)
	perLogBurst     = 100
	maxAddresses    = 1024
)

// denials bounds how many denials are written, whoever sends them.
type denials struct {
	now  func() time.Time
	all  *rate.Limiter
	from map[string]*denier
}

// denier is an address that was denied something.
type denier struct {
	limit     *rate.Limiter
	last      Event
	unwritten uint64
}

func newDenials(now func() time.Time) denials {
	return denials{now: now, all: rate.NewLimiter(perLog, perLogBurst), from: map[string]*denier{}}
}

// admit tells whether a denial is written, and how many from its address were not since the last one that was.
func (d *denials) admit(e Event) (unwritten uint64, ok bool) {
	now := d.now()
	one := d.denier(host(e.From), now)
	if !one.limit.AllowN(now, 1) || !d.all.AllowN(now, 1) {
		one.unwritten++
		one.last = e.bounded()
		return 0, false
	}
	unwritten, one.unwritten = one.unwritten, 0
	return unwritten, true
}

// denier finds an address. When there are too many, those that are at rest are forgotten; all further ones count as one.
func (d *denials) denier(from string, now time.Time) *denier {
	if one := d.from[from]; one != nil {
		return one
	}
	if len(d.from) >= maxAddresses {
		for name, one := range d.from {
			if one.unwritten == 0 && one.limit.TokensAt(now) >= perAddressBurst {
				delete(d.from, name)
			}
		}
	}
	if len(d.from) >= maxAddresses {
		from = "others"
	}
	if d.from[from] == nil {
		d.from[from] = &denier{limit: rate.NewLimiter(perAddress, perAddressBurst)}
	}
	return d.from[from]
}

// rest are lines for what was counted and is not written.
func (d *denials) rest() []Entry {
	var out []Entry
	for _, one := range d.from {
		if one.unwritten > 0 {
			out = append(out, Entry{Kind: Denied, Event: one.last, Unwritten: one.unwritten - 1})
			one.unwritten = 0
		}
	}
	return out
}

// host is an address without its port; of IPv6 the network, since a stranger has a whole one.
func host(from string) string {
	at, err := netip.ParseAddrPort(from)
	if err != nil {
		return bounded(from)
	}
	ip := at.Addr().Unmap()
	if ip.Is6() {
		if net, err := ip.WithZone("").Prefix(64); err == nil {
			return net.String()
		}
	}
	return ip.String()
}
