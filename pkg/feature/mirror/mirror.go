// Package mirror sends copies of requests to further services, whose answers nobody waits for.
package mirror

import (
	"slices"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `mirror`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "mirror", Stage: feature.StageRoute, On: feature.Rule,
		Summary: "Sends copies of the requests to another service and drops its answers."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block: one target, or a list.
type Spec []Target

// Target is a service that gets copies.
type Target struct {
	Service string         `json:"service" jsonschema:"required" jsonschema_description:"Name of a Service."`
	Share   policy.Percent `json:"share,omitempty" jsonschema_description:"How many of the requests are copied; 100% when left out."`
	// Cluster is the service's cluster, once resolved.
	Cluster string `json:"cluster,omitempty"`
}

// written is what a policy holds of a Target.
type written struct {
	Service string         `json:"service" jsonschema:"required" jsonschema_description:"Name of a Service."`
	Share   policy.Percent `json:"share,omitempty" jsonschema_description:"How many of the requests are copied; 100% when left out."`
}

// UnmarshalNode reads a service's name, one target, or a list of both.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind != policy.List {
		*s = Spec{readTarget(at, p)}
		return
	}
	for i := range at.Node.Items {
		*s = append(*s, readTarget(at.Index(i), p))
	}
}

func readTarget(at policy.At, p *policy.Problems) Target {
	w := written{Share: 100}
	if at.Node.Kind == policy.Scalar {
		w.Service = at.Node.Value
	} else {
		policy.Decode(at, &w, p)
	}
	return Target{Service: w.Service, Share: w.Share}
}

// JSONSchema describes all forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	one := &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, policy.TypeSchema(written{})}}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{one, {Type: "array", Items: one}}}
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if len(*s) == 0 {
		p.Suggestf(at, policy.CodeRequired, "name a Service", "%s is empty", at.Path)
	}
	seen := map[string]bool{}
	for i, t := range *s {
		here := at
		if at.Node.Kind == policy.List {
			here = at.Index(i)
		}
		if t.Share == 0 {
			p.Suggestf(here.Field("share"), policy.CodeValue, "leave the target out", "a share of 0%% copies nothing")
		}
		if seen[t.Service] {
			p.Errorf(here, policy.CodeDuplicate, "%s is listed twice", t.Service)
		}
		seen[t.Service] = true
	}
}

// Resolve implements feature.Resolver.
func (s *Spec) Resolve(at policy.At, l feature.Lookup, p *policy.Problems) feature.Spec {
	out := slices.Clone(*s)
	for i := range out {
		cluster, ok := l.Cluster(out[i].Service)
		if !ok && out[i].Service != "" {
			p.Suggestf(place(at, i), policy.CodeReference, l.Hint("Service", out[i].Service), "there is no Service %q", out[i].Service)
		}
		out[i].Cluster = cluster
	}
	return &out
}

// place is where a target's name stands.
func place(at policy.At, i int) policy.At {
	if at.Node.Kind == policy.List {
		at = at.Index(i)
	}
	if at.Node.Kind == policy.Map {
		at = at.Field("service")
	}
	return at
}
