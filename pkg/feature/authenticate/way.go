package authenticate

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// method is one kind of credential.
type method interface {
	validate(at policy.At, p *policy.Problems)
	// data is what the agent needs to check the credential.
	data() []model.Data
	// check decides on the credential that a request carries, and fills in who is calling. A request that carries none
	// is refused for the reason that missing gives.
	check(ctx context.Context, r *feature.Request, id *feature.Identity) feature.Decision
}

// waiter is a method whose check asks others, or is slow by intent.
type waiter interface{ waits() time.Duration }

// Way is one way to authenticate: every method that it names must succeed.
type Way struct {
	JWT  *Tokens `json:"jwt,omitempty" jsonschema_description:"The Issuer whose tokens are taken, or several of which the token's own is chosen."`
	From From    `json:"from,omitzero" jsonschema_description:"Where the token is; the header Authorization, after the word Bearer, when left out."`

	Basic       *Basic        `json:"basic,omitempty" jsonschema_description:"Names and passwords of a handful of users: a file with lines of user:hash, as htpasswd -B writes them."`
	Certificate *Certificates `json:"certificate,omitempty" jsonschema_description:"A client certificate that a listener with clientCA has verified: any, names that it must have, or the long form."`

	APIKey *APIKey `json:"apiKey,omitempty" jsonschema_description:"A key that sluice keys create has made: the header that holds it, or the long form."`
}

// methods are those that the way names, in the order in which they are checked: of what several say of the caller, the
// first holds.
func (w *Way) methods() []method {
	var out []method
	if w.JWT != nil {
		out = append(out, tokensFrom{w.JWT, w.From})
	}
	if w.Basic != nil {
		out = append(out, w.Basic)
	}
	if w.Certificate != nil {
		out = append(out, w.Certificate)
	}
	if w.APIKey != nil {
		out = append(out, w.APIKey)
	}
	return out
}

func (w *Way) validate(at policy.At, p *policy.Problems) {
	methods := w.methods()
	if len(methods) == 0 {
		p.Suggestf(at, policy.CodeRequired, "write jwt: and the name of an Issuer, or authenticate: none", "the block names no way to authenticate")
	}
	for _, m := range methods {
		m.validate(at, p)
	}
	if w.JWT != nil && w.Basic != nil && w.From == (From{}) {
		p.Suggestf(at.Field("basic"), policy.CodeConflict, "write from: for the token, or anyOf: with both",
			"the header Authorization holds a token or a password, not both")
	}
}

// resolve is the way with its names followed.
func (w Way) resolve(at policy.At, l feature.Lookup, p *policy.Problems) Way {
	if w.JWT != nil {
		w.JWT = w.JWT.resolve(at.Field("jwt"), l, p)
	}
	return w
}

// reasonMissing is why a request is refused that carries no credential.
const reasonMissing = "missing"

// Check implements feature.Checker: the first way that succeeds says who is calling. When none does, the answer is that
// of the first way whose credentials were there, and undecided when one of them could not be decided on.
func (s *Spec) Check(ctx context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	if s.None {
		return feature.Decision{}
	}
	var refusals []feature.Decision
	for i := range s.AnyOf {
		found := *id
		d := s.AnyOf[i].check(ctx, s, r, &found)
		if d.Allowed() {
			*id = found
			return s.hide(r, d)
		}
		refusals = append(refusals, d)
	}
	if len(refusals) == 0 {
		return feature.Unavailable("no_method", "There is no way to authenticate here.")
	}
	return worst(refusals)
}

// worst is the refusal that says most: one that is undecided, then one that had credentials to refuse, then the first
// with the challenges of all.
func worst(refusals []feature.Decision) feature.Decision {
	rank := func(d feature.Decision) int {
		switch {
		case d.Status == http.StatusServiceUnavailable:
			return 0
		case d.Reason != reasonMissing:
			return 1
		}
		return 2
	}
	out := slices.MinFunc(refusals, func(a, b feature.Decision) int { return cmp.Compare(rank(a), rank(b)) })
	if out.Reason != reasonMissing {
		return out
	}
	var challenges []string
	for _, d := range refusals {
		if d.Challenge != "" && !slices.Contains(challenges, d.Challenge) {
			challenges = append(challenges, d.Challenge)
		}
	}
	out.Challenge = strings.Join(challenges, ", ")
	return out
}

// check asks every method. A way without one, which validate refuses, lets nobody pass.
func (w *Way) check(ctx context.Context, s *Spec, r *feature.Request, id *feature.Identity) feature.Decision {
	methods := w.methods()
	if len(methods) == 0 {
		return feature.Unavailable("no_method", "There is no way to authenticate here.")
	}
	for _, m := range methods {
		var found feature.Identity
		if d := m.check(ctx, r, &found); !d.Allowed() {
			return d
		}
		if d := s.revoked(r, &found); !d.Allowed() {
			return d
		}
		complete(id, found)
	}
	return feature.Decision{}
}

// complete adds to an identity what it lacks.
func complete(id *feature.Identity, found feature.Identity) {
	id.User = cmp.Or(id.User, found.User)
	id.Plan = cmp.Or(id.Plan, found.Plan)
	id.Issuer = cmp.Or(id.Issuer, found.Issuer)
	id.Key = cmp.Or(id.Key, found.Key)
	if id.Permissions == nil {
		id.Permissions = found.Permissions
	}
	if id.Scopes == nil {
		id.Scopes = found.Scopes
	}
	if id.Roles == nil {
		id.Roles = found.Roles
	}
	if id.Claims == nil {
		id.Claims = found.Claims
	}
}

// hide keeps every key and password from the service, also those that were not needed.
func (s *Spec) hide(r *feature.Request, d feature.Decision) feature.Decision {
	for i := range s.AnyOf {
		if _, _, given := credentials(r.Headers["authorization"]); given && s.AnyOf[i].Basic != nil {
			d.RemoveHeaders = append(d.RemoveHeaders, "authorization")
		}
		if k := s.AnyOf[i].APIKey; k != nil {
			k.hide(&d)
		}
	}
	return d
}
