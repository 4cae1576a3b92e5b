// Package authenticate finds out who is calling, by the credentials that a request carries. Each kind of credential is a
// method, in a file of its own.
package authenticate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

// Feature is the block `authenticate`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "authenticate", Stage: feature.StageExtAuthz, On: feature.Rule,
		Summary: "Who may call at all: callers without valid credentials are answered 401."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Kinds implements feature.Kinds.
func (Feature) Kinds() []feature.Kind {
	return []feature.Kind{{Name: KindIssuer, Summary: "Who signs tokens, by which keys, and what their claims mean.", New: newIssuer}}
}

// ParseData implements feature.DataParser.
func (Feature) ParseData(name string, body []byte) (any, error) {
	switch {
	case strings.HasPrefix(name, issuerData):
		return ParseKeySet(body)
	case strings.HasPrefix(name, introspectionData):
		return newIntrospector(body)
	case strings.HasPrefix(name, basicData):
		return parsePasswords(body)
	case strings.HasPrefix(name, feature.PartPrefix(keyData)):
		return apikey.Unpack(body)
	case strings.HasPrefix(name, feature.PartPrefix(revocationData)):
		return revocation.Unpack(body)
	}
	return nil, fmt.Errorf("%q is not data of this version", name)
}

// Spec is the block: none, or the ways to authenticate, of which one must succeed.
type Spec struct {
	None  bool  `json:"none,omitempty"`
	AnyOf []Way `json:"anyOf,omitempty"`
	settings
	// Revoked is the name of the table of what is revoked, once resolved; "" where that is not asked.
	Revoked string `json:"revoked,omitempty"`

	locked bool // a farther block does not let this one be none
}

// The block's two long forms.
type (
	oneWay struct {
		Way
		settings
	}
	anyWay struct {
		AnyOf []Way `json:"anyOf" jsonschema_description:"Ways to authenticate: the first that succeeds is taken."`
		settings
	}
	settings struct {
		Overridable bool   `json:"overridable,omitempty" jsonschema_description:"Lets a nearer block be none."`
		Revocation  *bool  `json:"revocation,omitempty" jsonschema_description:"Whether what sluice revoke names is refused: true when left out. Where it is false, Envoy may decide by itself."`
		Decider     string `json:"decide,omitempty" jsonschema:"enum=agent,enum=native" jsonschema_description:"Who decides: native is Envoy by itself, and an error where it cannot; agent is the agent. Envoy wherever it can when left out."`
	}
)

// UnmarshalNode reads none, one way, or anyOf.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	switch {
	case at.Node.Kind == policy.Scalar:
		if s.None = at.Node.Value == "none"; !s.None {
			p.Suggestf(at, policy.CodeValue, "write authenticate: {jwt: "+at.Node.Value+"}", "authenticate is %q; none, or a mapping is wanted", at.Node.Value)
		}
	case at.Node.Get("anyOf") != nil:
		w := anyWay{}
		policy.Decode(at, &w, p)
		s.AnyOf, s.settings = w.AnyOf, w.settings
	default:
		w := oneWay{}
		policy.Decode(at, &w, p)
		s.AnyOf, s.settings = []Way{w.Way}, w.settings
	}
}

// JSONSchema describes the three forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Const: "none"}, policy.TypeSchema(oneWay{}), policy.TypeSchema(anyWay{})}}
}

// way is the place of one of the ways.
func (s *Spec) way(at policy.At, i int) policy.At {
	if at.Node.Get("anyOf") == nil {
		return at
	}
	return at.Field("anyOf").Index(i)
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if !s.None && len(s.AnyOf) == 0 && at.Node.Kind != policy.Scalar {
		p.Suggestf(at, policy.CodeRequired, "list ways to authenticate, such as {jwt: NAME}", "anyOf is empty: nobody could call")
	}
	for i, w := range s.AnyOf {
		w.validate(s.way(at, i), p)
	}
}

// Join implements feature.Joiner: the nearer replaces the farther, but none only where that is allowed.
func (s *Spec) Join(farther feature.Spec) feature.Spec {
	far := farther.(*Spec)
	if !s.None || far.None && !far.locked || far.Overridable {
		return s
	}
	out := *s
	out.locked = true
	return &out
}

// Resolve implements feature.Resolver: names become what they name.
func (s *Spec) Resolve(at policy.At, l feature.Lookup, p *policy.Problems) feature.Spec {
	if s.locked {
		p.Suggestf(at, policy.CodeConflict, "write overridable: true beside the farther authenticate, if that is meant",
			"authenticate: none would take away what a Gateway, Route or Policy farther away asks for")
	}
	out := *s
	out.AnyOf = nil
	for i, w := range s.AnyOf {
		out.AnyOf = append(out.AnyOf, w.resolve(s.way(at, i), l, p))
	}
	if !s.None && (s.Revocation == nil || *s.Revocation) {
		out.Revoked = revocationData
	}
	return &out
}

// CheckListeners implements feature.ListenerChecker: what asks for a certificate needs a listener that does.
func (s *Spec) CheckListeners(listeners []*model.Listener, at policy.At, p *policy.Problems) {
	if slices.ContainsFunc(listeners, func(l *model.Listener) bool { return l.TLS != nil && l.TLS.ClientCA != "" }) {
		return
	}
	for i, w := range s.AnyOf {
		if w.Certificate != nil {
			p.Suggestf(s.way(at, i).Field("certificate"), policy.CodeConflict, "add clientCA: NAME, of a Certificate with ca, to the tls of a listener",
				"no listener of the gateway asks clients for a certificate: nobody could call")
		}
	}
}

// Data implements feature.DataUser.
func (s *Spec) Data() []model.Data {
	var out []model.Data
	for _, w := range s.AnyOf {
		for _, m := range w.methods() {
			out = append(out, m.data()...)
		}
	}
	return append(out, s.revocationData()...)
}

// Waits implements feature.Waiter.
func (s *Spec) Waits() time.Duration {
	out := time.Duration(0)
	for _, w := range s.AnyOf {
		for _, m := range w.methods() {
			if slow, ok := m.(waiter); ok {
				out += slow.waits()
			}
		}
	}
	return out
}

// AtRuntime implements feature.RuntimeDecider: none asks nobody.
func (s *Spec) AtRuntime() bool { return !s.None }

// Authenticates implements feature.Authenticator.
func (s *Spec) Authenticates() bool { return !s.None && len(s.AnyOf) > 0 }

var (
	_ feature.Kinds           = Feature{}
	_ feature.DataParser      = Feature{}
	_ feature.Joiner          = (*Spec)(nil)
	_ feature.Resolver        = (*Spec)(nil)
	_ feature.Checker         = (*Spec)(nil)
	_ feature.ListenerChecker = (*Spec)(nil)
	_ feature.DataUser        = (*Spec)(nil)
	_ feature.RuntimeDecider  = (*Spec)(nil)
	_ feature.Authenticator   = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Spec)(nil)
	_ feature.Waiter          = (*Spec)(nil)
)
