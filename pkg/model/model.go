// Package model is what is meant, resolved: the gateways with their listeners, hosts, routes and clusters, every
// reference followed, every list in its final order. It knows no YAML, no protobuf and no Consul.
package model

import (
	"strings"
	"time"
)

// Config is everything that one site's policies mean.
type Config struct {
	Gateways []*Gateway // by name
	// StoreSecrets are the places that name secrets of the store, by object.
	StoreSecrets []StoreSecret
}

// StoreSecret is one place that names a secret of the store.
type StoreSecret struct {
	Name string
	// Kind and Object are those of the document, and From is file:line.
	Kind, Object, From string
}

// Gateway is what one set of Envoys is to do.
type Gateway struct {
	Name        string
	Listeners   []*Listener    // by name
	Hosts       []*VirtualHost // by domain
	Clusters    []*Cluster     // by name: the services that its routes reach, and no others
	Secrets     []Secret       // by name: those that its listeners and clusters name, and no others
	Attachments []Attachment   // the gateway's own blocks, in the features' order
	// Defaults are the blocks that hold on every route that has none of its own.
	Defaults []Attachment
	// Table names the routing table by its content: every answer's log line carries it.
	Table string
}

// Listener is one port, of TCP but for HTTP/3.
type Listener struct {
	Name    string
	Gateway string
	Address string
	Port    uint32
	TLS     *TLS // nil for plain HTTP
	// HTTP3 makes it a UDP port that speaks HTTP/3 and nothing else; TLS is set.
	HTTP3 bool
	// AltSvcPort is the port at which clients are told that they reach HTTP/3, 0 for none.
	AltSvcPort uint32
	// RedirectPort, when set, makes it answer every request with its https address at this port, and nothing else.
	RedirectPort uint32
	Attachments  []Attachment // the gateway's own blocks
}

// TLS is how a listener speaks it. Secrets are named, never held.
type TLS struct {
	Certificates []string // the client's server name chooses; the first where none fits
	ClientCA     string   // "" where clients are not asked for a certificate
	// ClientRequired refuses clients without a certificate.
	ClientRequired bool
	// ForwardClient tells services whose certificate a client has shown.
	ForwardClient bool
	// From13 refuses TLS 1.2; older ones are never spoken.
	From13 bool
}

// Secret is a certificate with its key, authorities, or a text: where the machine of the control plane has them.
type Secret struct {
	Name             string
	Certificate, Key SecretPlace
	CA               SecretPlace // instead of the other two
	CRL              SecretPlace // beside CA: what the authorities have revoked
	ACME             ACME        // instead of all of them: obtained from an authority
	Text             SecretPlace // instead of all of them: one line, such as a password
	Derive           string      // beside Text: what a key is derived for, which is sent instead; "" for the text itself
	From             string      // where it was written: file:line
}

// ACME is how a certificate is obtained.
type ACME struct {
	Domain, Email string
	// Directory is the authority's, "" for Let's Encrypt's; Roots are where the authorities of its own certificate are.
	Directory string
	Roots     SecretPlace
}

// IsObtained tells whether it is obtained from an authority.
func (s Secret) IsObtained() bool { return s.ACME.Domain != "" }

// IsText tells whether it is a text.
func (s Secret) IsText() bool { return s.Text != SecretPlace{} }

// IsCA tells whether it is authorities.
func (s Secret) IsCA() bool { return s.CA != SecretPlace{} }

// Places are all the places where it is.
func (s Secret) Places() []SecretPlace {
	return []SecretPlace{s.Certificate, s.Key, s.CA, s.CRL, s.Text}
}

// SecretPlace is a file, a variable of the environment, or a secret of the store.
type SecretPlace struct{ File, Env, Secret string }

// String is the place as people read it.
func (p SecretPlace) String() string {
	switch {
	case p.Env != "":
		return "$" + p.Env
	case p.Secret != "":
		return "secret " + p.Secret
	}
	return p.File
}

// VirtualHost holds the routes of one domain: a name, *.suffix, or *.
type VirtualHost struct {
	Domain string
	Routes []*Route // in the order in which they are tried
}

// Route is one match of one rule, and what happens to the requests it takes. A Route is shared between runs and
// between virtual hosts, and never changes.
type Route struct {
	// Name is route/rule; of a rule with several matches the later ones carry #2, #3, ….
	Name string
	// Route is the Route it belongs to; "" for one that Sluice adds by itself.
	Route string
	// Origin is where the rule stands: file:line.
	Origin   string
	Match    Match
	Backends []Backend // none where a feature answers itself
	// Allow, when set, makes the route answer 405 with these methods: the path exists, but not with the request's.
	Allow       []string
	Attachments []Attachment // what holds, merged, in the features' order
	// Decider is who decides whether a request may go on, and WhyAgent why it is not Envoy, "" where it is. These and what
	// follows up to Native follow from Attachments.
	Decider  Decider
	WhyAgent string
	// Identity is where the metadata of its requests says who is calling; nil where nobody is asked.
	Identity *Identity
	// Runtime is the part of its policy that the agent decides; nil when there is none.
	Runtime *Runtime
	// Native is the data that Envoy decides by, where it does.
	Native []Data
	// Text, when set, is the body of the route's answer: nothing else happens to its requests.
	Text string
	// Unavailable makes the route answer 503: what it was to do is in quarantine, or nobody is left to do it.
	Unavailable bool
	// RetryAfter goes with such an answer, in seconds; 0 for none.
	RetryAfter int
	// Order sorts routes as they are tried, see Match.Order; routes with Allow come after all others.
	Order string
	// Literal is what every path starts with that the route takes, see Path.Literal.
	Literal string
	// Digest is the content hash of all the above.
	Digest string
}

// Runtime is a policy that agents decide by.
type Runtime struct {
	// Digest is the content hash of Body, and its name.
	Digest string
	// Body is the blocks that are decided at run time, as canonical JSON.
	Body []byte
	// Data is what they need beside themselves.
	Data []Data
	// Waits is how long agents may wait for others before they decide.
	Waits time.Duration
}

// Data is something that the control plane fetches for agents, such as the keys of an issuer. One of the ways to get
// it is set.
type Data struct {
	// Name is feature/name.
	Name string
	// URL is where it is fetched.
	URL string
	// Discovery is the issuer whose discovery document (OpenID Connect) names the URL of its keys.
	Discovery string
	// File and Env are on the control plane's machine.
	File string
	Env  string
	// Secret is in the store.
	Secret string
	// Inline is the data itself.
	Inline string
	// Table is one that the control plane keeps itself. It comes in parts, named Name/ and a number in hex.
	Table Table
}

// IsFetched tells whether it comes from elsewhere, by URL: everybody can have it there, and it may be away.
func (d Data) IsFetched() bool { return d.URL != "" || d.Discovery != "" }

// Table names a table that the control plane keeps itself.
type Table string

// The tables.
const (
	TableKeys        Table = "keys"
	TableRevocations Table = "revocations"
)

// PathOrder is the part of Order that says the path: routes for the same path share it.
func (r *Route) PathOrder() string {
	return strings.TrimPrefix(r.Order[:len(r.Order)-matchOrderBytes], "\xff\xff")
}

// Backend is one cluster and its share of a route's requests.
type Backend struct {
	Cluster string
	Service string
	Weight  uint32
}

// Cluster is one service and how it is reached. A Cluster is shared between runs and never changes.
type Cluster struct {
	Name        string
	Service     string
	Protocol    Protocol
	DNS         *HostPort  // looked up by Envoy; nil for a fixed or discovered set of endpoints
	Discovery   *Discovery // endpoints come from a catalog; nil for all else
	Registered  bool       // made for a registration, which the catalog brings without being asked for it
	Endpoints   []Endpoint // by address; ignored with DNS and Discovery
	Attachments []Attachment
	// Digest is the content hash of all but the endpoints.
	Digest string
}

// Protocol is what a service's instances speak.
type Protocol string

// The protocols; the empty one is HTTP1.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
)

// Discovery is what is asked of a catalog for a cluster's endpoints.
type Discovery struct {
	Service     string
	Tags        []string
	Datacenter  string
	Filter      string
	OnlyPassing bool
	Near        string
	Namespace   string
	Partition   string
}

// HostPort is a name to look up.
type HostPort struct {
	Host string
	Port uint32
}

// Endpoint is one instance.
type Endpoint struct {
	Address string
	Port    uint32
	Weight  uint32 // 1 and up
	// Priority is the group it belongs to: a group takes requests when those before it have too few healthy members.
	Priority uint32
	// Unhealthy ones are known, but take no requests.
	Unhealthy bool
}

// Default is the level of an attachment that nobody wrote.
const Default = "default"

// Attachment is one feature's block, opaque to the model.
type Attachment struct {
	// Feature is the feature's name.
	Feature string
	// Spec is the feature's own value, resolved.
	Spec any
	// From is where it was written: file:line.
	From string
	// Level is where it was attached: gateway, service, route or rule; or Default where nobody wrote it.
	Level string
	// Via is the Policy it came through, "" when it was written in place.
	Via string
	// Digest is the content hash of Spec, as canonical JSON.
	Digest string
}
