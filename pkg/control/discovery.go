package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// Endpoints change far more often than policies. They take the short way: no compile, no proof, one EDS resource.
const (
	// The first change after quiet goes out at once; what follows within quiet of each other goes together, after most
	// at the latest.
	quiet = 50 * time.Millisecond
	most  = 500 * time.Millisecond
	// newKeyPatience is how long a change waits for the catalog's word on a service that it is the first to name.
	newKeyPatience = 2 * time.Second
	// startPatience is how long the first publish waits for the catalog, which then has its last saved state.
	startPatience = 10 * time.Second
)

// discovery is what the catalog has said, and what it is asked.
type discovery struct {
	wanted chan []catalog.Key

	mu      sync.Mutex
	view    catalog.View
	heard   bool // the first answer came, which is complete
	asking  askers
	changed chan struct{} // closed at the next merge
}

func newDiscovery() *discovery {
	return &discovery{wanted: make(chan []catalog.Key, 1), changed: make(chan struct{})}
}

// want replaces what is asked of the catalog.
func (d *discovery) want(keys []catalog.Key) {
	select {
	case <-d.wanted: // a list that was not taken yet
	default:
	}
	d.wanted <- keys
}

// merge takes in what the catalog sent and gives the keys whose answer is another one.
func (d *discovery) merge(sent []catalog.Service) []catalog.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := d.view.Merge(sent)
	for _, k := range changed {
		d.asking.note(k, d.view)
	}
	d.heard = true
	close(d.changed)
	d.changed = make(chan struct{})
	return changed
}

func (d *discovery) service(k catalog.Key) (s catalog.Service, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, _ = d.view.Get(k)
	return s, d.view.Digest(k)
}

// await returns when the catalog has answered at all, and for all keys, or when ctx ends.
func (d *discovery) await(ctx context.Context, keys []catalog.Key) {
	for {
		d.mu.Lock()
		changed := d.changed
		missing := !d.heard || slices.ContainsFunc(keys, func(k catalog.Key) bool { _, ok := d.view.Get(k); return !ok })
		d.mu.Unlock()
		if !missing {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Discover runs the catalog's source beside Run until ctx ends, and publishes endpoints as they change.
func (c *Controller) Discover(ctx context.Context, source catalog.Source) error {
	out := make(chan []catalog.Service)
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, c.discovery.wanted, out) }()
	for {
		select {
		case sent := <-out:
			c.discovered(ctx, c.discovery.merge(sent))
			for more := gather(ctx, out, quiet, most); len(more) > 0; more = gather(ctx, out, quiet, most) {
				c.discovered(ctx, c.discovery.merge(more))
			}
		case err := <-done:
			return err
		}
	}
}

// gather collects what comes in until nothing has come for quiet, or for most since the first.
func gather[T any](ctx context.Context, in <-chan []T, quiet, most time.Duration) []T {
	var all []T
	pause := time.NewTimer(quiet)
	defer pause.Stop()
	var end <-chan time.Time
	for {
		select {
		case some := <-in:
			if all = append(all, some...); end == nil {
				limit := time.NewTimer(most)
				defer limit.Stop()
				end = limit.C
			}
			pause.Reset(quiet)
		case <-pause.C:
			return all
		case <-end:
			return all
		case <-ctx.Done():
			return all
		}
	}
}

// discovered publishes what changed in the catalog: routes where registrations ask for others, else only the endpoints
// of the clusters that ask for these keys.
func (c *Controller) discovered(ctx context.Context, keys []catalog.Key) {
	if len(keys) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteOptIns(keys)
	serving := c.serving.Load()
	if serving == nil {
		return
	}
	if !slices.Equal(c.discovery.registrations(), asked(serving.Registrations)) {
		c.register(ctx)
		return
	}
	c.amend(func(g *model.Gateway, was *snapshot.Snapshot) (*snapshot.Snapshot, error) {
		return c.withEndpoints(was, g, func(k catalog.Key) bool { return slices.Contains(keys, k) })
	})
}

// asked are the registrations that were compiled.
func asked(statuses []compile.RegistrationStatus) []compile.Registration {
	var out []compile.Registration
	for _, s := range statuses {
		out = append(out, s.Registration)
	}
	return out
}

// withEndpoints is the snapshot with the endpoints of those clusters whose key is chosen.
func (c *Controller) withEndpoints(s *snapshot.Snapshot, g *model.Gateway, chosen func(catalog.Key) bool) (*snapshot.Snapshot, error) {
	bodies := map[string][]byte{}
	if err := c.addEndpoints(bodies, g, chosen); err != nil || len(bodies) == 0 {
		return s, err
	}
	return s.With(resource.EndpointType, snapshot.Overlay(s.Table(resource.EndpointType), snapshot.NewTable(bodies))), nil
}

// endpointsKey is what the bytes of a cluster's discovered endpoints are made from.
type endpointsKey struct {
	cluster *model.Cluster
	digest  string
}

type packedEndpoints struct {
	name string
	body []byte
}

// addEndpoints adds the endpoints that the catalog has for a gateway's clusters to the bodies of EDS resources.
func (c *Controller) addEndpoints(bodies map[string][]byte, g *model.Gateway, chosen func(catalog.Key) bool) error {
	for _, cl := range g.Clusters {
		if cl.Discovery == nil || !chosen(keyOf(cl.Discovery)) {
			continue
		}
		service, digest := c.discovery.service(keyOf(cl.Discovery))
		packed, err := c.endpoints.Get(endpointsKey{cl, digest}, func() (p packedEndpoints, err error) {
			p.name, p.body, err = translate.DiscoveredEndpoints(cl, endpointsOf(service))
			return p, err
		})
		if err != nil {
			return err
		}
		bodies[packed.name] = packed.body
	}
	return nil
}

// inform makes a build one of what the catalog has: it asks, and compiles once more with registrations that it only
// then tells of, so that a restart does not take their routes away for a moment.
func (c *Controller) inform(ctx context.Context, b *Build, patience time.Duration) {
	c.ask(ctx, b, patience)
	if slices.Equal(c.discovery.registrations(), asked(b.Registrations)) {
		return
	}
	if c.compile(b); !b.Problems.Failed() {
		c.ask(ctx, b, patience)
	}
}

// ask makes the catalog's watches those that a build needs, and waits a while for its word on those that are new.
func (c *Controller) ask(ctx context.Context, b *Build, patience time.Duration) {
	keys := keysOf(b.Config)
	if !c.Catalog {
		c.warnNoCatalog(b)
		return
	}
	c.discovery.want(keys)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.discovery.await(ctx, keys)
}

// askAsBefore takes back what was asked for a change that was not made.
func (c *Controller) askAsBefore() {
	serving := c.serving.Load()
	if serving != nil && c.Catalog {
		c.discovery.want(keysOf(serving.Config))
	}
	if serving != nil && c.Keys != nil {
		c.Keys.Want(dataOf(serving.Config.Gateways...))
	}
}

// warnNoCatalog says that services of a catalog stay empty where none is asked.
func (c *Controller) warnNoCatalog(b *Build) {
	for _, g := range b.Config.Gateways {
		for _, cl := range g.Clusters {
			if cl.Discovery != nil && !cl.Registered {
				b.Problems.Add(policy.Problem{
					Severity: policy.Warning, Code: policy.CodeNotSupported, Object: &policy.Ref{Kind: "Service", Name: cl.Service},
					Message:    "Service " + cl.Service + " comes from Consul, but no Consul is asked: it answers 503",
					Suggestion: "start sluice with --consul",
				})
			}
		}
	}
}

// keysOf are what a config asks of the catalog, each once, in order; not what registrations bring, which would keep
// them there when they are gone.
func keysOf(config *model.Config) []catalog.Key {
	seen := map[catalog.Key]bool{}
	for _, g := range config.Gateways {
		for _, cl := range g.Clusters {
			if cl.Discovery != nil && !cl.Registered {
				seen[keyOf(cl.Discovery)] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), catalog.Key.Compare)
}

func keyOf(d *model.Discovery) catalog.Key {
	return catalog.Key{
		Service: d.Service, Tags: catalog.TagsOf(d.Tags...), Datacenter: d.Datacenter, Filter: d.Filter,
		OnlyPassing: d.OnlyPassing, Near: d.Near, Namespace: d.Namespace, Partition: d.Partition,
	}
}

// endpointsOf gives a catalog's instances as the model has them, sorted. Consul's weights say what share an instance
// takes in its state; one without a share is left out. Of two at one address the healthy one holds.
func endpointsOf(s catalog.Service) []model.Endpoint {
	var out []model.Endpoint
	for _, i := range s.Instances {
		if i.Weight == 0 && i.Health != catalog.Critical {
			continue
		}
		out = append(out, model.Endpoint{
			Address: i.Address, Port: i.Port, Weight: max(i.Weight, 1), Priority: i.Rank, Unhealthy: i.Health == catalog.Critical,
		})
	}
	slices.SortFunc(out, func(a, b model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), compareUnhealthy(a, b), cmp.Compare(b.Weight, a.Weight))
	})
	out = slices.CompactFunc(out, func(a, b model.Endpoint) bool { return a.Address == b.Address && a.Port == b.Port })
	return renumber(out)
}

func compareUnhealthy(a, b model.Endpoint) int {
	switch {
	case a.Unhealthy == b.Unhealthy:
		return 0
	case a.Unhealthy:
		return 1
	}
	return -1
}

// renumber makes priorities count from 0 without gaps, as Envoy wants them.
func renumber(endpoints []model.Endpoint) []model.Endpoint {
	used := map[uint32]bool{}
	for _, e := range endpoints {
		used[e.Priority] = true
	}
	order := slices.Sorted(maps.Keys(used))
	for i := range endpoints {
		rank, _ := slices.BinarySearch(order, endpoints[i].Priority)
		endpoints[i].Priority = uint32(rank)
	}
	return endpoints
}
