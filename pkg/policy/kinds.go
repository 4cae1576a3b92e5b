package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// Gateway is what a set of Envoys listens on, and what holds for everything that passes them.
type Gateway struct {
	Listeners []Listener `json:"listeners" jsonschema:"required" jsonschema_description:"Where it listens."`
	Use       []string   `json:"use,omitempty" jsonschema_description:"Policies that hold for every route, in order."`
	Blocks    `json:"-"`
}

// Listener is one port of a Gateway.
type Listener struct {
	Name    string `json:"name" jsonschema:"required" jsonschema_description:"Its name, unique in the gateway."`
	Port    uint32 `json:"port" jsonschema:"required,minimum=1,maximum=65535" jsonschema_description:"TCP port."`
	Address string `json:"address,omitempty" jsonschema_description:"IP address to bind; all interfaces when left out."`

	TLS           *ListenerTLS `json:"tls,omitempty" jsonschema_description:"Makes it speak TLS."`
	RedirectToTLS PublicPort   `json:"redirectToTLS,omitzero" jsonschema_description:"Answers every request with its https address, and reaches no route: true, or the port that clients reach TLS at when it is another one than the gateway's TLS listener has."`
}

// Service is something routes send requests to, and how it is to be reached.
type Service struct {
	Endpoints []Endpoint `json:"endpoints,omitempty" jsonschema_description:"Fixed instances."`
	Consul    *Consul    `json:"consul,omitempty" jsonschema_description:"Instances from the Consul catalog: a registered name, or the long form."`
	DNS       string     `json:"dns,omitempty" jsonschema_description:"host:port, looked up by Envoy; every address is an instance."`
	Protocol  string     `json:"protocol,omitempty" jsonschema:"enum=http1,enum=http2,enum=grpc" jsonschema_description:"What the instances speak: http1 (the default), http2 without TLS, or grpc."`
	Blocks    `json:"-"`
}

// Consul is what a Service asks the Consul catalog for: a registered name, or what narrows it.
type Consul struct {
	Service     string   `json:"service" jsonschema:"required" jsonschema_description:"The name under which instances register."`
	Tags        []string `json:"tags,omitempty" jsonschema_description:"Only instances that have all of these tags."`
	Datacenter  string   `json:"datacenter,omitempty" jsonschema_description:"Where to look; the agent's own when left out."`
	Filter      string   `json:"filter,omitempty" jsonschema_description:"An expression in Consul's filter language."`
	OnlyPassing bool     `json:"onlyPassing,omitempty" jsonschema_description:"Leave out instances with a warning, too."`
	Near        string   `json:"near,omitempty" jsonschema_description:"A node, or _agent: instances nearer to it are preferred."`
	Namespace   string   `json:"namespace,omitempty" jsonschema_description:"Consul Enterprise's."`
	Partition   string   `json:"partition,omitempty" jsonschema_description:"Consul Enterprise's."`
}

// UnmarshalNode reads either form.
func (c *Consul) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind == Scalar {
		c.Service = at.Node.Value
	} else {
		type plain Consul
		Decode(at, (*plain)(c), p)
	}
	if len(c.Service) > 256 || strings.ContainsAny(c.Service, "/?#% ") {
		p.Errorf(at.Field("service"), CodeValue, "%q is not the name of a Consul service", shorten(c.Service))
	}
}

// JSONSchema describes both forms.
func (Consul) JSONSchema() *jsonschema.Schema {
	type plain Consul
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, inlineSchema(plain{})}}
}

// Endpoint is one fixed instance: host:port, or the long form with a weight.
type Endpoint struct {
	Address string `json:"address" jsonschema:"required" jsonschema_description:"IP address and port."`
	Weight  uint32 `json:"weight,omitempty" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Its share beside the others; 1 when left out."`
}

// UnmarshalNode reads either form.
func (e *Endpoint) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind == Scalar {
		e.Address = at.Node.Value
	} else {
		type plain Endpoint
		Decode(at, (*plain)(e), p)
		at = at.Field("address")
	}
	if _, err := netip.ParseAddrPort(e.Address); err != nil && e.Address != "" {
		p.Suggestf(at, CodeValue, "write for example 127.0.0.1:9001 or [::1]:9001; names go under dns:", "%q is not an IP address and a port", shorten(e.Address))
	}
}

// JSONSchema describes both forms.
func (Endpoint) JSONSchema() *jsonschema.Schema {
	type plain Endpoint
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", Examples: []any{"127.0.0.1:9001"}}, inlineSchema(plain{})}}
}

// Route sends requests for some hosts to services. One rule may stand in the spec itself.
type Route struct {
	Gateway string   `json:"gateway,omitempty" jsonschema_description:"The Gateway it hangs on; may be left out where there is one."`
	Hosts   []string `json:"hosts,omitempty" jsonschema_description:"Host names, exact or *.suffix; any when left out."`
	Use     []string `json:"use,omitempty" jsonschema_description:"Policies that hold for every rule, in order."`
	Rules   []Rule   `json:"rules,omitempty" jsonschema_description:"Its rules; their order means nothing."`
	Match   Matches  `json:"match,omitempty" jsonschema_description:"The match of the one rule that stands in the spec itself."`
	To      Targets  `json:"to,omitempty" jsonschema_description:"Where the one rule in the spec itself sends requests."`
	Blocks  `json:"-"`
}

// Rule is one match and what happens to requests it takes.
type Rule struct {
	Name   string   `json:"name,omitempty" jsonschema_description:"Its name, unique in the route; rule-N when left out."`
	Match  Matches  `json:"match,omitempty" jsonschema_description:"Which requests; any when left out."`
	To     Targets  `json:"to,omitempty" jsonschema_description:"The service, or several with weights."`
	Use    []string `json:"use,omitempty" jsonschema_description:"Policies that hold for this rule, in order."`
	Blocks `json:"-"`
}

// RouteTemplate is a route approved in advance: a Consul registration may opt in to it, with a path and a host within
// these bounds, and becomes a route with these blocks.
type RouteTemplate struct {
	Gateway string   `json:"gateway,omitempty" jsonschema_description:"The Gateway it hangs on; may be left out where there is one."`
	Hosts   []string `json:"hosts,omitempty" jsonschema_description:"Host names it may hand out, exact or *.suffix. When left out, its routes hold for any host and a registration names none."`
	Paths   []string `json:"paths" jsonschema:"required" jsonschema_description:"Path prefixes it may hand out, as /team-a/*."`
	Use     []string `json:"use,omitempty" jsonschema_description:"Policies that hold for every route it makes, in order."`
	Blocks  `json:"-"`
}

// Bundle is the spec of a Policy: blocks that hold as if written where it is used.
type Bundle struct {
	Use    []string `json:"use,omitempty" jsonschema_description:"Other Policies it is made of, in order."`
	Blocks `json:"-"`
}

// Target is a service and its share of the requests.
type Target struct {
	Service string  `json:"service" jsonschema:"required" jsonschema_description:"Name of a Service."`
	Weight  *uint32 `json:"weight,omitempty" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"Its share beside the others; 1 when left out."`
}

// Targets is where a rule sends requests: one name, or a list with weights.
type Targets []Target

// UnmarshalNode reads either form.
func (t *Targets) UnmarshalNode(at At, p *Problems) {
	switch at.Node.Kind {
	case Scalar:
		*t = Targets{{Service: at.Node.Value}}
	case Map:
		var one Target
		Decode(at, &one, p)
		*t = Targets{one}
	default:
		type plain Targets
		Decode(at, (*plain)(t), p)
		t.checkWeights(at, p)
	}
}

func (t *Targets) checkWeights(at At, p *Problems) {
	total := uint32(0)
	for _, one := range *t {
		if one.Weight == nil {
			total++
			continue
		}
		total += *one.Weight
	}
	if total == 0 {
		p.Errorf(at, CodeValue, "%s sends requests nowhere: no target has a weight above 0", at.Path)
	}
}

// JSONSchema describes both forms.
func (Targets) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, inlineSchema(Target{}), {Type: "array", Items: inlineSchema(Target{})}}}
}

// CheckHost tells what is wrong with a host pattern: a name, or * or *.suffix; nil when nothing is. Ports and
// capital letters are refused, since Envoy compares lower-case names without a port.
func CheckHost(host string) error {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case host == "*":
		return nil
	case strings.ToLower(host) != host:
		return fmt.Errorf("%q: write hosts in lower case", shorten(host))
	case strings.Contains(name, "*"):
		return fmt.Errorf("%q: * may stand only at the start, as *.example.com", shorten(host))
	case strings.Contains(name, ":") && !strings.HasPrefix(name, "["):
		return fmt.Errorf("%q: write hosts without a port", shorten(host))
	case name == "" || len(name) > 253 || strings.ContainsAny(name, "/ \t?#@\\") || strings.HasSuffix(name, "."):
		return fmt.Errorf("%q is not a host name", shorten(host))
	}
	return nil
}

// SplitHostPort reads host:port with a port that is a number.
func SplitHostPort(s string) (host string, port uint32, err error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return "", 0, fmt.Errorf("%q is not host:port", shorten(s))
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q has no port between 1 and 65535", shorten(s))
	}
	return strings.Trim(s[:i], "[]"), uint32(n), nil
}
