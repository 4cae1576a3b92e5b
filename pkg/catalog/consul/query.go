package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// ask is one kind of query: of a service's health, or of who opted in.
type ask[T any] func(ctx context.Context, q *api.QueryOptions) (T, *api.QueryMeta, error)

// cursor is where a series of blocking queries stands, by Consul's rules.
type cursor struct {
	index uint64
	// exact asks the leader, once a server that lost touch with it answered.
	exact bool
	// doubted says that the last query failed: the next one does not wait, to learn whether all is as it was.
	doubted bool
}

// options are those of the next query; it blocks for wait, or not at all if that is 0.
func (c cursor) options(wait time.Duration, token string) *api.QueryOptions {
	q := &api.QueryOptions{AllowStale: !c.exact, Token: token}
	if wait > 0 && !c.doubted {
		q.WaitIndex, q.WaitTime = c.index, wait
	}
	return q
}

// next is the cursor after an answer, and whether the answer is suspect: an index that went backwards means that
// Consul's state was replaced. An index is never below 1, or the next query would not block.
func (c cursor) next(meta *api.QueryMeta) (cursor, bool) {
	if meta.LastIndex < c.index {
		return cursor{}, true
	}
	return cursor{index: max(meta.LastIndex, 1), exact: c.exact}, meta.LastIndex == 0
}

// failed is the cursor after a failure: of a server that is behind the leader is asked, at the same index.
func (c cursor) failed(err error) cursor {
	var behind errBehind
	return cursor{c.index, c.exact || errors.As(err, &behind), true}
}

// believable says why an answer may not be used. An answer out of a stream says nothing about a leader: the agent
// follows the servers' events, and fills in that it knows none.
func believable(meta *api.QueryMeta, maxContact time.Duration) error {
	if !meta.KnownLeader && meta.QueryBackend != api.QueryBackendStreaming {
		return errNoLeader
	}
	if meta.LastContact > maxContact {
		return errBehind{meta.LastContact}
	}
	return nil
}

// timeout is when a query of the wait is given up: Consul adds up to a sixteenth of it.
func timeout(wait time.Duration) time.Duration {
	return wait + wait/16 + 10*time.Second
}

// backoff is a random time up to one that doubles with each failure, "full jitter".
func backoff(failures int, first, most time.Duration) time.Duration {
	limit := most
	if n := failures - 1; n < 20 && first<<n < most {
		limit = first << n
	}
	return limit/20 + rand.N(limit-limit/20)
}

// askHealth is the query for a service's instances.
func askHealth(c *client, k catalog.Key) ask[[]registration] {
	return func(ctx context.Context, q *api.QueryOptions) ([]registration, *api.QueryMeta, error) {
		q.Datacenter, q.Filter, q.Near, q.Namespace, q.Partition = k.Datacenter, k.Filter, k.Near, k.Namespace, k.Partition
		entries, meta, err := c.api.Health().ServiceMultipleTags(k.Service, k.Tags.List(), k.OnlyPassing, q.WithContext(ctx))
		if err != nil {
			return nil, nil, err
		}
		if meta.ResultsFilteredByACLs && len(entries) == 0 {
			return nil, nil, errFiltered
		}
		return registrations(entries, k.Near != ""), meta, nil
	}
}

// optInFilter finds those that opt in by metadata or by tag.
const optInFilter = `"` + catalog.MetaTemplate + `" in ServiceMeta or "` + catalog.OptInTag + `" in ServiceTags`

// askOptIns is the query for the names of services that opt in.
func askOptIns(c *client) ask[[]string] {
	return func(ctx context.Context, q *api.QueryOptions) ([]string, *api.QueryMeta, error) {
		q.Filter = optInFilter
		services, meta, err := c.api.Catalog().Services(q.WithContext(ctx))
		if err != nil {
			return nil, nil, err
		}
		names := make([]string, 0, len(services))
		for name := range services {
			names = append(names, name)
		}
		return names, meta, nil
	}
}

// registration is an instance as it was registered; its Address may yet be a host name.
type registration = catalog.Instance

func registrations(entries []*api.ServiceEntry, ranked bool) []registration {
	list := make([]registration, 0, len(entries))
	ranks := map[string]uint32{} // by node: Consul orders those by distance
	for _, e := range entries {
		if e == nil || e.Service == nil || e.Node == nil {
			continue
		}
		r := fromEntry(e)
		if _, known := ranks[r.Node]; ranked && !known {
			ranks[r.Node] = uint32(len(ranks))
		}
		r.Rank = ranks[r.Node]
		list = append(list, r)
	}
	catalog.SortInstances(list)
	return list
}

// fromEntry follows Consul's rules: the service's address, else its node's; the weight of its health.
func fromEntry(e *api.ServiceEntry) registration {
	health := healthOf(e.Checks)
	address := e.Service.Address
	if address == "" {
		address = e.Node.Address
	}
	return registration{
		ID: e.Node.Node + "/" + e.Service.ID, Address: address, Port: portOf(e.Service), Weight: weightOf(e.Service.Weights, health), Health: health,
		Meta: e.Service.Meta, NodeMeta: e.Node.Meta, Tags: e.Service.Tags, Node: e.Node.Node, Datacenter: e.Node.Datacenter,
		Registered: e.Service.ModifyIndex,
	}
}

func portOf(s *api.AgentService) uint32 {
	if port := s.DefaultPort(); port > 0 && port <= 65535 {
		return uint32(port)
	}
	return 0
}

func healthOf(checks api.HealthChecks) catalog.Health {
	switch checks.AggregatedStatus() {
	case api.HealthPassing:
		return catalog.Passing
	case api.HealthWarning:
		return catalog.Warning
	case api.HealthCritical, api.HealthMaint:
		return catalog.Critical
	}
	return catalog.Unknown
}

func weightOf(w api.AgentWeights, health catalog.Health) uint32 {
	if w == (api.AgentWeights{}) { // registered without weights, through the catalog's own door
		return 1
	}
	if health == catalog.Warning {
		return uint32(max(w.Warning, 0))
	}
	return uint32(max(w.Passing, 0))
}

// checkAddress refuses what no service can have as its address, and what would reach the cloud's own metadata.
func checkAddress(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%s is no address to connect to", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address, which is refused", a)
	}
	return nil
}
