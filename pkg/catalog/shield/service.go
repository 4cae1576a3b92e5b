package shield

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// service is the state of one key.
type service struct {
	key catalog.Key
	// latest is the last good answer, served what is made of it.
	latest, served []catalog.Instance
	// held are lost instances that are served on; gone those lost within the catalog's window, not held.
	held map[string]held
	gone map[string]loss
	// flaps counts the changes of instances that changed lately.
	flaps map[string]*flap
	// known says that there was an answer, failing that the last one was none.
	known, failing bool
	// exempt says that the present freeze is not for this service.
	exempt bool
	// touched says that holds changed by another service's answer.
	touched bool
}

type held struct {
	instance catalog.Instance
	until    time.Time
	why      string
}

type loss struct {
	instance catalog.Instance
	at       time.Time
}

// massLoss says why a loss is no plain deregistration; "" if it is one.
func massLoss(before, after []catalog.Instance, lost int, suspect bool) string {
	was, is := usable(before), usable(after)
	fall := was - is
	switch {
	case lost == 0:
		return ""
	case len(after) == 0 && (len(before) > 1 || suspect):
		return fmt.Sprintf("all %d instances went at once", len(before))
	case fall >= 3 && 2*fall > was:
		return fmt.Sprintf("%d of %d instances went at once", fall, was)
	}
	return ""
}

// lost are the instances that took traffic and are gone, or broken, in the answer.
func (v *service) lost(answer []catalog.Instance) []catalog.Instance {
	now := byID(answer)
	var lost []catalog.Instance
	for _, i := range v.latest {
		if i.Usable() && !now[i.ID].Usable() {
			lost = append(lost, i)
		}
	}
	return lost
}

// hold keeps lost instances, and says how many.
func (v *service) hold(lost []catalog.Instance, until time.Time, why string) int {
	kept := 0
	for _, i := range lost {
		if v.pinnedOut(i.ID) {
			continue
		}
		if v.held == nil {
			v.held = map[string]held{}
		}
		v.held[i.ID] = held{i, until, why}
		delete(v.gone, i.ID)
		kept++
	}
	return kept
}

// remember notes plain losses, which a freeze brings back.
func (v *service) remember(lost []catalog.Instance, now time.Time) {
	for _, i := range lost {
		if v.gone == nil {
			v.gone = map[string]loss{}
		}
		v.gone[i.ID] = loss{i, now}
	}
}

// renewHolds lets holds begin anew when the registry is back: what it says first proves little.
func (v *service) renewHolds(until time.Time) {
	for id, h := range v.held {
		if h.until.Before(until) {
			h.until = until
			v.held[id] = h
		}
	}
}

// settle brings the holds and pins of a service up to date, and what it serves.
func (s *Shield) settle(v *service, now time.Time) {
	s.endHolds(v, now)
	s.endPins(v, now)
	v.forgetLosses(now.Add(-s.config.CatalogWindow))
	v.served = v.serve()
	if len(v.held)+len(v.gone)+len(v.flaps) > 0 {
		s.active[v.key] = v
	} else if !v.touched {
		delete(s.active, v.key)
	}
}

func (v *service) forgetLosses(until time.Time) {
	maps.DeleteFunc(v.gone, func(_ string, l loss) bool { return !l.at.After(until) })
}

// endHolds drops holds whose time is over, unless nobody can say whether they are still right, and those of instances
// that are back or whose address has a new owner.
func (s *Shield) endHolds(v *service, now time.Time) {
	latest, over := byID(v.latest), 0
	for id, h := range v.held {
		switch {
		case latest[id].Usable(), s.taken(h.instance):
			delete(v.held, id)
		case !v.failing && !h.until.After(now):
			delete(v.held, id)
			over++
		}
	}
	if over > 0 {
		s.report(LetGo, v.key, over, "their time is over")
	}
}

// serve is the latest answer, with held instances in place of lost ones, and without those pinned out.
func (v *service) serve() []catalog.Instance {
	if len(v.held)+len(v.flaps) == 0 && len(v.latest) > 0 {
		return v.latest
	}
	merged := byID(v.latest)
	for id, h := range v.held {
		merged[id] = h.instance
	}
	v.applyPins(merged)
	if len(merged) == 0 {
		return nil
	}
	list := make([]catalog.Instance, 0, len(merged))
	for _, i := range merged {
		list = append(list, i)
	}
	catalog.SortInstances(list)
	return list
}

// next is when settle has something to do, zero if never.
func (v *service) next(c Config) time.Time {
	var next time.Time
	if !v.failing {
		for _, h := range v.held {
			next = earlier(next, h.until)
		}
	}
	for _, l := range v.gone {
		next = earlier(next, l.at.Add(c.CatalogWindow))
	}
	for _, f := range v.flaps {
		next = earlier(next, f.next(c))
	}
	return next
}

func byID(instances []catalog.Instance) map[string]catalog.Instance {
	m := make(map[string]catalog.Instance, len(instances))
	for _, i := range instances {
		m[i.ID] = i
	}
	return m
}

func endpoint(i catalog.Instance) string {
	return net.JoinHostPort(i.Address, strconv.FormatUint(uint64(i.Port), 10))
}
