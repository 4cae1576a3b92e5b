package authenticate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Certificates is the method `certificate`: those of clients that their listener has verified.
type Certificates struct {
	// Any is said by the word `any`.
	Any     bool    `json:"any,omitempty"`
	SANs    []SAN   `json:"sans,omitempty"`
	Subject Subject `json:"subject,omitzero"`
	User    string  `json:"user,omitempty"`
}

// certificatesForm is the long form.
type certificatesForm struct {
	SANs    []SAN   `json:"sans,omitempty" jsonschema_description:"Alternative names, one of which the certificate must have."`
	Subject Subject `json:"subject,omitzero" jsonschema_description:"What the certificate's subject must say: all of it."`
	User    string  `json:"user,omitempty" jsonschema:"enum=uri,enum=dns,enum=email,enum=subject,enum=commonName,enum=fingerprint" jsonschema_description:"What of the certificate names the caller. When left out, the name that sans took; without sans the first URI, e-mail address or host name, or else the subject."`
}

// anyCertificate is the word that takes every certificate that the listener takes.
const anyCertificate = "any"

// UnmarshalNode reads any, a name, a list of names, or the long form.
func (c *Certificates) UnmarshalNode(at policy.At, p *policy.Problems) {
	switch {
	case at.Node.Kind == policy.Scalar && at.Node.Value == anyCertificate:
		c.Any = true
	case at.Node.Kind == policy.Scalar:
		c.SANs = []SAN{SAN(at.Node.Value)}
	case at.Node.Kind == policy.List:
		policy.Decode(at, &c.SANs, p)
	default:
		f := certificatesForm{}
		policy.Decode(at, &f, p)
		c.SANs, c.Subject, c.User = f.SANs, f.Subject, f.User
	}
}

// JSONSchema describes the forms.
func (Certificates) JSONSchema() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string", Examples: []any{anyCertificate, "spiffe://acme/*", "*.partners.example", "ops@partner.example"}}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}, policy.TypeSchema(certificatesForm{})}}
}

func (c *Certificates) validate(at policy.At, p *policy.Problems) {
	at = at.Field("certificate")
	if !c.Any && len(c.SANs) == 0 && c.Subject == (Subject{}) && c.User == "" {
		p.Suggestf(at, policy.CodeRequired, "write certificate: any, or a name that it must have, such as spiffe://acme/* or partner.example",
			"certificate does not say which ones are taken")
	}
	for i, san := range c.SANs {
		here := at
		switch {
		case at.Node.Kind == policy.List:
			here = at.Index(i)
		case at.Node.Kind == policy.Map:
			here = at.Field("sans").Index(i)
		}
		if problem, help := san.problem(); problem != "" {
			p.Suggestf(here, policy.CodeValue, help, "%s", problem)
		}
	}
	c.Subject.validate(at.Field("subject"), p)
}

func (c *Certificates) data() []model.Data { return nil }

// certificateMissing is the refusal of a client without one. The scheme of its challenge is nowhere standard, but a 401
// must have one.
func certificateMissing() feature.Decision {
	return feature.Decision{Status: http.StatusUnauthorized, Reason: reasonMissing, Detail: "A client certificate is needed.",
		Challenge: `ClientCertificate realm="sluice"`}
}

func notAllowed(detail string) feature.Decision {
	return feature.Decision{Status: http.StatusForbidden, Reason: "certificate", Detail: detail}
}

// check takes the certificate that the listener has verified; which authorities that was by, the listener says.
func (c *Certificates) check(_ context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	cert := r.Certificate
	if cert == nil {
		return certificateMissing()
	}
	name, ok := c.takes(cert)
	if !ok {
		return notAllowed("The client certificate is not one that is taken here.")
	}
	user := c.user(cert, name)
	if user == "" || len(user) > maxUser {
		return notAllowed("The client certificate does not say who is calling.")
	}
	id.User, id.Issuer = user, cert.Issuer.String()
	id.Claims = map[string]any{"certificate": claimsOf(cert)}
	return feature.Decision{}
}

// takes gives the alternative name by which the certificate is taken, "" where none is asked for.
func (c *Certificates) takes(cert *x509.Certificate) (name string, ok bool) {
	if !c.Subject.matches(cert.Subject) {
		return "", false
	}
	if len(c.SANs) == 0 {
		return "", true
	}
	for _, san := range c.SANs {
		if name, ok := san.find(cert); ok {
			return name, true
		}
	}
	return "", false
}

// user is what names the caller. Of several names of a kind the one that was asked for is taken, or else the first.
func (c *Certificates) user(cert *x509.Certificate, taken string) string {
	switch c.User {
	case "subject":
		return cert.Subject.String()
	case "commonName":
		return cert.Subject.CommonName
	case "fingerprint":
		return fingerprint(cert)
	case "":
		if taken != "" {
			return taken
		}
		for _, kind := range []sanKind{sanURI, sanEmail, sanDNS} {
			if names := namesOf(cert, kind); len(names) > 0 {
				return names[0]
			}
		}
		return cert.Subject.String()
	}
	kind := sanKind(c.User)
	names := namesOf(cert, kind)
	for _, san := range c.SANs {
		if name, ok := san.find(cert); ok && san.kind() == kind {
			return name
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// claimsOf is what a certificate says, in the form of a token's claims.
func claimsOf(cert *x509.Certificate) map[string]any {
	return map[string]any{
		"subject": cert.Subject.String(), "commonName": cert.Subject.CommonName, "issuer": cert.Issuer.String(),
		"organization": anyOf(cert.Subject.Organization), "organizationalUnit": anyOf(cert.Subject.OrganizationalUnit),
		"uris": anyOf(namesOf(cert, sanURI)), "dnsNames": anyOf(namesOf(cert, sanDNS)), "emails": anyOf(namesOf(cert, sanEmail)),
		"fingerprint": fingerprint(cert), "serialNumber": cert.SerialNumber.Text(16),
	}
}

func anyOf(words []string) []any {
	out := make([]any, 0, len(words))
	for _, w := range words {
		out = append(out, w)
	}
	return out
}

var _ policy.Unmarshaler = (*Certificates)(nil)
