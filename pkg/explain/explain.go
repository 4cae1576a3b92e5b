// Package explain says what a gateway would do with a request, and why: which rule takes it, from which line, and what
// holds there. It follows the plain matcher of the model, on the request as Envoy normalises it.
package explain

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Request is what is asked about.
type Request struct {
	Method string `json:"method"`
	// URL is absolute, or a path.
	URL     string      `json:"url"`
	Headers http.Header `json:"headers,omitempty"`
	// Gateway may be empty where port and host decide it.
	Gateway string `json:"gateway,omitempty"`
}

// Result is what would happen.
type Result struct {
	Gateway string `json:"gateway"`
	// Method, Host, Path and Query are the request as it is matched.
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Query  string `json:"query,omitempty"`
	// Status is the gateway's own answer; 0 when a service or a feature answers.
	Status int `json:"status,omitempty"`
	// Reason says why the gateway answers itself.
	Reason string   `json:"reason,omitempty"`
	Allow  []string `json:"allow,omitempty"`
	// Domain is the host pattern that the request falls under.
	Domain string `json:"domain,omitempty"`
	// Rule is route/rule, Origin the file:line where it stands, Match what it takes.
	Rule   string            `json:"rule,omitempty"`
	Origin string            `json:"origin,omitempty"`
	Match  string            `json:"match,omitempty"`
	Params map[string]string `json:"params,omitempty"`
	// Blocks are what holds, in the order in which it acts.
	Blocks   []Block   `json:"blocks,omitempty"`
	Services []Service `json:"services,omitempty"`
	// Decider is who decides whether the request may go on, agent or native, and WhyAgent why it is not Envoy by itself.
	Decider  model.Decider `json:"decider,omitempty"`
	WhyAgent string        `json:"whyAgent,omitempty"`
	// Missed are rules that take the path but not the request.
	Missed []Miss   `json:"missed,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Block is one feature's block that holds.
type Block struct {
	Feature string `json:"feature"`
	// Level is gateway, service, route or rule; default when nobody wrote it, joined when a nearer block holds beside it.
	Level string `json:"level"`
	// From is the file:line where it was written, Via the Policy it came through.
	From   string          `json:"from,omitempty"`
	Via    string          `json:"via,omitempty"`
	Config json.RawMessage `json:"config"`
}

// Service is one that may be asked.
type Service struct {
	Name string `json:"name"`
	// Share is its part of the requests, in percent.
	Share     float64  `json:"share"`
	Endpoints []string `json:"endpoints,omitempty"`
}

// Miss is a rule and what about the request it does not take.
type Miss struct {
	Rule    string `json:"rule"`
	Origin  string `json:"origin"`
	Because string `json:"because"`
}

// Explain says what would happen to a request. An error means that the question itself makes no sense.
func Explain(c *model.Config, r Request) (*Result, error) {
	n, err := normalise(r)
	if err != nil {
		return nil, err
	}
	g, err := gateway(c, r.Gateway, n)
	if err != nil {
		return nil, err
	}
	out := &Result{Gateway: g.Name, Method: n.Method, Host: n.Host, Path: n.Path, Query: n.query, Notes: n.notes}
	if n.status != 0 {
		out.Status, out.Reason = n.status, n.reason
		return out, nil
	}
	out.find(g, n.Request)
	return out, nil
}

// gateway is the one that is named, else the only one that has the port and the host.
func gateway(c *model.Config, name string, n normalised) (*model.Gateway, error) {
	var names []string
	var fit []*model.Gateway
	for _, g := range c.Gateways {
		names = append(names, g.Name)
		if g.Name == name || name == "" && listens(g, n.port) {
			fit = append(fit, g)
		}
	}
	if len(fit) == 0 && name == "" {
		fit = c.Gateways
	}
	if known := slices.DeleteFunc(slices.Clone(fit), func(g *model.Gateway) bool { return g.FindHost(n.Host) == nil }); len(known) == 1 {
		fit = known
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(names) == 0:
		return nil, fmt.Errorf("there is no Gateway")
	case len(fit) == 0:
		return nil, fmt.Errorf("there is no Gateway %q; there are: %s", name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("several Gateways could take %s: name one with --gateway, of %s", n.Host, strings.Join(names, ", "))
}

func listens(g *model.Gateway, port uint32) bool {
	return slices.ContainsFunc(g.Listeners, func(l *model.Listener) bool { return l.Port == port })
}

func (out *Result) find(g *model.Gateway, r model.Request) {
	host := g.FindHost(r.Host)
	if host == nil {
		out.Status, out.Reason = http.StatusNotFound, "no rule is for this host; there are rules for: "+domains(g)
		return
	}
	out.Domain = host.Domain
	route := g.Find(r)
	out.Missed = missed(host.Routes, r, route)
	switch {
	case route == nil:
		out.Status = http.StatusNotFound
		out.Reason = fmt.Sprintf("no rule of host %s takes this path", host.Domain)
		if len(out.Missed) > 0 {
			out.Reason = "rules take this path, but not this request"
		}
	case len(route.Allow) > 0:
		out.Status, out.Allow = http.StatusMethodNotAllowed, route.Allow
		out.Reason = "the path exists with other methods"
	default:
		out.Missed = nil
		out.taken(g, route, r)
	}
}

// domains are a gateway's hosts, the first few of them.
func domains(g *model.Gateway) string {
	var names []string
	for i, v := range g.Hosts {
		if i == 10 {
			names = append(names, fmt.Sprintf("and %d more", len(g.Hosts)-i))
			break
		}
		names = append(names, v.Domain)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (out *Result) taken(g *model.Gateway, route *model.Route, r model.Request) {
	out.Rule, out.Origin, out.Match = route.Name, route.Origin, Describe(route.Match)
	out.Decider, out.WhyAgent = route.Decider, route.WhyAgent
	out.Params = params(route.Match.Path, r.Path)
	for _, a := range route.Attachments {
		out.Blocks = append(out.Blocks, blocks(a)...)
	}
	total := uint32(0)
	for _, b := range route.Backends {
		total += b.Weight
	}
	for _, b := range route.Backends {
		out.Services = append(out.Services, Service{Name: b.Service, Share: 100 * float64(b.Weight) / float64(max(total, 1)), Endpoints: endpoints(g, b.Cluster)})
	}
}

// joined is a block that blocks farther away have joined.
type joined interface {
	// Parts are the blocks as they were written, the nearest last.
	Parts() []model.Attachment
}

// LevelJoined is the level of a block that a nearer one has joined, and that holds beside it.
const LevelJoined = "joined"

// blocks are one attachment, or each of those that it was joined of.
func blocks(a model.Attachment) []Block {
	j, ok := a.Spec.(joined)
	if !ok || len(j.Parts()) < 2 {
		return []Block{block(a)}
	}
	var out []Block
	for i, part := range j.Parts() {
		part.Level = LevelJoined
		if i == len(j.Parts())-1 {
			part.Level, part.Via = a.Level, a.Via
		}
		out = append(out, block(part))
	}
	return out
}

func block(a model.Attachment) Block {
	config, err := json.Marshal(a.Spec)
	if err != nil {
		config = []byte("null") // compile has marshalled the same value for its digest
	}
	return Block{Feature: a.Feature, Level: a.Level, From: a.From, Via: a.Via, Config: config}
}

func endpoints(g *model.Gateway, cluster string) []string {
	i := slices.IndexFunc(g.Clusters, func(c *model.Cluster) bool { return c.Name == cluster })
	if i < 0 {
		return nil
	}
	c := g.Clusters[i]
	if c.DNS != nil {
		return []string{hostPort(c.DNS.Host, c.DNS.Port)}
	}
	var out []string
	for _, e := range c.Endpoints {
		out = append(out, hostPort(e.Address, e.Port))
	}
	return out
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// params are the values of a pattern's parameters in a path that it takes.
func params(p model.Path, path string) map[string]string {
	if !p.HasParams() {
		return nil
	}
	out := map[string]string{}
	values := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, s := range p.Segments {
		if s.Param != "" && i < len(values) {
			out[s.Param] = values[i]
		}
	}
	return out
}
