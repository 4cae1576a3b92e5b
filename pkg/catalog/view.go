package catalog

import (
	"maps"
	"slices"
)

// View is all that a Source sent, merged. Not safe for concurrent use. The zero value is ready.
type View struct {
	services map[Key]entry
}

type entry struct {
	service Service
	digest  string
}

// Merge takes over a send, and returns the keys of those whose content differs from what was known, sorted.
func (v *View) Merge(sent []Service) []Key {
	if v.services == nil {
		v.services = map[Key]entry{}
	}
	var changed []Key
	for _, s := range sent {
		if v.put(s) {
			changed = append(changed, s.Key)
		}
	}
	slices.SortFunc(changed, Key.Compare)
	return changed
}

func (v *View) put(s Service) bool {
	known, was := v.services[s.Key]
	if s.Gone {
		delete(v.services, s.Key)
		return was
	}
	digest := s.Digest()
	v.services[s.Key] = entry{s, digest}
	return !was || known.digest != digest
}

// Keep forgets all but the keys for which keep is true.
func (v *View) Keep(keep func(Key) bool) {
	maps.DeleteFunc(v.services, func(k Key, _ entry) bool { return !keep(k) })
}

// Get is the service under the key.
func (v *View) Get(k Key) (Service, bool) {
	e, ok := v.services[k]
	return e.service, ok
}

// Digest is the content hash of the service under the key, "" if it is not known.
func (v *View) Digest(k Key) string {
	return v.services[k].digest
}

// Services is all of them, in the order of their keys.
func (v *View) Services() []Service {
	list := make([]Service, 0, len(v.services))
	for _, e := range v.services {
		list = append(list, e.service)
	}
	slices.SortFunc(list, func(a, b Service) int { return a.Key.Compare(b.Key) })
	return list
}
