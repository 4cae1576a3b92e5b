package xds

import (
	"maps"
	"slices"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// mostInFlight bounds the batches of a type that an Envoy may leave unanswered; mostRefusals the refused versions of
// one resource that are remembered.
const (
	mostInFlight = 8
	mostRefusals = 32
)

// record is what one Envoy has of one resource type, and what it lacks of what it should have.
type record struct {
	typeURL    string
	requested  bool // on the present stream
	greet      bool // Envoy begins with everything and waits for an answer, even an empty one
	mayAll     bool // everything may be asked for at once
	wildcard   bool
	subscribed map[string]struct{}

	// What is acknowledged: base, but for the names in diff ("" = not there). For names not subscribed it means nothing.
	base *snapshot.Table
	diff map[string]string

	want     *snapshot.Table
	changes  map[string]struct{} // to be sent or in flight
	removals map[string]struct{} // to be removed or in flight

	inflight   []*delivery // oldest first
	refused    map[string][]refusal
	answeredAt time.Time
}

// refusal is a version that Envoy does not take.
type refusal struct {
	version string
	reason  string
	at      time.Time
}

func newRecord(typeURL string) *record {
	return &record{
		typeURL: typeURL, subscribed: map[string]struct{}{}, diff: map[string]string{},
		changes: map[string]struct{}{}, removals: map[string]struct{}{}, refused: map[string][]refusal{},
	}
}

func (r *record) isSubscribed(name string) bool { return r.isNamed(name) || r.wildcard }

func (r *record) isNamed(name string) bool {
	_, ok := r.subscribed[name]
	return ok
}

// acknowledged is the version Envoy has of a subscribed resource, "" for none.
func (r *record) acknowledged(name string) string {
	if v, ok := r.diff[name]; ok {
		return v
	}
	return r.base.Version(name)
}

func (r *record) setAcknowledged(name, version string) {
	if r.base.Version(name) == version {
		delete(r.diff, name)
		return
	}
	r.diff[name] = version
}

// wanted is the version Envoy should have, "" for none. Endpoints that the target does not know stay as they are while
// Envoy asks for them by name: an empty set, in whatever form, would empty a cluster that is still in use. Where it has
// none either it gets an empty set, for a cluster without an answer would hold up all later ones.
func (r *record) wanted(name string) string {
	v := r.want.Version(name)
	if v != "" || r.typeURL != resource.EndpointType || !r.isNamed(name) {
		return v
	}
	if had := r.acknowledged(name); had != "" {
		return had
	}
	return emptyAssignmentVersion(name)
}

func (r *record) refusalOf(name, version string) *refusal {
	for i := range r.refused[name] {
		if r.refused[name][i].version == version {
			return &r.refused[name][i]
		}
	}
	return nil
}

// consider puts a name where it belongs: to be changed, to be removed, or neither.
func (r *record) consider(name string) {
	delete(r.changes, name)
	delete(r.removals, name)
	if !r.isSubscribed(name) {
		return
	}
	want := r.wanted(name)
	switch {
	case want == r.acknowledged(name):
	case want == "":
		r.removals[name] = struct{}{}
	case r.refusalOf(name, want) == nil:
		r.changes[name] = struct{}{}
	}
}

// begin takes the first request of a type on a stream: versions is what Envoy says it has.
func (r *record) begin(names []string, versions map[string]string) {
	r.requested, r.wildcard = true, len(names) == 0 && legacyWildcard(r.typeURL)
	r.subscribed, r.inflight = map[string]struct{}{}, nil
	r.base, r.diff = nil, map[string]string{}
	maps.Copy(r.diff, versions)
	for _, name := range names {
		r.subscribeName(name)
	}
	r.reconsider()
}

// subscribe takes a later request. A name asked for again is sent again: Envoy has dropped what it had.
func (r *record) subscribe(names, not []string) {
	for _, name := range not {
		r.unsubscribeName(name)
	}
	for _, name := range names {
		r.subscribeName(name)
		if name == "*" {
			r.reconsider()
			continue
		}
		r.setAcknowledged(name, "")
		r.consider(name)
	}
}

func (r *record) subscribeName(name string) {
	if name != "*" {
		r.subscribed[name] = struct{}{}
		return
	}
	r.wildcard = r.mayAll
}

func (r *record) unsubscribeName(name string) {
	if name == "*" {
		r.wildcard = false
		r.reconsider()
		return
	}
	delete(r.subscribed, name)
	if r.wildcard {
		return
	}
	delete(r.diff, name)
	for _, d := range r.inflight {
		delete(d.versions, name)
	}
	r.consider(name)
}

// reconsider looks at every name there is; it costs as much as the type has resources.
func (r *record) reconsider() {
	clear(r.changes)
	clear(r.removals)
	for name := range r.subscribed {
		r.consider(name)
	}
	for name := range r.diff {
		r.consider(name)
	}
	if !r.wildcard {
		return
	}
	for _, t := range []*snapshot.Table{r.base, r.want} {
		for _, name := range t.Names() {
			r.consider(name)
		}
	}
}

// retarget makes want what Envoy should have. It costs as much as want differs from what Envoy has.
func (r *record) retarget(want *snapshot.Table, diff func(a, b *snapshot.Table) []string) {
	if r.want.Digest() == want.Digest() {
		return
	}
	r.want = want
	names := slices.AppendSeq(diff(r.base, want), maps.Keys(r.diff))
	names = slices.AppendSeq(names, maps.Keys(r.changes))
	clear(r.changes)
	clear(r.removals)
	for _, name := range names {
		r.consider(name)
	}
}

// settled says that nothing waits to be added or changed, and no answer is outstanding.
func (r *record) settled() bool { return len(r.changes) == 0 && len(r.inflight) == 0 }

// compact makes want the base, once Envoy has all of it but what it refused. The emptied maps are replaced, for a map
// keeps the room it once needed.
func (r *record) compact(diff func(a, b *snapshot.Table) []string) {
	if r.base == r.want && len(r.diff) == 0 {
		return
	}
	rest := map[string]string{}
	keep := func(name string) {
		if had := r.acknowledged(name); r.isSubscribed(name) && had != r.want.Version(name) {
			rest[name] = had
		}
	}
	for _, name := range diff(r.base, r.want) {
		keep(name)
	}
	for name := range r.diff {
		keep(name)
	}
	r.base, r.diff = r.want, rest
	r.changes = map[string]struct{}{}
	if len(r.removals) == 0 {
		r.removals = map[string]struct{}{}
	}
}

// accept records an acknowledged response.
func (r *record) accept(d *delivery, now time.Time) {
	r.answeredAt = now
	for name, version := range d.versions {
		r.setAcknowledged(name, version)
		r.consider(name)
	}
}

// refuse records a refused response: the named resources are not sent again in that version, the others are.
func (r *record) refuse(d *delivery, names []string, reason string, now time.Time) {
	r.answeredAt = now
	for _, name := range names {
		version := d.versions[name]
		if r.refusalOf(name, version) == nil {
			all := append(r.refused[name], refusal{version: version, reason: reason, at: now})
			r.refused[name] = all[max(0, len(all)-mostRefusals):]
		}
	}
	for name, version := range d.versions {
		if version == "" {
			r.setAcknowledged(name, "")
		}
		r.consider(name)
	}
}

// forget makes the record that of another Envoy process, which has refused nothing, and has only what it said it has if
// it has said so already.
func (r *record) forget() {
	r.refused = map[string][]refusal{}
	if !r.requested {
		r.wildcard, r.subscribed, r.inflight = false, map[string]struct{}{}, nil
		r.base, r.diff = nil, map[string]string{}
	}
	r.reconsider()
}

// holdsBack says whether Envoy still uses an older version of something whose wanted version it refused.
func (r *record) holdsBack() bool {
	for name := range r.refused {
		had := r.acknowledged(name)
		if want := r.wanted(name); had != "" && had != want && r.isSubscribed(name) && r.refusalOf(name, want) != nil {
			return true
		}
	}
	return false
}

// any says whether Envoy has anything of the type.
func (r *record) any() bool {
	names := slices.Collect(maps.Keys(r.subscribed))
	if r.wildcard {
		names = slices.AppendSeq(r.base.Names(), maps.Keys(r.diff))
	}
	return slices.ContainsFunc(names, func(name string) bool { return r.acknowledged(name) != "" })
}

// current are the refused names whose refused version is the wanted one, sorted.
func (r *record) current() []string {
	var names []string
	for name := range r.refused {
		if r.isSubscribed(name) && r.refusalOf(name, r.wanted(name)) != nil && r.acknowledged(name) != r.wanted(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
