// Package feature is the contract between the core and the gateway's features. A feature is one folder below this
// one and one line in feature/all; the core calls what it finds and knows none by name.
package feature

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is one ability of the gateway, switched on by a block of its name in a policy document.
type Feature interface {
	// Info says what it is; constant.
	Info() Info
	// New is its block with the defaults set, to be decoded into. A pointer to a struct whose json and jsonschema
	// tags are the block's syntax.
	New() Spec
}

// Info is what the core and the reference need to know of a feature.
type Info struct {
	// Name is the block's key in policies; in lower case it is the feature's folder.
	Name string
	// Summary is one sentence for the reference.
	Summary string
	// Stage orders the feature's hooks and its filters, if it has any.
	Stage Stage
	// On is where the block may stand.
	On Place
}

// Place is a set of places where a block may stand.
type Place uint8

// The places. A block that may stand on a rule may stand on a Route and in a Policy too.
const (
	// Rule: on a rule, Route, Policy, and on a Gateway for all of its routes.
	Rule Place = 1 << iota
	// Service: on a Service, about reaching it. Beside Rule: the Service's block holds on every route to it that
	// has no nearer one.
	Service
	// Gateway: on a Gateway, about its listeners; also in a Policy that a Gateway uses.
	Gateway
)

// Spec is one block, decoded. It is shared: once validated it is never changed.
type Spec interface {
	// Validate gathers what is wrong with the block by itself.
	Validate(at policy.At, p *policy.Problems)
}

// The optional abilities of a Spec, one method each.
type (
	// Joiner is a block that does not simply replace the same block farther away.
	Joiner interface {
		// Join is both blocks together, neither changed.
		Join(farther Spec) Spec
	}
	// Resolver is a block that names other objects.
	Resolver interface {
		// Resolve is the block with its names followed; called once for each place the block holds at.
		Resolve(at policy.At, l Lookup, p *policy.Problems) Spec
	}
	// MatchChecker is a block that does not suit every match.
	MatchChecker interface {
		// CheckMatch gathers what is wrong with the block on a rule with this match; called for each match of every
		// rule where the block holds.
		CheckMatch(m model.Match, at policy.At, p *policy.Problems)
	}
	// ListenerChecker is a block that does not suit every gateway.
	ListenerChecker interface {
		// CheckListeners gathers what is wrong with the block on a gateway with these listeners; called for each place
		// where the block holds.
		CheckListeners(listeners []*model.Listener, at policy.At, p *policy.Problems)
	}
	// MatchResolver is a block that means something else on each match.
	MatchResolver interface {
		// ForMatch is the block as it holds on routes with this match; the block itself where that makes no difference.
		ForMatch(m model.Match) Spec
	}
	// Answerer is a block that may answer requests itself, so that its rule needs no `to`.
	Answerer interface {
		// Answers tells whether this one does.
		Answers() bool
	}
	// Expander is a block that needs more matches than its rule's own.
	Expander interface {
		// Expand gives further routes for one of the rule's routes, without name and digest. They hold only the
		// attachments that Expand leaves on them.
		Expand(r *model.Route, self model.Attachment) []*model.Route
	}
	// RouteConfigurer changes the Envoy route of every place where the block holds.
	RouteConfigurer interface {
		// ConfigureRoute is called in the features' order, after the core has set match, name and action.
		ConfigureRoute(r *model.Route, out *routev3.Route) error
	}
	// RouteVarier is a block that treats some of a route's requests otherwise than the rest.
	RouteVarier interface {
		// VaryRoute gives changed copies of out that take fewer requests and are tried before it, or none. It is
		// called after every ConfigureRoute.
		VaryRoute(r *model.Route, out *routev3.Route) ([]*routev3.Route, error)
	}
	// HostConfigurer is a default block that says the same once for a whole virtual host: then ConfigureRoute is not
	// called for it on the routes where only the default holds.
	HostConfigurer interface {
		ConfigureHost(out *routev3.VirtualHost) error
	}
	// ClusterConfigurer changes the Envoy cluster of the Service that the block stands on.
	ClusterConfigurer interface {
		ConfigureCluster(c *model.Cluster, out *clusterv3.Cluster) error
	}
	// SecretNamer is a block on a Service that names Certificates. The gateways that reach the Service are sent them.
	SecretNamer interface {
		// Secrets are the names, each with the field that names it.
		Secrets() []SecretUse
	}
	// SecretHolder is a resolved block on a rule that needs secrets which are no Certificates, such as a password. The
	// gateways whose routes have it are sent them, under names that hold a slash.
	SecretHolder interface {
		HeldSecrets() []model.Secret
	}
	// ListenerConfigurer changes the listeners of the Gateway that the block stands on.
	ListenerConfigurer interface {
		ConfigureListener(l *model.Listener, out *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error
	}
)

// SecretUse is a field that names a Certificate.
type SecretUse struct {
	Name  string
	Field string
	// CA says that authorities are wanted, not a certificate with its key.
	CA bool
}

// The optional abilities of a Feature.
type (
	// HTTPFilterer is a feature with filters of its own in every listener's chain. They are there whether any route
	// uses them or not, disabled, so that a change of policy never changes a listener.
	HTTPFilterer interface {
		HTTPFilters() []Filter
	}
	// Defaulter is a feature that holds everywhere where its block may stand, as its default block says, unless one
	// is written there: on every Gateway, on every rule, on every Service.
	Defaulter interface {
		Default() Spec
	}
	// Kinds is a feature that owns kinds of documents.
	Kinds interface {
		Kinds() []Kind
	}
)

// Resources are ready Envoy resources: by type URL, then by name, deterministic protobuf bytes.
type Resources map[string]map[string][]byte

// Add packs one resource.
func (r Resources) Add(typeURL, name string, m proto.Message) error {
	body, err := Marshal(m)
	if err != nil {
		return err
	}
	r.AddReady(typeURL, name, body)
	return nil
}

// AddReady adds one resource that is bytes already.
func (r Resources) AddReady(typeURL, name string, body []byte) {
	if r[typeURL] == nil {
		r[typeURL] = map[string][]byte{}
	}
	r[typeURL][name] = body
}

// Filter is one HTTP filter of the chain.
type Filter struct {
	// Name is its name in the chain, and the key of its per-route config.
	Name string
	// Config is its config at the listener.
	Config proto.Message
	// PerRoute is an empty message of the type its per-route config has; nil when it only can be switched on.
	PerRoute proto.Message
	// Always is set for the few filters that are on for every route.
	Always bool
	// Discovered says that its config comes over ECDS, see FilterDiscoverer. Until it has come Config holds, which must
	// let nothing pass.
	Discovered bool
	// Replies gives the filter's own answers their form.
	Replies []*hcmv3.ResponseMapper
}

// Kind is a kind of documents that a feature owns.
type Kind struct {
	Name    string
	Summary string
	New     func() Spec
}

// Lookup follows names while a block is resolved. Every name asked for is remembered as something the block
// depends on.
type Lookup interface {
	// Cluster is the name of the cluster of a Service, which is then kept at the gateway; false when there is none.
	Cluster(service string) (string, bool)
	// Hint is the way out for a name of a kind that names nothing: the nearest name, or how to define it.
	Hint(kind, name string) string
	// Document is the decoded document of a kind that a feature owns; false when there is none.
	Document(kind, name string) (Spec, bool)
}
