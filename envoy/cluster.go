package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// cluster is one static cluster as the template writes it.
type cluster struct {
	Name           string
	Discovery      string
	ConnectTimeout string
	Endpoints      []group
	Failures       int // in a row, after which a server is left for the next; 0 for never
	Checked        bool
	TLS            any
}

// group is the endpoints of one priority.
type group struct {
	Priority  int
	Addresses []any
	Plain     bool // spoken to without TLS, also where the cluster has it
}

// clusters are those that every Envoy has. All xDS servers share one, each a priority of its own. Envoy can also be
// given a second cluster to fail over to, but stops trying that one as soon as the first has ever answered.
func (b Bootstrap) clusters() ([]cluster, error) {
	servers, err := b.servers()
	if err != nil {
		return nil, err
	}
	agent, err := parseAddress(b.Agent)
	if err != nil {
		return nil, fmt.Errorf("agent address: %w", err)
	}
	if !agent.local() {
		return nil, fmt.Errorf("agent address %s: must be on loopback or a unix socket, the agent runs beside its Envoy", b.Agent)
	}
	xds, reports := b.xdsCluster(ClusterXDS, "1s", each(servers)), b.xdsCluster(ClusterReports, "1s", each(servers))
	if err := b.addAgentXDS(&xds); err != nil {
		return nil, err
	}
	if reports.Failures = 3; len(xds.Endpoints) > 1 {
		xds.Failures, xds.Checked = 1, true
	}
	return []cluster{xds, reports, newCluster(ClusterAgent, "0.25s", [][]address{{agent}})}, nil
}

// addAgentXDS makes the agent beside this Envoy the last of its xDS servers.
func (b Bootstrap) addAgentXDS(xds *cluster) error {
	if b.AgentXDS == "" {
		return nil
	}
	a, err := parseAddress(b.AgentXDS)
	if err != nil {
		return fmt.Errorf("agent xds address: %w", err)
	}
	if !a.local() {
		return fmt.Errorf("agent xds address %s: must be on loopback or a unix socket, the agent runs beside its Envoy", b.AgentXDS)
	}
	if a.hostname() {
		xds.Discovery = "STRICT_DNS"
	}
	xds.Endpoints = append(xds.Endpoints, group{Priority: len(xds.Endpoints), Addresses: []any{a.proto()}, Plain: b.TLS.enabled()})
	return nil
}

func (b Bootstrap) servers() ([]address, error) {
	out := make([]address, 0, len(b.Servers))
	for _, s := range b.Servers {
		a, err := parseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("xds server: %w", err)
		}
		if !a.local() && !b.TLS.enabled() {
			return nil, fmt.Errorf("xds server %s: is not on this host: give a CA, certificate and key, or use loopback or a unix socket", s)
		}
		out = append(out, a)
	}
	return out, nil
}

func (b Bootstrap) xdsCluster(name, timeout string, priorities [][]address) cluster {
	c := newCluster(name, timeout, priorities)
	if b.TLS.enabled() {
		c.TLS = b.TLS.transportSocket(priorities)
	}
	return c
}

func newCluster(name, timeout string, priorities [][]address) cluster {
	c := cluster{Name: name, Discovery: "STATIC", ConnectTimeout: timeout}
	for i, addresses := range priorities {
		g := group{Priority: i}
		for _, a := range addresses {
			g.Addresses = append(g.Addresses, a.proto())
			if a.hostname() {
				c.Discovery = "STRICT_DNS"
			}
		}
		c.Endpoints = append(c.Endpoints, g)
	}
	return c
}

func each(addresses []address) [][]address {
	out := make([][]address, len(addresses))
	for i, a := range addresses {
		out[i] = []address{a}
	}
	return out
}

// address is host:port or the path of a unix socket.
type address struct {
	path string
	host string
	port uint16
}

func parseAddress(s string) (address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !strings.HasPrefix(path, "/") {
			return address{}, fmt.Errorf("%q: a unix socket is written unix:/path", s)
		}
		return address{path: path}, nil
	}
	if strings.HasPrefix(s, "/") {
		return address{path: s}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return address{}, fmt.Errorf("%q: want host:port or unix:/path: %w", s, err)
	}
	if host == "" {
		return address{}, fmt.Errorf("%q: %w", s, errors.New("the host is missing, want host:port or unix:/path"))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return address{}, fmt.Errorf("%q: the port must be a number up to 65535", s)
	}
	return address{host: host, port: uint16(n)}, nil
}

func (a address) hostname() bool {
	_, err := netip.ParseAddr(a.host)
	return a.path == "" && err != nil
}

// local says that nobody on another machine can stand at, or listen to, this address.
func (a address) local() bool {
	if a.path != "" || a.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.host)
	return err == nil && ip.IsLoopback()
}

func (a address) proto() any {
	if a.path != "" {
		return map[string]any{"pipe": map[string]any{"path": a.path}}
	}
	return map[string]any{"socket_address": map[string]any{"address": a.host, "port_value": a.port}}
}
