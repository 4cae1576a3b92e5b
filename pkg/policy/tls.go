package policy

import (
	"strconv"

	"github.com/invopop/jsonschema"
)

// Certificate is a certificate with its key, or certificate authorities; where they are, not what they are.
type Certificate struct {
	Certificate Secret `json:"certificate,omitzero" jsonschema_description:"PEM: the certificate, then those that lead to its authority."`
	Key         Secret `json:"key,omitzero" jsonschema_description:"PEM: the certificate's private key."`
	CA          Secret `json:"ca,omitzero" jsonschema_description:"PEM: the authorities to trust; in place of certificate and key."`
	ACME        *ACME  `json:"acme,omitempty" jsonschema_description:"Obtained and renewed from an authority; in place of certificate and key."`
	CRL         Secret `json:"crl,omitzero" jsonschema_description:"PEM or DER: the revocation lists of these authorities, one of each. A certificate on one of them is refused."`
}

// ACME is how a certificate is obtained (RFC 8555), by answering on port 80 of its domain.
type ACME struct {
	Domain    string `json:"domain" jsonschema:"required" jsonschema_description:"The name that the certificate is for. Port 80 of it must lead to a listener of the gateway, directly or by a redirect."`
	Email     string `json:"email,omitempty" jsonschema_description:"Where the authority may write to."`
	Directory string `json:"directory,omitempty" jsonschema_description:"The authority's directory; Let's Encrypt's when left out. To use it is to agree to its terms."`
	CA        Secret `json:"ca,omitzero" jsonschema_description:"PEM: the authorities that the directory's own certificate is signed by, where the machine does not know them."`
}

// ListenerTLS makes a listener speak TLS.
type ListenerTLS struct {
	Certificate       string   `json:"certificate,omitempty" jsonschema_description:"Name of the Certificate to show."`
	Certificates      []string `json:"certificates,omitempty" jsonschema_description:"Names of several, of which the client's server name chooses; the first where none fits."`
	ClientCA          string   `json:"clientCA,omitempty" jsonschema_description:"Name of the Certificate with the authorities of clients. Clients are asked for a certificate only when it is there."`
	ClientCertificate string   `json:"clientCertificate,omitempty" jsonschema:"enum=required,enum=optional" jsonschema_description:"Whether a client must show a certificate; required when left out. One that is shown must be good either way."`
	// ForwardClientCertificate is Envoy's forward_client_cert_details.
	ForwardClientCertificate bool `json:"forwardClientCertificate,omitempty" jsonschema_description:"Tells services whose certificate it was, in x-forwarded-client-cert: subject, URIs, DNS names. What a client says there is removed either way."`

	HTTP3 PublicPort `json:"http3,omitzero" jsonschema_description:"Speaks HTTP/3 too, at the UDP port of the same number, and tells clients so (alt-svc): true, or the port that clients reach it at when it is another one."`

	MinVersion string `json:"minVersion,omitempty" jsonschema:"enum=1.2,enum=1.3" jsonschema_description:"The oldest TLS version spoken; 1.2 when left out."`
}

// Names are the certificates to show, the first where the client's server name fits none.
func (t ListenerTLS) Names() []string {
	if t.Certificate != "" {
		return append([]string{t.Certificate}, t.Certificates...)
	}
	return t.Certificates
}

// PublicPort switches something on that clients reach at a port: true, or that port where it is another one than the
// gateway's own.
type PublicPort struct {
	On   bool
	Port uint32 // 0: the gateway's own
}

// UnmarshalNode reads either form.
func (r *PublicPort) UnmarshalNode(at At, p *Problems) {
	switch at.Node.Value {
	case "true", "false":
		r.On = at.Node.Value == "true"
		return
	}
	port, err := strconv.ParseUint(at.Node.Value, 10, 16)
	if err != nil || port == 0 || at.Node.Kind != Scalar {
		p.Suggestf(at, CodeValue, "write true, or the port that clients reach it at, as 443", "%s is neither true nor a port", at.Path)
		return
	}
	r.On, r.Port = true, uint32(port)
}

// JSONSchema describes both forms.
func (PublicPort) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "boolean"}, {Type: "integer", Minimum: "1", Maximum: "65535"}}}
}
