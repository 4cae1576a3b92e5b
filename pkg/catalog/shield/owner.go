package shield

import (
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// taken says whether another instance, of any service, is registered at the instance's endpoint: what is sent there
// would reach somebody else.
func (s *Shield) taken(i catalog.Instance) bool {
	return slices.ContainsFunc(s.owners[endpoint(i)], func(id string) bool { return id != i.ID })
}

// evict ends the holds whose endpoint an answer gave to somebody else.
func (s *Shield) evict(before, answer []catalog.Instance, now time.Time) {
	if len(s.active) == 0 {
		return
	}
	old, fresh := byID(before), false
	for _, i := range answer {
		fresh = fresh || endpoint(old[i.ID]) != endpoint(i)
	}
	if !fresh {
		return
	}
	for _, v := range s.active {
		for _, h := range v.held {
			if s.taken(h.instance) {
				v.touched = true
			}
		}
		if v.touched {
			s.settle(v, now)
		}
	}
}

func (s *Shield) disown(instances []catalog.Instance) {
	for _, i := range instances {
		ids := s.owners[endpoint(i)]
		if n := slices.Index(ids, i.ID); n >= 0 {
			ids = slices.Delete(ids, n, n+1)
		}
		if len(ids) == 0 {
			delete(s.owners, endpoint(i))
		} else {
			s.owners[endpoint(i)] = ids
		}
	}
}
