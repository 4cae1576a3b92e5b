package feature

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// The abilities of blocks that are decided at run time, by the agent beside Envoy. A route whose blocks have any is
// given a policy for the agent, see Runtime.
type (
	// Checker is a block that decides whether a request goes on. It is asked for many requests at once.
	Checker interface {
		// Check decides on a request. id is what the checks before found out; a check that identifies the caller
		// fills it in.
		Check(ctx context.Context, r *Request, id *Identity) Decision
	}
	// RuntimeDecider is a Checker that may have nothing to decide.
	RuntimeDecider interface {
		// AtRuntime tells whether this one has: a route where none has is never asked the agent about.
		AtRuntime() bool
	}
	// Waiter is a Checker that may have to ask others. Envoy waits that much longer for its decision.
	Waiter interface {
		// Waits is how long its check may take, 0 for one that asks nobody.
		Waits() time.Duration
	}
	// DataUser is a resolved block whose checks need data that the control plane fetches and agents are given.
	DataUser interface {
		Data() []model.Data
	}
	// DataParser is a Feature that reads such data, whose names start with the feature's. What it gives is shared by all
	// of the feature's checks; it is made anew when the data changes.
	DataParser interface {
		ParseData(name string, body []byte) (any, error)
	}
	// Authenticator is a block that may find out who is calling.
	Authenticator interface {
		// Authenticates tells whether no request passes this one without an identity.
		Authenticates() bool
	}
	// CompanionChecker is a block that needs others to hold at the same place.
	CompanionChecker interface {
		// CheckCompanions gathers what is missing among the blocks that hold.
		CheckCompanions(all []Spec, at policy.At, p *policy.Problems)
	}
)

// Request is what a check sees of a request: what Envoy has matched, normalised. It is not changed.
type Request struct {
	Method string
	Host   string
	// Path is the path with its query.
	Path string
	// Headers are by lower-case name; those sent several times are joined with commas.
	Headers map[string]string
	// Client is the client's address as its listener determines it, see the block clientAddress; not the peer's. The zero
	// Addr where it is not known.
	Client netip.Addr
	// Certificate is the one that the client has shown, which its listener has verified; nil when it has shown none, or
	// when that has expired since. It is shared.
	Certificate *x509.Certificate
	// Asker asks servers that policies name; see package fetch.
	Asker *http.Client
	// Now is when the check began.
	Now time.Time
	// Data is what DataParser made of the data of this name; nil when there is none yet.
	Data func(name string) any
}

// Query is the raw query, without the question mark.
func (r *Request) Query() string {
	_, query, _ := strings.Cut(r.Path, "?")
	return query
}

// Identity is who is calling, as far as it is known. The zero value is nobody.
type Identity struct {
	User   string
	Plan   string
	Issuer string
	// Key is the id of the API key that was shown, which is no secret.
	Key         string
	Permissions []string
	Scopes      []string
	Roles       []string
	Claims      map[string]any
}

// Decision is what a check says. The zero value lets the request go on.
type Decision struct {
	// Status is the answer's when the request is refused: 401, 403 or 503; 0 lets it go on.
	Status int
	// Reason is one word of a fixed set, for metrics and logs.
	Reason string
	// Detail is a sentence for the client.
	Detail string
	// Challenge is the WWW-Authenticate header, if any.
	Challenge string
	// RemoveHeaders and RemoveQuery name headers and parameters of the query that hold secrets, which the service is not
	// to see when the request goes on.
	RemoveHeaders, RemoveQuery []string
	// Shadow is set for what would have been refused, were it not only tried out: it is logged, and the request goes on.
	Shadow bool
}

// Allowed tells whether the request goes on.
func (d Decision) Allowed() bool { return d.Status == 0 || d.Shadow }

// Unavailable refuses a request that cannot be decided on now.
func Unavailable(reason, detail string) Decision {
	return Decision{Status: http.StatusServiceUnavailable, Reason: reason, Detail: detail}
}

// The headers by which services see who is calling. Clients cannot send them: those that start with x-sluice- are
// removed before anything reads them.
const (
	HeaderUser        = "x-sluice-user"
	HeaderPlan        = "x-sluice-plan"
	HeaderIssuer      = "x-sluice-issuer"
	HeaderPermissions = "x-sluice-permissions"
	HeaderScopes      = "x-sluice-scopes"
	HeaderRoles       = "x-sluice-roles"
)

// Headers are the identity as services see it, by header; "" for one that is not to be there. Lists are JSON arrays.
func (id *Identity) Headers() map[string]string {
	return map[string]string{
		HeaderUser: headerText(id.User), HeaderPlan: headerText(id.Plan), HeaderIssuer: headerText(id.Issuer),
		HeaderPermissions: headerList(id.Permissions), HeaderScopes: headerList(id.Scopes), HeaderRoles: headerList(id.Roles),
	}
}

func headerList(words []string) string {
	if words == nil {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(words) // texts always marshal
	return strings.TrimSpace(b.String())
}

// headerText leaves out what no header can carry, should anyone have let it through.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
