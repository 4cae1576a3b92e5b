// Package circuitbreaker bounds what a service is burdened with, and takes instances that keep failing out of use.
package circuitbreaker

import (
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `circuitBreaker`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "circuitBreaker", Stage: feature.StageRoute, On: feature.Service,
		Summary: "Bounds what a service is burdened with, and takes instances that keep failing out for a while."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is the block. What is left out keeps Envoy's own bounds.
type Spec struct {
	MaxConnections *uint32 `json:"maxConnections,omitempty" jsonschema:"minimum=1" jsonschema_description:"Open connections to the service; 1024 when left out."`
	MaxPending     *uint32 `json:"maxPending,omitempty" jsonschema:"minimum=1" jsonschema_description:"Requests waiting for a connection; 1024 when left out."`
	MaxRequests    *uint32 `json:"maxRequests,omitempty" jsonschema:"minimum=1" jsonschema_description:"Requests under way; 1024 when left out."`
	MaxRetries     *uint32 `json:"maxRetries,omitempty" jsonschema:"minimum=0" jsonschema_description:"Retries under way; when left out, retry's budget bounds them."`
	Eject          *Eject  `json:"eject,omitempty" jsonschema_description:"Take instances that keep failing out."`
}

// Eject is when an instance is taken out, and for how long.
type Eject struct {
	ConsecutiveErrors        *uint32         `json:"consecutiveErrors,omitempty" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"5xx answers, failed connections, resets and timeouts in a row; 5 when neither count is given."`
	ConsecutiveGatewayErrors *uint32         `json:"consecutiveGatewayErrors,omitempty" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"The same, but of answers only 502, 503 and 504 count: a fault in one handler keeps the instance in."`
	For                      policy.Duration `json:"for,omitempty" jsonschema_description:"How long it is out the first time, once more as long each further time; 30s when left out."`
	UpTo                     policy.Duration `json:"upTo,omitempty" jsonschema_description:"The longest it is ever out; 5m when left out, or for if that is longer."`
	AtMost                   policy.Percent  `json:"atMost,omitempty" jsonschema_description:"The largest share of the instances that may be out, rounded down; 50% when left out."`
	Interval                 policy.Duration `json:"interval,omitempty" jsonschema_description:"How often it is looked whether an instance may come back; a tenth of for when left out, between 500ms and 10s."`
}

const (
	defaultErrors = 5
	defaultFor    = 30 * time.Second
	defaultUpTo   = 5 * time.Minute
	defaultAtMost = 50
)

// withDefaults is the block with what follows from the rest filled in.
func (e Eject) withDefaults() Eject {
	if e.ConsecutiveErrors == nil && e.ConsecutiveGatewayErrors == nil {
		errors := uint32(defaultErrors)
		e.ConsecutiveErrors = &errors
	}
	if e.For == 0 {
		e.For = policy.Duration(defaultFor)
	}
	if e.UpTo == 0 {
		e.UpTo = max(policy.Duration(defaultUpTo), e.For)
	}
	if e.AtMost == 0 {
		e.AtMost = defaultAtMost
	}
	if e.Interval == 0 {
		e.Interval = min(max(e.For/10, policy.Duration(500*time.Millisecond)), policy.Duration(10*time.Second))
	}
	return e
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.Eject == nil {
		if *s == (Spec{}) {
			p.Suggestf(at, policy.CodeRequired, "write for example maxPending: 100 or eject: {consecutiveErrors: 5, for: 30s}", "%s bounds nothing", at.Path)
		}
		return
	}
	here, e := at.Field("eject"), s.Eject.withDefaults()
	if e.UpTo < e.For {
		p.Suggestf(here.Field("upTo"), policy.CodeValue, "make upTo longer, or leave it out", "an instance is out for %s, but at most %s", e.For, e.UpTo)
	}
	for field, d := range map[string]policy.Duration{"for": e.For, "interval": e.Interval} {
		if d.D() < 10*time.Millisecond {
			p.Errorf(here.Field(field), policy.CodeValue, "%s is too short; at least 10ms is wanted", d)
		}
	}
	if e.AtMost < 1 {
		p.Errorf(here.Field("atMost"), policy.CodeValue, "at most %s of the instances: at least 1%% is wanted", e.AtMost)
	}
}
