package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// unit is a part of a snapshot that is refused or taken as one.
type unit struct {
	fault Fault
	// add puts the unit into a config; instead puts what lets others that name it stand, and may be nil.
	add, instead func(*config)
}

// bisect names the units that make Envoy refuse the whole. What others depend on comes first, so that each unit is
// judged among what it needs: a culprit's place is taken by something harmless.
func (p *Prover) bisect(ctx context.Context, in *input) ([]Fault, error) {
	routes, err := in.routeUnits()
	if err != nil {
		return nil, err
	}
	s := &search{prover: p}
	for _, phase := range [][]unit{in.secretUnits(), in.clusterUnits(), in.listenerUnits(), in.filterUnits(), routes} {
		if err := s.phase(ctx, phase); err != nil {
			return nil, err
		}
		if len(phase) > 0 && phase[0].fault.Resource == resourcev3.SecretType && len(s.faults) > 0 {
			break // nothing can stand in for a secret: what names it would be blamed too
		}
	}
	return s.faults, nil
}

// search is a bisection under way.
type search struct {
	prover *Prover
	// accepted puts in place all that is judged already.
	accepted []func(*config)
	faults   []Fault
}

// phase judges units: as long as all together are refused, the shortest refused run of them ends with a culprit.
// Each culprit costs a run of Envoy for each halving.
func (s *search) phase(ctx context.Context, units []unit) error {
	for len(units) > 0 && len(s.faults) < maxFaults {
		refusal, err := s.try(ctx, units)
		if err != nil {
			return err
		}
		if refusal == "" {
			break
		}
		n, refusal, err := s.shortest(ctx, units, refusal)
		if err != nil {
			return err
		}
		s.accept(units[:n])
		culprit := units[n]
		culprit.fault.Reason = refusal
		s.faults = append(s.faults, culprit.fault)
		if culprit.instead != nil {
			s.accepted = append(s.accepted, culprit.instead)
		}
		units = units[n+1:]
	}
	s.accept(units)
	return nil
}

// shortest gives the index of the unit that turns a run of units refused, and the reason; all of them are refused,
// for the reason given.
func (s *search) shortest(ctx context.Context, units []unit, refusal string) (int, string, error) {
	var failed error
	n := sort.Search(len(units)-1, func(i int) bool {
		if failed != nil {
			return true
		}
		r, err := s.try(ctx, units[:i+1])
		failed = err
		if r != "" {
			refusal = r
		}
		return r != ""
	})
	return n, refusal, failed
}

func (s *search) accept(units []unit) {
	for _, u := range units {
		s.accepted = append(s.accepted, u.add)
	}
}

func (s *search) try(ctx context.Context, units []unit) (string, error) {
	c := &config{filters: map[string]*anypb.Any{}}
	for _, add := range s.accepted {
		add(c)
	}
	for _, u := range units {
		u.add(c)
	}
	return s.prover.run(ctx, c.bootstrap())
}

func (in *input) secretUnits() []unit {
	return each(in.secrets, func(s *tlsv3.Secret) unit {
		return unit{
			fault: Fault{Resource: resourcev3.SecretType, Name: s.GetName()},
			add: func(c *config) {
				c.secrets = append(c.secrets, s)
				c.clusters = append(c.clusters, secretUser(s))
			},
		}
	})
}

func (in *input) clusterUnits() []unit {
	return each(in.clusters, func(cl *clusterv3.Cluster) unit {
		return unit{
			fault:   Fault{Resource: resourcev3.ClusterType, Name: cl.GetName()},
			add:     func(c *config) { c.clusters = append(c.clusters, cl) },
			instead: func(c *config) { c.clusters = append(c.clusters, emptyCluster(cl.GetName())) },
		}
	})
}

func (in *input) listenerUnits() []unit {
	return each(in.listeners, func(l *listenerv3.Listener) unit {
		return unit{
			fault: Fault{Resource: resourcev3.ListenerType, Name: l.GetName()},
			add:   func(c *config) { c.listeners = append(c.listeners, l) },
		}
	})
}

func (in *input) filterUnits() []unit {
	return each(slices.Sorted(maps.Keys(in.filters)), func(name string) unit {
		return unit{
			fault: Fault{Resource: resourcev3.ExtensionConfigType, Name: name},
			add:   func(c *config) { c.filters[name] = in.filters[name] },
		}
	})
}

// routeUnits are the virtual hosts without routes, then every different route once. The trees are left out: they
// only hold the routes.
func (in *input) routeUnits() ([]unit, error) {
	configs, err := decodeRoutes(in.routes)
	if err != nil {
		return nil, err
	}
	var hosts, routes []unit
	for i, rc := range configs {
		frame := proto.CloneOf(rc)
		frame.VirtualHosts = nil
		frame.ValidateClusters = wrapperspb.Bool(false)
		hosts = append(hosts, unit{
			fault: Fault{Resource: resourcev3.RouteType, Name: rc.GetName()},
			add:   func(c *config) { c.alone = append(c.alone, proto.CloneOf(frame)) },
			// Hosts and routes are added by position.
			instead: func(c *config) { c.alone = append(c.alone, &routev3.RouteConfiguration{Name: rc.GetName()}) },
		})
		for j, vh := range rc.GetVirtualHosts() {
			hosts = append(hosts, hostUnit(vh, i))
			more, err := hostRoutes(vh, i, j)
			if err != nil {
				return nil, err
			}
			routes = append(routes, more...)
		}
	}
	return slices.Concat(hosts, routes), nil
}

// hostUnit is a virtual host of the i-th route configuration, without its routes.
func hostUnit(vh *routev3.VirtualHost, i int) unit {
	frame := proto.CloneOf(vh)
	frame.Routes, frame.Matcher = nil, nil
	place := func(vh *routev3.VirtualHost) func(*config) {
		return func(c *config) { c.alone[i].VirtualHosts = append(c.alone[i].VirtualHosts, proto.CloneOf(vh)) }
	}
	return unit{
		fault: Fault{Resource: resourcev3.RouteType, Name: vh.GetName()},
		add:   place(frame),
		// A domain that no other virtual host can have.
		instead: place(&routev3.VirtualHost{Name: vh.GetName(), Domains: []string{"refused." + vh.GetName()}}),
	}
}

// hostRoutes are the different routes of the j-th virtual host of the i-th route configuration, as a plain list.
func hostRoutes(vh *routev3.VirtualHost, i, j int) ([]unit, error) {
	all, err := routesOf(vh)
	if err != nil {
		return nil, err
	}
	var out []unit
	seen := map[string]bool{}
	for _, r := range all {
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("proof: route %q: %w", r.GetName(), err)
		}
		if seen[string(body)] {
			continue
		}
		seen[string(body)] = true
		out = append(out, unit{
			fault: routeFault(r),
			add: func(c *config) {
				host := c.alone[i].VirtualHosts[j]
				host.Routes = append(host.Routes, r)
			},
		})
	}
	return out, nil
}

func each[T any](in []T, to func(T) unit) []unit {
	out := make([]unit, len(in))
	for i, v := range in {
		out[i] = to(v)
	}
	return out
}
