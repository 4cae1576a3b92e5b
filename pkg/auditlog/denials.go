package auditlog

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/pkg/throttle"
)

// How many denials are written a second, of one address and of all, and how many at once.
const (
	perAddress      = rate.Limit(1)
	perAddressBurst = 20
	perLog          = rate.Limit(20)
	perLogBurst     = 100
)

// maxCounted is of how many addresses unwritten denials are counted.
const maxCounted = 1024

// denials bounds how many denials are written, whoever sends them.
type denials struct {
	now     func() time.Time
	all     *rate.Limiter
	from    *throttle.Throttle
	counted map[string]*unwritten
}

// unwritten are denials of an address that have no line yet.
type unwritten struct {
	count uint64
	last  Event
}

func newDenials(now func() time.Time) denials {
	return denials{now: now, all: rate.NewLimiter(perLog, perLogBurst), from: throttle.New(perAddress, perAddressBurst), counted: map[string]*unwritten{}}
}

// admit tells whether a denial is written, and how many from its address were not since the last one that was.
func (d *denials) admit(e Event) (before uint64, ok bool) {
	now, key := d.now(), bounded(throttle.Key(e.From))
	if !d.from.Allow(key, now) || !d.all.AllowN(now, 1) {
		d.count(key, e)
		return 0, false
	}
	if one := d.counted[key]; one != nil {
		before = one.count
		delete(d.counted, key)
	}
	return before, true
}

func (d *denials) count(key string, e Event) {
	if d.counted[key] == nil && len(d.counted) >= maxCounted {
		key = "others"
	}
	if d.counted[key] == nil {
		d.counted[key] = &unwritten{}
	}
	d.counted[key].count++
	d.counted[key].last = e.bounded()
}

// rest are lines for what was counted and is not written.
func (d *denials) rest() []Entry {
	var out []Entry
	for _, one := range d.counted {
		out = append(out, Entry{Kind: Denied, Event: one.last, Unwritten: one.count - 1})
	}
	clear(d.counted)
	return out
}
