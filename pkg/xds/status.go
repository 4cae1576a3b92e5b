package xds

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// State is how an Envoy stands to its gateway's target.
type State string

// The states of an Envoy.
const (
	Synced         State = "synced"          // it has acknowledged everything
	Updating       State = "updating"        // something is not answered yet
	Stale          State = "stale"           // updating for longer than Config.StaleAfter
	Refused        State = "refused"         // it refused something of the target
	UnknownGateway State = "unknown-gateway" // its node.cluster names no published gateway
	Disconnected   State = "disconnected"
)

// EnvoyStatus is what is known of one Envoy, or of one agent.
type EnvoyStatus struct {
	Node         string                `json:"node"`
	Gateway      string                `json:"gateway"`
	Agent        bool                  `json:"agent,omitempty"` // it is an agent, and no Envoy
	Labels       map[string]string     `json:"labels,omitempty"`
	Version      string                `json:"version,omitempty"`
	Bootstrap    string                `json:"bootstrap,omitempty"`
	Address      string                `json:"address"`
	Certificate  *CertificateStatus    `json:"certificate,omitempty"` // that it has connected with
	Connected    bool                  `json:"connected"`
	Since        time.Time             `json:"since"` // connected or disconnected
	State        State                 `json:"state"`
	Target       string                `json:"target,omitempty"`       // digest of what it should have
	Acknowledged string                `json:"acknowledged,omitempty"` // digest of the last target it took in whole
	Types        map[string]TypeStatus `json:"types,omitempty"`        // by short type: cluster, listener, …
	Refusals     []RefusalStatus       `json:"refusals,omitempty"`     // of the present target
	Outage       *Outage               `json:"outage,omitempty"`       // of an agent: the last time it served Envoys by itself
}

// CertificateStatus is the certificate of a connection, which may have been renewed since.
type CertificateStatus struct {
	Name   string    `json:"name"` // of its bearer
	Until  time.Time `json:"until"`
	Advice string    `json:"advice,omitempty"` // when it ends soon
}

func certificateStatus(c *x509.Certificate, now time.Time) *CertificateStatus {
	if c == nil {
		return nil
	}
	return &CertificateStatus{Name: certs.Identity(c), Until: c.NotAfter, Advice: certs.Advice(c, now)}
}

// OnlyEnvoys leaves the agents out of a list.
func OnlyEnvoys(list []EnvoyStatus) []EnvoyStatus { return those(list, false) }

// OnlyAgents leaves the Envoys out of a list.
func OnlyAgents(list []EnvoyStatus) []EnvoyStatus { return those(list, true) }

func those(list []EnvoyStatus, agents bool) (out []EnvoyStatus) {
	for _, e := range list {
		if e.Agent == agents {
			out = append(out, e)
		}
	}
	return out
}

// TypeStatus counts the resources of one type that an Envoy asks for.
type TypeStatus struct {
	Sent         int `json:"sent"`         // acknowledged, refused, or waiting for an answer
	Acknowledged int `json:"acknowledged"` // at the wanted version
	Warming      int `json:"warming"`      // sent and not answered; for clusters: not ready yet
}

// RefusalStatus is a resource that an Envoy refuses.
type RefusalStatus struct {
	Type    string    `json:"type"` // short: cluster, listener, …
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// ResourceStatus is what is known of one resource at one Envoy.
type ResourceStatus struct {
	Wanted       string         `json:"wanted,omitempty"`       // the version it should have
	Sent         string         `json:"sent,omitempty"`         // the newest version that waits for an answer
	SentAt       *time.Time     `json:"sentAt,omitempty"`       // since when it waits
	Acknowledged string         `json:"acknowledged,omitempty"` // the version it has
	AnsweredAt   *time.Time     `json:"answeredAt,omitempty"`   // its last answer about resources of the type
	Refused      *RefusalStatus `json:"refused,omitempty"`      // if it refused the wanted version
	Warming      bool           `json:"warming,omitempty"`      // sent and not answered
	Subscribed   bool           `json:"subscribed"`             // it asks for the resource
}

// Envoys are the Envoys that are connected, and those that were not long ago; sorted by node id.
func (s *Server) Envoys() []EnvoyStatus {
	s.mu.Lock()
	s.registry.prune(time.Now())
	nodes := make([]*node, 0, len(s.registry.nodes))
	for _, n := range s.registry.nodes {
		nodes = append(nodes, n)
	}
	s.mu.Unlock()
	return statuses(nodes)
}

func statuses(nodes []*node) []EnvoyStatus {
	now := time.Now()
	out := make([]EnvoyStatus, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.status(now))
	}
	slices.SortFunc(out, func(a, b EnvoyStatus) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Gateway, b.Gateway))
	})
	return out
}

// Wait returns when every connected Envoy of a gateway has acknowledged or refused everything of the target with that
// digest, when the gateway's target is another one, or when ctx ends; with the gateway's connected Envoys as they then
// are, sorted by node id.
func (s *Server) Wait(ctx context.Context, gateway, digest string) []EnvoyStatus {
	for {
		nodes, changed, ended := s.await(gateway, digest)
		if ended {
			return statuses(nodes)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return statuses(nodes)
		}
	}
}

// await looks once for what Wait waits for; changed is closed when it is worth looking again.
func (s *Server) await(name, digest string) (nodes []*node, changed <-chan struct{}, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.gateways[name]
	if !ok {
		return nil, nil, true
	}
	t := g.target.Load()
	ended = true
	for n := range g.streams {
		if s.registry.find(n.info.key()) != n {
			continue
		}
		nodes = append(nodes, n)
		ended = ended && n.hasReached(t)
	}
	return nodes, g.changed, ended || t == nil || t.snap.Digest() != digest
}

func (n *node) hasReached(t *target) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.target == t && n.done
}

// Resource is what is known of one resource at one node of a gateway; false if the node is not known.
func (s *Server) Resource(gateway, nodeID, typeURL, name string) (ResourceStatus, bool) {
	s.mu.Lock()
	n := s.registry.find(nodeKey{gateway, nodeID})
	s.mu.Unlock()
	if n == nil {
		return ResourceStatus{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.records[typeURL]
	if !ok {
		return ResourceStatus{}, true
	}
	return r.status(name), true
}

func (r *record) status(name string) ResourceStatus {
	out := ResourceStatus{Wanted: r.want.Version(name), Subscribed: r.isSubscribed(name)}
	if !out.Subscribed {
		return out
	}
	out.Acknowledged = r.acknowledged(name)
	if !r.answeredAt.IsZero() {
		at := r.answeredAt
		out.AnsweredAt = &at
	}
	if version, at := r.sent(name); version != "" {
		out.Sent, out.SentAt, out.Warming = version, &at, true
	}
	if f := r.refusalOf(name, out.Wanted); f != nil {
		out.Refused = r.refusalStatus(name, f)
	}
	return out
}

func (r *record) refusalStatus(name string, f *refusal) *RefusalStatus {
	return &RefusalStatus{Type: shortType(r.typeURL), Name: name, Version: f.version, Reason: f.reason, At: f.at}
}

func (n *node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.info.address
}

func (n *node) status(now time.Time) EnvoyStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := EnvoyStatus{
		Node: n.info.id, Gateway: n.info.gateway, Agent: n.info.agent, Labels: n.info.labels, Version: n.info.version,
		Bootstrap: n.info.bootstrap, Address: n.info.address, Certificate: certificateStatus(n.info.certificate, now), Connected: n.connected, Since: n.since,
		Acknowledged: n.reached, Types: map[string]TypeStatus{}, Outage: n.info.outage,
	}
	t := n.gateway.target.Load()
	if t != nil {
		out.Target = t.snap.Digest()
	}
	for url, r := range n.records {
		if len(r.subscribed) == 0 && !r.wildcard {
			continue
		}
		out.Types[shortType(url)] = r.count()
		for _, name := range r.current() {
			out.Refusals = append(out.Refusals, *r.refusalStatus(name, r.refusalOf(name, r.wanted(name))))
		}
	}
	slices.SortFunc(out.Refusals, func(a, b RefusalStatus) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	out.State = n.state(t, len(out.Refusals) > 0, now)
	return out
}

func (n *node) state(t *target, refusals bool, now time.Time) State {
	switch {
	case !n.connected:
		return Disconnected
	case t == nil:
		return UnknownGateway
	case refusals:
		return Refused
	case n.target == t && n.done:
		return Synced
	case now.Sub(later(t.at, n.since)) > n.cfg.StaleAfter:
		return Stale
	}
	return Updating
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count looks at every resource of the type.
func (r *record) count() TypeStatus {
	names := r.want.Names()
	if !r.wildcard {
		names = sortedNames(r.subscribed)
	}
	var out TypeStatus
	for _, name := range names {
		_, at := r.sent(name)
		switch want := r.wanted(name); {
		case want == "":
		case !at.IsZero():
			out.Sent, out.Warming = out.Sent+1, out.Warming+1
		case want == r.acknowledged(name):
			out.Sent, out.Acknowledged = out.Sent+1, out.Acknowledged+1
		case r.refusalOf(name, want) != nil:
			out.Sent++
		}
	}
	return out
}

func envoyVersion(node *corev3.Node) string {
	if v := node.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	return node.GetUserAgentVersion()
}
