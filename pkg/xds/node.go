package xds

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// arrival is how long a reconnected Envoy may take to ask for all the types it has; it asks for them in one burst.
const arrival = 250 * time.Millisecond

// phase is how far a node is on its way to its target.
type phase int

const (
	warming phase = iota
	switching
	draining
	final
)

// target is what a gateway's Envoys should have, since when.
type target struct {
	snap *snapshot.Snapshot
	at   time.Time
	// version is the digest of what of it is for Envoys. Every response bears it, so that who follows all of that knows
	// when nothing is missing.
	version string
}

func newTarget(snap *snapshot.Snapshot, at time.Time) *target {
	tables := map[string]*snapshot.Table{}
	for _, url := range snap.Types() {
		if !strings.HasPrefix(url, agentTypes) {
			tables[url] = snap.Table(url)
		}
	}
	return &target{snap: snap, at: at, version: snapshot.New(tables).Digest()}
}

// node is the state machine and record of one Envoy. The goroutine of its stream drives it; others read it.
type node struct {
	cfg     *Config
	diffs   *diffs
	metrics *metrics
	gateway *gateway
	info    nodeInfo
	wake    chan struct{} // there is a new target
	leave   chan struct{} // its stream is to end

	mu        sync.Mutex
	records   map[string]*record
	target    *target
	phase     phase
	deadline  time.Time // of warming or draining
	nonce     int64
	connected bool
	since     time.Time // connected or disconnected
	claims    bool      // Envoy said on this stream that it has something
	known     bool      // whether the stream is of the process that the record is about has been found out
	done      bool      // the target is reached, but for what was refused
	measured  *target   // the last target whose propagation was measured
	reached   string    // digest of the last target that was reached without a refusal
}

func newNode(s *Server, g *gateway, info nodeInfo) *node {
	return &node{
		cfg: &s.cfg, diffs: &s.diffs, metrics: s.metrics, gateway: g, info: info,
		wake: make(chan struct{}, 1), leave: make(chan struct{}, 1), records: map[string]*record{},
	}
}

// connect begins a stream. What the node asked for on an earlier one is asked for again before it counts.
func (n *node) connect(g *gateway, info nodeInfo, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gateway = g
	n.info, n.connected, n.since, n.claims, n.known = info, true, now, false, false
	n.begin(now)
	for _, r := range n.records {
		r.requested = false
	}
	select {
	case <-n.leave: // was for the stream before
	default:
	}
}

func (n *node) disconnect(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.connected, n.since, n.done = false, now, false
}

// begin starts over with phase 1.
func (n *node) begin(now time.Time) {
	n.phase, n.deadline, n.done = warming, now.Add(n.cfg.PhaseTimeout), false
}

// handle takes one request: a subscription, an answer, or both.
func (n *node) handle(req *discoveryv3.DeltaDiscoveryRequest, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.adopt(now)
	r := n.record(req.GetTypeUrl())
	if !r.requested {
		n.first(r, req)
		return
	}
	if d := r.take(req.GetResponseNonce()); d != nil {
		n.answer(r, d, req, now)
	}
	r.subscribe(req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe())
}

func (n *node) record(typeURL string) *record {
	r, ok := n.records[typeURL]
	if !ok {
		r = newRecord(typeURL)
		if n.target != nil {
			r.want = n.target.snap.Table(typeURL)
		}
		n.records[typeURL] = r
	}
	return r
}

// first takes the first request of a type on this stream.
func (n *node) first(r *record, req *discoveryv3.DeltaDiscoveryRequest) {
	claims := len(req.GetInitialResourceVersions()) > 0
	n.claims = n.claims || claims
	if !n.known && !claims && (r.any() || !n.hasAny()) {
		n.forget()
	}
	n.known = n.known || claims
	r.mayAll = r.typeURL != resource.SecretType || n.info.agent
	r.begin(req.GetResourceNamesSubscribe(), req.GetInitialResourceVersions())
	r.greet = r.wildcard && (!claims || !n.info.envoy) // an agent that has everything hears that it has
}

// forget is for a new Envoy process, known by that it has nothing of a type of which the record has something, or that
// nothing at all is known of it: what the one before had is gone, and what it refused is tried again.
func (n *node) forget() {
	n.known = true
	for _, r := range n.records {
		r.forget()
	}
}

func (n *node) hasAny() bool {
	for _, r := range n.records {
		if r.any() {
			return true
		}
	}
	return false
}

func (n *node) answer(r *record, d *delivery, req *discoveryv3.DeltaDiscoveryRequest, now time.Time) {
	if req.GetErrorDetail() == nil {
		r.accept(d, now)
		return
	}
	message := req.GetErrorDetail().GetMessage()
	names, reason := refusedNames(d.versions, message), readableReason(message)
	r.refuse(d, names, reason, now)
	n.metrics.nacks.WithLabelValues(shortType(r.typeURL)).Inc()
	n.cfg.Log.Warn("envoy refused resources", "node", n.info.id, "gateway", n.gateway.name,
		"type", shortType(r.typeURL), "names", names, "reason", reason)
}

// adopt takes the gateway's newest target, if there is a newer one.
func (n *node) adopt(now time.Time) {
	t := n.gateway.target.Load()
	if t == n.target {
		return
	}
	n.target = t
	if t == nil {
		n.done = false
		return
	}
	n.begin(now)
	for url, r := range n.records {
		r.retarget(t.snap.Table(url), n.diffs.between)
	}
}

// step does what is to be done now: it returns the responses to send, and when to come again if nothing else happens
// (the zero time: not at all). settled says that the node has just reached its target.
func (n *node) step(now time.Time) (out []*discoveryv3.DeltaDiscoveryResponse, again time.Time, settled bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.adopt(now)
	if n.target == nil {
		return nil, time.Time{}, false
	}
	for n.advance(now) {
	}
	out = n.flush(now)
	return out, n.next(now), n.settle(now)
}

// advance goes to the next phase if this one has ended.
func (n *node) advance(now time.Time) bool {
	switch {
	case n.phase == warming && (n.warm(now) || !now.Before(n.deadline)):
		n.phase = switching
	case n.phase == switching && n.all(now, switches):
		n.phase, n.deadline = draining, now
		if n.leftovers() {
			n.deadline = now.Add(n.cfg.DrainDelay)
		}
	case n.phase == draining && !now.Before(n.deadline):
		n.phase = final
	default:
		return false
	}
	return true
}

func (n *node) warm(now time.Time) bool {
	return n.all(now, func(typeURL string) bool { return !switches(typeURL) })
}

// all says whether the types that which takes are settled, and none is still to be asked for.
func (n *node) all(now time.Time, which func(typeURL string) bool) bool {
	for _, url := range n.target.snap.Types() {
		if which(url) && n.expected(url, now) {
			return false
		}
	}
	for url, r := range n.records {
		if which(url) && r.requested && !r.settled() {
			return false
		}
	}
	return true
}

// expected says whether a type that has not been asked for on this stream will be. Every Envoy asks for clusters, and
// for listeners after them; for the other types it asks when something names one.
func (n *node) expected(typeURL string, now time.Time) bool {
	if !n.info.envoy || n.target.snap.Table(typeURL).Len() == 0 || n.requested(typeURL) {
		return false
	}
	if typeURL == resource.ClusterType || typeURL == resource.ListenerType {
		return true
	}
	return n.claims && now.Before(n.since.Add(arrival))
}

func (n *node) requested(typeURL string) bool {
	r, ok := n.records[typeURL]
	return ok && r.requested
}

func (n *node) leftovers() bool {
	for _, r := range n.records {
		if r.requested && len(r.removals) > 0 {
			return true
		}
	}
	return false
}

// removable says whether resources of the type may be removed now: listeners and routes with the switch, others when
// nothing that is still in use can name them.
func (n *node) removable(typeURL string) bool {
	if switches(typeURL) {
		return n.phase >= switching && (typeURL == resource.ListenerType || !n.holdsBack())
	}
	return n.phase == final && !n.holdsBack()
}

func (n *node) holdsBack() bool {
	for url, r := range n.records {
		if switches(url) && r.requested && r.holdsBack() {
			return true
		}
	}
	return false
}

// flush makes the responses that are due, in the order they should leave.
func (n *node) flush(now time.Time) []*discoveryv3.DeltaDiscoveryResponse {
	var out []*discoveryv3.DeltaDiscoveryResponse
	for _, url := range slices.SortedFunc(maps.Keys(n.records), compareTypes) {
		r := n.records[url]
		if !r.requested || switches(url) && n.phase < switching {
			continue
		}
		for _, versions := range r.due(now, n.removable(url), n.cfg.PhaseTimeout) {
			out = append(out, n.respond(r, versions, now))
		}
	}
	return out
}

// respond makes a response and notes that it is under way.
func (n *node) respond(r *record, versions map[string]string, now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	n.nonce++
	d := &delivery{nonce: strconv.FormatInt(n.nonce, 10), at: now, versions: versions}
	r.inflight = append(r.inflight, d)
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: r.typeURL, Nonce: d.nonce, SystemVersionInfo: n.target.version,
	}
	for _, name := range sortedNames(versions) {
		if versions[name] == "" {
			out.RemovedResources = append(out.RemovedResources, name)
			continue
		}
		out.Resources = append(out.Resources, &discoveryv3.Resource{
			Name: name, Version: versions[name], Resource: &anypb.Any{TypeUrl: r.typeURL, Value: r.body(name)},
		})
	}
	n.metrics.sent.WithLabelValues(shortType(r.typeURL)).Add(float64(len(out.Resources)))
	return out
}

// next is the earliest time to come at which something is to be done without an event, the zero time for none.
func (n *node) next(now time.Time) time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if n.phase == warming || n.phase == draining {
		sooner(n.deadline)
	}
	if n.claims {
		sooner(n.since.Add(arrival))
	}
	for _, r := range n.records {
		if until, waiting := r.waits(n.cfg.PhaseTimeout); waiting && r.requested && r.unsent() {
			sooner(until)
		}
	}
	return at
}

// settled says whether the target is reached, but for what was refused.
func (n *node) settled(now time.Time) bool {
	everything := func(string) bool { return true }
	return n.phase == final && n.all(now, everything) && (!n.leftovers() || n.holdsBack())
}

// settle notes whether the target is reached, and says whether that is new.
func (n *node) settle(now time.Time) bool {
	was := n.done
	n.done = n.settled(now)
	if !n.done || was {
		return false
	}
	refusals := false
	for _, r := range n.records {
		if r.requested {
			r.compact(n.diffs.between)
			refusals = refusals || len(r.current()) > 0
		}
	}
	if !refusals {
		n.reached = n.target.snap.Digest()
	}
	if n.measured != n.target && n.target.at.After(n.since) {
		n.measured = n.target
		n.metrics.propagation.Observe(now.Sub(n.target.at).Seconds())
	}
	return true
}
