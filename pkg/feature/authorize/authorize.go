// Package authorize decides what a caller who is known may do.
package authorize

import (
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `authorize`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "authorize", Stage: feature.StageRBAC, On: feature.Rule,
		Summary: "What a caller needs beside being known: without it the answer is 403. Blocks join: all must pass."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Spec is what was written at several places; all of it must pass.
type Spec struct {
	All []Requirement `json:"all,omitempty"`
	// Path is the path of the match that the block holds on, where an expression asks for parameters of it.
	Path string `json:"path,omitempty"`
}

// Requirement is the block as written: all that it names must be met.
type Requirement struct {
	Permissions Words             `json:"permissions,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Scopes      Words             `json:"scopes,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Roles       Words             `json:"roles,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Claims      map[string]string `json:"claims,omitempty" jsonschema_description:"Claims and the value that each must have; a list must hold it. A dot leads into an object."`
	Methods     []string          `json:"methods,omitempty" jsonschema_description:"The methods that are allowed."`
	Sources     []string          `json:"sources,omitempty" jsonschema_description:"Addresses and ranges (10.0.0.0/8, 2001:db8::/32) that clients may call from; which address is the client's, clientAddress says."`
	CEL         Expressions       `json:"cel,omitempty" jsonschema_description:"A condition in the Common Expression Language over identity and request, or several: all must be true."`
	Mode        string            `json:"mode,omitempty" jsonschema:"enum=enforce,enum=shadow" jsonschema_description:"enforce, the default, or shadow: what would be refused is logged, and goes on."`

	from string // where it was written: file:line
}

// modeShadow only logs what would be refused.
const modeShadow = "shadow"

// The reasons of refusals, in the agent's metrics and in Envoy's details.
const (
	reasonPermission = "permission"
	reasonScope      = "scope"
	reasonRole       = "role"
	reasonClaim      = "claim"
	reasonCEL        = "cel"       // it is false
	reasonCELError   = "cel_error" // it asks for something that is not there
	reasonCELLimit   = "cel_limit" // it took too long
	reasonMethod     = "method"
	reasonSource     = "source"
)

// UnmarshalNode reads the one requirement that a block is as written.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	for _, other := range []string{"when", "condition", "expression"} {
		if at.Node.Get(other) != nil {
			p.Suggestf(at.Field(other), policy.CodeField, "write cel: and what must be true", "authorize has no field %q", other)
			return
		}
	}
	var one Requirement
	policy.Decode(at, &one, p)
	one.from = at.String()
	s.All = []Requirement{one}
}

// JSONSchema describes the block as written.
func (Spec) JSONSchema() *jsonschema.Schema { return policy.TypeSchema(Requirement{}) }

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	for _, r := range s.All {
		if !r.needsAgent() && len(r.Methods)+len(r.Sources) == 0 {
			p.Suggestf(at, policy.CodeRequired, "add permissions, scopes, roles, claims, methods, sources or cel", "the block asks for nothing")
		}
		r.validateSources(at.Field("sources"), p)
		r.validateMethods(at.Field("methods"), p)
	}
}

func (r Requirement) validateMethods(at policy.At, p *policy.Problems) {
	if len(r.Methods) == 0 && at.Node != nil && at.Node.Kind == policy.List && len(at.Node.Items) == 0 {
		p.Suggestf(at, policy.CodeValue, "name the methods, or leave the field out", "methods is empty: nobody could call")
	}
	for i, m := range r.Methods {
		if m == "" || m != strings.ToUpper(m) {
			p.Errorf(at.Index(i), policy.CodeValue, "%q is not a method: write it in capital letters", m)
		}
	}
}

func (r Requirement) needsIdentity() bool {
	return !r.Permissions.IsZero() || !r.Scopes.IsZero() || !r.Roles.IsZero() || len(r.Claims) > 0 ||
		slices.ContainsFunc(r.CEL, func(e Expression) bool { return e.identity })
}

func (r Requirement) needsAgent() bool { return r.needsIdentity() || len(r.CEL) > 0 }

// AtRuntime implements feature.RuntimeDecider: methods and addresses Envoy decides by itself.
func (s *Spec) AtRuntime() bool { return slices.ContainsFunc(s.All, Requirement.needsAgent) }

// ForMatch implements feature.MatchResolver: parameters of the path are told by the match.
func (s *Spec) ForMatch(m model.Match) feature.Spec {
	if len(s.params()) == 0 {
		return s
	}
	return &Spec{All: s.All, Path: m.Path.String()}
}

// params are the parameters of the path that expressions ask for.
func (s *Spec) params() []string {
	var out []string
	for _, r := range s.All {
		for _, e := range r.CEL {
			out = append(out, e.params...)
		}
	}
	return out
}

// CheckMatch implements feature.MatchChecker.
func (s *Spec) CheckMatch(m model.Match, at policy.At, p *policy.Problems) {
	for _, name := range s.params() {
		if name != "" && !slices.Contains(m.Path.Params(), name) {
			p.Suggestf(at, policy.CodeReference, "write {"+name+"} in the match", "authorize asks for request.params.%s, which the match %s does not have", name, m.Path)
		}
	}
}

// Join implements feature.Joiner: both must pass, the farther first.
func (s *Spec) Join(farther feature.Spec) feature.Spec {
	return &Spec{All: slices.Concat(farther.(*Spec).All, s.All)}
}

// Parts are the blocks that have joined, as they were written and where, the nearest last.
func (s *Spec) Parts() []model.Attachment {
	var out []model.Attachment
	for _, r := range s.All {
		out = append(out, model.Attachment{Feature: Feature{}.Info().Name, Spec: r, From: r.from})
	}
	return out
}

// CheckCompanions implements feature.CompanionChecker.
func (s *Spec) CheckCompanions(all []feature.Spec, at policy.At, p *policy.Problems) {
	if !slices.ContainsFunc(s.All, Requirement.needsIdentity) {
		return
	}
	for _, other := range all {
		if a, ok := other.(feature.Authenticator); ok && a.Authenticates() {
			return
		}
	}
	p.Suggestf(at, policy.CodeRequired, "add authenticate: here, on the Route or on the Gateway", "authorize holds where nobody is authenticated: every request would be refused")
}

var (
	_ feature.Joiner           = (*Spec)(nil)
	_ feature.Checker          = (*Spec)(nil)
	_ feature.MatchChecker     = (*Spec)(nil)
	_ feature.MatchResolver    = (*Spec)(nil)
	_ feature.RuntimeDecider   = (*Spec)(nil)
	_ feature.CompanionChecker = (*Spec)(nil)
	_ policy.Unmarshaler       = (*Spec)(nil)
)
