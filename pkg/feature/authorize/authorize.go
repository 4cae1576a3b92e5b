// Package authorize decides what a caller who is known may do.
package authorize

import (
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
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
}

// Requirement is the block as written: all that it names must be met.
type Requirement struct {
	Permissions Words             `json:"permissions,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Scopes      Words             `json:"scopes,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Roles       Words             `json:"roles,omitzero" jsonschema_description:"A list, of which all are needed, or {anyOf: […]}."`
	Claims      map[string]string `json:"claims,omitempty" jsonschema_description:"Claims and the value that each must have; a list must hold it. A dot leads into an object."`
	Methods     []string          `json:"methods,omitempty" jsonschema_description:"The methods that are allowed."`
	Sources     []string          `json:"sources,omitempty" jsonschema_description:"Addresses and ranges (10.0.0.0/8, 2001:db8::/32) that clients may call from; which address is the client's, clientAddress says."`
	Mode        string            `json:"mode,omitempty" jsonschema:"enum=enforce,enum=shadow" jsonschema_description:"enforce, the default, or shadow: what would be refused is logged, and goes on."`
}

// modeShadow only logs what would be refused.
const modeShadow = "shadow"

// The reasons of refusals, in the agent's metrics and in Envoy's details.
const (
	reasonPermission = "permission"
	reasonScope      = "scope"
	reasonRole       = "role"
	reasonClaim      = "claim"
	reasonMethod     = "method"
	reasonSource     = "source"
)

// Words is a list of which all are needed, or several of which one is.
type Words struct {
	All   []string `json:"all,omitempty" jsonschema_description:"All are needed."`
	AnyOf []string `json:"anyOf,omitempty" jsonschema_description:"One is needed."`
}

// IsZero tells whether nothing is needed.
func (w Words) IsZero() bool { return len(w.All)+len(w.AnyOf) == 0 }

// UnmarshalNode reads a list, a single word, or the long form.
func (w *Words) UnmarshalNode(at policy.At, p *policy.Problems) {
	switch at.Node.Kind {
	case policy.Scalar:
		w.All = []string{at.Node.Value}
	case policy.List:
		policy.Decode(at, &w.All, p)
	default:
		type plain Words
		policy.Decode(at, (*plain)(w), p)
	}
	if w.IsZero() || slices.Contains(w.All, "") || slices.Contains(w.AnyOf, "") {
		p.Suggestf(at, policy.CodeValue, "name what is needed, or leave the field out", "%s is empty, or holds an empty word", at.Path)
	}
}

// JSONSchema describes all forms.
func (Words) JSONSchema() *jsonschema.Schema {
	type plain Words
	word := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}, policy.TypeSchema(plain{})}}
}

// UnmarshalNode reads the one requirement that a block is as written.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	for _, later := range []string{"cel", "condition", "when"} {
		if at.Node.Get(later) != nil {
			p.Suggestf(at.Field(later), policy.CodeNotSupported, "leave it out", "authorize.%s is not in this version", later)
			return
		}
	}
	var one Requirement
	policy.Decode(at, &one, p)
	s.All = []Requirement{one}
}

// JSONSchema describes the block as written.
func (Spec) JSONSchema() *jsonschema.Schema { return policy.TypeSchema(Requirement{}) }

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	for _, r := range s.All {
		if !r.needsIdentity() && len(r.Methods)+len(r.Sources) == 0 {
			p.Suggestf(at, policy.CodeRequired, "add permissions, scopes, roles, claims, methods or sources", "the block asks for nothing")
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
	return !r.Permissions.IsZero() || !r.Scopes.IsZero() || !r.Roles.IsZero() || len(r.Claims) > 0
}

// AtRuntime implements feature.RuntimeDecider: methods and addresses Envoy decides by itself.
func (s *Spec) AtRuntime() bool { return slices.ContainsFunc(s.All, Requirement.needsIdentity) }

// Join implements feature.Joiner: both must pass, the farther first.
func (s *Spec) Join(farther feature.Spec) feature.Spec {
	return &Spec{All: slices.Concat(farther.(*Spec).All, s.All)}
}

// CheckCompanions implements feature.CompanionChecker.
func (s *Spec) CheckCompanions(all []feature.Spec, at policy.At, p *policy.Problems) {
	if !s.AtRuntime() {
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
	_ feature.RuntimeDecider   = (*Spec)(nil)
	_ feature.CompanionChecker = (*Spec)(nil)
	_ policy.Unmarshaler       = (*Spec)(nil)
	_ policy.Unmarshaler       = (*Words)(nil)
)
