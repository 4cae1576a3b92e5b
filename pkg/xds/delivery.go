package xds

import (
	"maps"
	"slices"
	"time"
)

// delivery is a response that waits for its answer.
type delivery struct {
	nonce    string
	at       time.Time
	versions map[string]string // "" = removed
}

// due are the batches to send now, each name → version, "" to remove it. While a batch is unanswered the type waits,
// but not longer than patience: Envoy answers for clusters only when all of them are warm, and one that never is must
// not keep the others away.
func (r *record) due(now time.Time, removals bool, patience time.Duration) []map[string]string {
	if wait, ok := r.waits(patience); ok && now.Before(wait) {
		return nil
	}
	all := map[string]string{}
	for name := range r.changes {
		if want := r.wanted(name); r.sentVersion(name) != want {
			all[name] = want
		}
	}
	for name := range r.removals {
		if removals && !r.removing(name) {
			all[name] = ""
		}
	}
	return r.batches(all)
}

// waits is until when the type takes nothing new because a batch is unanswered.
func (r *record) waits(patience time.Duration) (until time.Time, waiting bool) {
	if len(r.inflight) == 0 {
		return time.Time{}, false
	}
	newest := r.inflight[len(r.inflight)-1].at
	if r.batchesInFlight() >= mostInFlight {
		return newest.AddDate(100, 0, 0), true
	}
	return newest.Add(patience), true
}

// batchesInFlight counts deliveries that were sent at different times.
func (r *record) batchesInFlight() int {
	n, last := 0, time.Time{}
	for _, d := range r.inflight {
		if !d.at.Equal(last) {
			n, last = n+1, d.at
		}
	}
	return n
}

func (r *record) batches(all map[string]string) []map[string]string {
	if len(all) == 0 && !r.greet {
		return nil
	}
	r.greet = false
	if !alone(r.typeURL) {
		return []map[string]string{all}
	}
	var out []map[string]string
	for _, name := range sortedNames(all) {
		out = append(out, map[string]string{name: all[name]})
	}
	return out
}

// sentVersion is the newest version of a name that is in flight, "" for none.
func (r *record) sentVersion(name string) string {
	version, _ := r.sent(name)
	return version
}

func (r *record) removing(name string) bool {
	version, at := r.sent(name)
	return version == "" && !at.IsZero()
}

func (r *record) sent(name string) (version string, at time.Time) {
	for _, d := range slices.Backward(r.inflight) {
		if v, ok := d.versions[name]; ok {
			return v, d.at
		}
	}
	return "", time.Time{}
}

// take finds the response a nonce answers, nil for one that is not outstanding, and no longer waits for it.
func (r *record) take(nonce string) *delivery {
	i := slices.IndexFunc(r.inflight, func(d *delivery) bool { return d.nonce == nonce })
	if i < 0 {
		return nil
	}
	d := r.inflight[i]
	r.inflight = slices.Delete(r.inflight, i, i+1)
	return d
}

// body is what the wanted version of a resource consists of.
func (r *record) body(name string) []byte {
	if b := r.want.Body(name); b != nil {
		return b
	}
	return emptyAssignment(name)
}

// unsent says whether a change waits for the answer to an earlier one.
func (r *record) unsent() bool {
	for name := range r.changes {
		if r.sentVersion(name) != r.wanted(name) {
			return true
		}
	}
	return false
}

// sortedNames are a map's names, sorted.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
