package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// Journey is how far an object has come: stored, compiled, proven, sent, acknowledged, serving, at each Envoy.
type Journey struct {
	Object policy.Ref `json:"object"`
	// Place is where it was written: file:line.
	Place string `json:"place"`
	// Stored is the newest revision that is stored, Serving the one that is published.
	Stored  uint64 `json:"stored"`
	Serving uint64 `json:"serving"`
	// Compiled is what it became, by name; empty when nothing needs it.
	Compiled []string `json:"compiled"`
	// Unused says why it became nothing.
	Unused string     `json:"unused,omitempty"`
	Proof  ProofState `json:"proof"`
	// Quarantined is Envoy's reason when something stands in for it.
	Quarantined string `json:"quarantined,omitempty"`
	// Asks are what it asks of the catalog.
	Asks []catalog.Key `json:"asks,omitempty"`
	// Registration is what became of a registration; nil for what is written.
	Registration *Fate `json:"registration,omitempty"`
	// Certificate is how a Certificate stands; nil for all else, and for one that is not served.
	Certificate *secrets.Status  `json:"certificate,omitempty"`
	Envoys      []JourneyAtEnvoy `json:"envoys"`
}

// JourneyAtEnvoy is how far an object has come at one Envoy.
type JourneyAtEnvoy struct {
	Node    string          `json:"node"`
	Gateway string          `json:"gateway"`
	State   xds.State       `json:"state"`
	Parts   []JourneyOfPart `json:"parts"`
}

// JourneyOfPart is one Envoy resource that the object is in.
type JourneyOfPart struct {
	Type   string             `json:"type"`
	Name   string             `json:"name"`
	Status xds.ResourceStatus `json:"status"`
	// Answer is the status in a word: serving, warming, sent, refused, held back, not asked for.
	Answer string `json:"answer"`
}

// Why follows an object, or a registration, on its way to the Envoys. ErrUnknownObject when it is not there.
func (c *Controller) Why(ctx context.Context, ref policy.Ref) (*Journey, error) {
	if b := c.serving.Load(); ref.Kind == KindRegistration && b != nil {
		return c.whyRegistration(b, ref.Name)
	}
	head, objects, err := c.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(objects, func(o policy.Object) bool { return o.Ref == ref })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownObject, ref)
	}
	j := &Journey{Object: ref, Place: objects[i].Place(), Stored: head.Number}
	b := c.serving.Load()
	if b == nil {
		return nil, errors.New("nothing is published yet")
	}
	j.Serving, j.Proof = b.Revision.Number, b.Proof.State
	parts := partsOf(b, ref)
	for _, p := range parts {
		j.Compiled = append(j.Compiled, p.names...)
	}
	if len(j.Compiled) == 0 {
		j.Unused = "no route of any gateway uses it, so Envoy is not sent it"
	}
	for _, name := range j.Compiled {
		j.Quarantined = cmp.Or(j.Quarantined, b.Quarantined[name])
	}
	j.Asks = asksOf(b, ref)
	j.Certificate = c.certificate(ref)
	c.addEnvoys(j, parts)
	return j, nil
}

func (c *Controller) addEnvoys(j *Journey, parts []part) {
	for _, e := range xds.OnlyEnvoys(c.Publisher.Envoys()) {
		if at := c.atEnvoy(e, parts); len(at.Parts) > 0 {
			j.Envoys = append(j.Envoys, at)
		}
	}
}

// asksOf are what a Service asks of the catalog.
func asksOf(b *Build, ref policy.Ref) []catalog.Key {
	for _, g := range b.Config.Gateways {
		for _, cl := range g.Clusters {
			if ref.Kind == "Service" && cl.Service == ref.Name && cl.Discovery != nil && !cl.Registered {
				return []catalog.Key{keyOf(cl.Discovery)}
			}
		}
	}
	return nil
}

// part is the resources of one gateway that an object is in.
type part struct {
	gateway   string
	names     []string // what it became, as people know it
	resources []resourceName
}

type resourceName struct{ url, kind, name string }

func (c *Controller) atEnvoy(e xds.EnvoyStatus, parts []part) JourneyAtEnvoy {
	out := JourneyAtEnvoy{Node: e.Node, Gateway: e.Gateway, State: e.State}
	for _, p := range parts {
		if p.gateway != e.Gateway {
			continue
		}
		for _, r := range p.resources {
			if s, known := c.Publisher.Resource(e.Gateway, e.Node, r.url, r.name); known {
				out.Parts = append(out.Parts, JourneyOfPart{Type: r.kind, Name: r.name, Status: s, Answer: answer(s)})
			}
		}
	}
	return out
}

func answer(s xds.ResourceStatus) string {
	switch {
	case s.Refused != nil:
		return "refused"
	case s.Warming:
		return "warming"
	case s.Wanted != "" && s.Acknowledged == s.Wanted:
		return "serving"
	case s.Sent != "":
		return "sent"
	case !s.Subscribed:
		return "not asked for"
	}
	return "held back"
}

// partsOf finds what an object became.
func partsOf(b *Build, ref policy.Ref) []part {
	var out []part
	for _, g := range b.Config.Gateways {
		p := part{gateway: g.Name}
		switch ref.Kind {
		case "Gateway":
			p.addGateway(g, ref.Name)
		case "Service":
			p.addCluster(g, ref.Name)
		case compile.KindCertificate:
			p.addSecret(g, ref.Name)
		default:
			p.addRoutes(g, ref)
		}
		if len(p.names) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func (p *part) addGateway(g *model.Gateway, name string) {
	if g.Name != name {
		return
	}
	for _, l := range g.Listeners {
		p.names = append(p.names, l.Name)
		p.resources = append(p.resources, resourceName{resource.ListenerType, "listener", l.Name})
	}
}

func (p *part) addCluster(g *model.Gateway, service string) {
	p.addClusters(g, func(c *model.Cluster) bool { return c.Service == service && !c.Registered })
}

func (p *part) addClusters(g *model.Gateway, chosen func(*model.Cluster) bool) {
	for _, c := range g.Clusters {
		if !chosen(c) {
			continue
		}
		p.names = append(p.names, c.Name)
		p.resources = append(p.resources, resourceName{resource.ClusterType, "cluster", c.Name})
		if c.DNS == nil {
			p.resources = append(p.resources, resourceName{resource.EndpointType, "endpoints", model.EndpointsName(c.Name, c.Digest)})
		}
	}
}

// addRoutes takes a Route's own routes, and those that any other object's blocks hold on.
func (p *part) addRoutes(g *model.Gateway, ref policy.Ref) {
	p.addRoutesWhere(g, func(r *model.Route) bool { return concerns(r, ref) })
}

func (p *part) addRoutesWhere(g *model.Gateway, chosen func(*model.Route) bool) {
	seen := map[string]bool{}
	for _, v := range g.Hosts {
		for _, r := range v.Routes {
			if !seen[r.Name] && chosen(r) {
				seen[r.Name] = true
				p.names = append(p.names, r.Name)
			}
		}
	}
	if len(p.names) > 0 {
		p.resources = append(p.resources, resourceName{resource.RouteType, "routes", model.RouteTableName(g.Name)})
	}
}

func concerns(r *model.Route, ref policy.Ref) bool {
	switch ref.Kind {
	case "Route":
		return r.Route == ref.Name
	case compile.KindTemplate:
		return strings.HasPrefix(r.Name, ref.Name+"/")
	}
	return slices.ContainsFunc(r.Attachments, func(a model.Attachment) bool { return a.Via == ref.Name })
}
