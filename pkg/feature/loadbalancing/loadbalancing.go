// Package loadbalancing chooses the instance of a service that a request goes to.
package loadbalancing

import (
	"cmp"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `loadBalancing`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "loadBalancing", Stage: feature.StageRoute, On: feature.Service,
		Summary: "Which instance of a service a request goes to."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Default implements feature.Defaulter: the instance with the fewest open requests, since that one also steers clear
// of slow ones.
func (Feature) Default() feature.Spec { return &Spec{} }

// The policies.
const (
	RoundRobin   = "roundRobin"
	LeastRequest = "leastRequest"
	Random       = "random"
	RingHash     = "ringHash"
	Maglev       = "maglev"
)

// Spec is the block.
type Spec struct {
	Policy      string          `json:"policy,omitempty" jsonschema:"enum=roundRobin,enum=leastRequest,enum=random,enum=ringHash,enum=maglev" jsonschema_description:"How the instance is chosen; leastRequest when left out, maglev with hashOn."`
	HashOn      *HashOn         `json:"hashOn,omitempty" jsonschema_description:"What ties requests to one instance (ringHash and maglev)."`
	SlowStart   policy.Duration `json:"slowStart,omitempty" jsonschema_description:"A new instance gets its full share only after this long (roundRobin and leastRequest)."`
	ChoiceCount uint32          `json:"choiceCount,omitempty" jsonschema:"minimum=2,maximum=100" jsonschema_description:"How many instances leastRequest compares; 2 when left out."`
}

// HashOn is what ties requests to one instance: exactly one of its fields.
type HashOn struct {
	Header  string  `json:"header,omitempty" jsonschema_description:"The value of a request header."`
	Cookie  *Cookie `json:"cookie,omitempty" jsonschema_description:"The value of a cookie."`
	Query   string  `json:"query,omitempty" jsonschema_description:"The value of a query parameter."`
	Address bool    `json:"address,omitempty" jsonschema_description:"The client's IP address."`
}

// Cookie is a cookie that ties a client to an instance.
type Cookie struct {
	Name string           `json:"name" jsonschema:"required" jsonschema_description:"The cookie's name."`
	TTL  *policy.Duration `json:"ttl,omitempty" jsonschema_description:"The gateway sets the cookie for this long where it is missing; 0s for the browser's session. Left out, only cookies that the service sets are looked at."`
	Path string           `json:"path,omitempty" jsonschema_description:"The path of a cookie that the gateway sets; / when left out."`
}

// policy is what was asked for, or follows from the rest.
func (s *Spec) policy() string {
	if s.HashOn != nil {
		return cmp.Or(s.Policy, Maglev)
	}
	return cmp.Or(s.Policy, LeastRequest)
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	name := s.policy()
	hashes := name == RingHash || name == Maglev
	switch {
	case hashes && s.HashOn == nil:
		p.Suggestf(at, policy.CodeRequired, "add for example hashOn: {header: x-user}", "%s does not say what to hash on", name)
	case !hashes && s.HashOn != nil:
		p.Suggestf(at.Field("hashOn"), policy.CodeConflict, "write policy: maglev, or leave policy out", "%s does not look at hashOn", name)
	}
	if s.SlowStart > 0 && name != RoundRobin && name != LeastRequest {
		p.Suggestf(at.Field("slowStart"), policy.CodeConflict, "use roundRobin or leastRequest", "%s knows no slow start", name)
	}
	if s.ChoiceCount > 0 && name != LeastRequest {
		p.Suggestf(at.Field("choiceCount"), policy.CodeConflict, "use leastRequest", "%s does not compare instances", name)
	}
	if s.HashOn != nil {
		s.HashOn.validate(at.Field("hashOn"), p)
	}
}

func (h *HashOn) validate(at policy.At, p *policy.Problems) {
	kinds := 0
	for _, given := range []bool{h.Header != "", h.Cookie != nil, h.Query != "", h.Address} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		p.Suggestf(at, policy.CodeValue, "write exactly one of header, cookie, query, address: true", "%s names %d things to hash on", at.Path, kinds)
	}
	if h.Header != "" && policy.CheckHeaderName(h.Header) != nil {
		p.Errorf(at.Field("header"), policy.CodeValue, "%q is not a header name", h.Header)
	}
	if h.Cookie != nil && policy.CheckHeaderName(h.Cookie.Name) != nil {
		p.Errorf(at.Field("cookie").Field("name"), policy.CodeValue, "%q is not a cookie name", h.Cookie.Name)
	}
}
