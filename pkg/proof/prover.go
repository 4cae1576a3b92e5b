// Package proof has the real Envoy judge a snapshot before any Envoy is sent it: the resources become one static
// bootstrap for `envoy --mode validate`, and a refusal is narrowed down to the resources that cause it.
package proof

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// DefaultTimeout bounds one run of Envoy, which takes 0.1 s for a thousand routes.
const DefaultTimeout = 30 * time.Second

// maxFaults is how many culprits are looked for; each costs some ten runs of Envoy.
const maxFaults = 20

// Fault is one resource that Envoy refuses.
type Fault struct {
	// Resource is the type URL of what is named.
	Resource string
	// Name is that of a cluster, listener, route, virtual host, secret or filter config. It is empty when Envoy
	// refuses the whole but every part of it alone is fine.
	Name string
	// Origin is where a route was written, file:line; empty for all else.
	Origin string
	// Reason is Envoy's, in one line, without the resource's content.
	Reason string
}

// Prover proves snapshots. Its fields are set before the first use. It is safe for concurrent use.
type Prover struct {
	// Binary is the path of Envoy. Required.
	Binary string
	// Dir is where the bootstrap is written, keys of certificates included, while Envoy reads it: in a new folder
	// that only this user can enter. Empty means the system's folder for temporary files.
	Dir string
	// Timeout bounds each run of Envoy. 0 means DefaultTimeout.
	Timeout time.Duration

	mu     sync.Mutex
	proven map[string]*snapshot.Snapshot // by frame
}

// Prove gives the faults of a snapshot, none if Envoy takes it. An error means that the proof itself could not be
// had and says nothing about the snapshot. The last snapshot without a fault is remembered: what is the same in the
// next one is not judged again.
func (p *Prover) Prove(ctx context.Context, s *snapshot.Snapshot) ([]Fault, error) {
	proven := p.like(s)
	if proven != nil && digest(proven) == digest(s) {
		return nil, nil
	}
	if proven != nil && p.taken(ctx, proven, s) {
		p.remember(s)
		return nil, nil
	}
	in, err := read(s)
	if err != nil {
		return nil, err
	}
	faults, err := p.examine(ctx, in)
	if err == nil && len(faults) == 0 {
		p.remember(s)
	}
	return faults, err
}

// taken tells whether Envoy takes what is new since another snapshot. If not, the whole is judged, so that a fault is
// found and named in the same way whatever was proven before.
func (p *Prover) taken(ctx context.Context, proven, s *snapshot.Snapshot) bool {
	in, err := since(proven, s)
	if err != nil || in == nil {
		return false
	}
	dangling, refusal, err := p.look(ctx, in)
	return err == nil && refusal == "" && len(dangling) == 0
}

// examine names what is wrong with an input.
func (p *Prover) examine(ctx context.Context, in *input) ([]Fault, error) {
	dangling, refusal, err := p.look(ctx, in)
	if err != nil || refusal == "" {
		return dangling, err
	}
	faults, err := p.bisect(ctx, in)
	if err == nil && len(faults) == 0 {
		faults = []Fault{{Reason: refusal}}
	}
	return slices.Concat(dangling, faults), err
}

// look looks for dangling references, which Envoy does not see in a tree, while Envoy looks at all else.
func (p *Prover) look(ctx context.Context, in *input) (dangling []Fault, refusal string, err error) {
	g, run := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		dangling, err = in.dangling()
		return err
	})
	g.Go(func() (err error) {
		refusal, err = p.run(run, in.whole())
		return err
	})
	err = g.Wait()
	return dangling, refusal, err
}

// mostFrames is how many gateways' snapshots are remembered.
const mostFrames = 100

func (p *Prover) like(s *snapshot.Snapshot) *snapshot.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proven[frame(s)]
}

func (p *Prover) remember(s *snapshot.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proven == nil || len(p.proven) >= mostFrames {
		p.proven = map[string]*snapshot.Snapshot{}
	}
	p.proven[frame(s)] = s
}

// digest covers only what is proven: policies of agents and runtime values change without a new run.
func digest(s *snapshot.Snapshot) string {
	var sums []string
	for _, url := range []string{
		resourcev3.ListenerType, resourcev3.RouteType, resourcev3.ClusterType,
		resourcev3.EndpointType, resourcev3.ExtensionConfigType, resourcev3.SecretType,
	} {
		sums = append(sums, s.Table(url).Digest())
	}
	return strings.Join(sums, " ")
}
