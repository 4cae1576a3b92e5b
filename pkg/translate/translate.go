// Package translate turns the model of a gateway into Envoy's resources. It is pure but for what it remembers: packed
// bytes by the digest of what they were made from. It calls the features' hooks and knows no feature by name.
package translate

import (
	"crypto/sha256"
	"fmt"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/memo"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// RuntimeName is the Runtime resource that the bootstrap asks for. It is always served: Envoy waits for it at start.
const RuntimeName = "sluice"

// Translator translates again and again, remembering what has not changed. Not safe for concurrent use.
type Translator struct {
	features feature.Set
	filters  map[string]feature.Filter
	leaves   memo.Table[[sha256.Size]byte, *anypb.Any]
	packed   memo.Table[*model.Cluster, packedCluster]
}

// New is a Translator for a set of features.
func New(features feature.Set) *Translator {
	t := &Translator{features: features, filters: map[string]feature.Filter{}}
	for _, f := range features.Filters() {
		t.filters[f.Name] = f
	}
	return t
}

// EndRun forgets what no gateway has needed since the last EndRun.
func (t *Translator) EndRun() {
	t.leaves.EndRun()
	t.packed.EndRun()
}

// Translate gives a gateway's resources.
func (t *Translator) Translate(g *model.Gateway) (feature.Resources, error) {
	out := feature.Resources{}
	for _, step := range []func(*model.Gateway, feature.Resources) error{t.clusters, t.listeners, t.routes, t.runtimePolicies, t.discovered, t.runtime} {
		if err := step(g, out); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", g.Name, err)
		}
	}
	return out, nil
}

func (t *Translator) runtime(_ *model.Gateway, out feature.Resources) error {
	return out.Add(resource.RuntimeType, RuntimeName, &runtimev3.Runtime{Name: RuntimeName, Layer: &structpb.Struct{}})
}
