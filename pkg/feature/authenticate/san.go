package authenticate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// SAN is a subject alternative name that a certificate is to have; its form says of which kind. URIs may end in /*,
// host names begin with *., and e-mail addresses with *@.
type SAN string

type sanKind string

const (
	sanURI   sanKind = "uri"
	sanDNS   sanKind = "dns"
	sanEmail sanKind = "email"
)

// kind is told by what only one of them can have.
func (s SAN) kind() sanKind {
	switch {
	case strings.Contains(string(s), ":"):
		return sanURI
	case strings.Contains(string(s), "@"):
		return sanEmail
	}
	return sanDNS
}

// problem is what is wrong with it, "" when nothing is, and the way out.
func (s SAN) problem() (problem, help string) {
	if _, err := netip.ParseAddr(string(s)); err == nil {
		return fmt.Sprintf("%s is an address: it says where somebody is, not who", s), "name the certificate's URI, host name or e-mail address"
	}
	switch s.kind() {
	case sanURI:
		rest, wild := strings.CutSuffix(string(s), "/*")
		u, err := url.Parse(rest)
		if err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" || wild && u.Host == "" || strings.ContainsAny(rest, "* \t") {
			return fmt.Sprintf("%q is not a URI", string(s)), "write for example spiffe://acme/partner, or spiffe://acme/* for all below"
		}
	case sanEmail:
		local, domain, _ := strings.Cut(string(s), "@")
		if local == "" || local != "*" && strings.Contains(local, "*") || domain == "" || strings.ContainsAny(domain, "*@") || policy.CheckHost(domain) != nil {
			return fmt.Sprintf("%q is not an e-mail address", string(s)), "write for example ops@partner.example, or *@partner.example for all of that domain"
		}
	default:
		if s == "*" || policy.CheckHost(string(s)) != nil {
			return fmt.Sprintf("%q is not a host name", string(s)), "write for example partner.example, *.partners.example for all below, or certificate: any"
		}
	}
	return "", ""
}

// find gives the first name of a certificate that this one takes.
func (s SAN) find(cert *x509.Certificate) (string, bool) {
	names := namesOf(cert, s.kind())
	if i := slices.IndexFunc(names, s.matches); i >= 0 {
		return names[i], true
	}
	return "", false
}

func (s SAN) matches(name string) bool {
	switch s.kind() {
	case sanURI:
		if before, ok := strings.CutSuffix(string(s), "*"); ok {
			return strings.HasPrefix(name, before) && len(name) > len(before)
		}
		return name == string(s)
	case sanEmail:
		if domain, ok := strings.CutPrefix(string(s), "*"); ok {
			return strings.HasSuffix(name, domain) && strings.Count(name, "@") == 1 && len(name) > len(domain)
		}
		return name == string(s)
	}
	if domain, ok := strings.CutPrefix(string(s), "*"); ok {
		return strings.HasSuffix(name, domain) && len(name) > len(domain)
	}
	return name == string(s)
}

// namesOf are a certificate's names of a kind, hosts in lower case.
func namesOf(cert *x509.Certificate, kind sanKind) []string {
	var out []string
	switch kind {
	case sanURI:
		for _, u := range cert.URIs {
			out = append(out, u.String())
		}
	case sanEmail:
		for _, e := range cert.EmailAddresses {
			local, domain, _ := strings.Cut(e, "@")
			out = append(out, local+"@"+strings.ToLower(domain))
		}
	case sanDNS:
		for _, name := range cert.DNSNames {
			out = append(out, strings.ToLower(name))
		}
	}
	return out
}

// Subject is what a certificate's subject must say. A value may begin or end with *.
type Subject struct {
	CommonName         string `json:"commonName,omitempty"`
	Organization       string `json:"organization,omitempty"`
	OrganizationalUnit string `json:"organizationalUnit,omitempty"`
	Country            string `json:"country,omitempty"`
	Province           string `json:"province,omitempty"`
	Locality           string `json:"locality,omitempty"`
	SerialNumber       string `json:"serialNumber,omitempty"`
}

// attribute is one of a subject: what is asked for, and what a certificate says.
type attribute struct {
	name, wanted string
	has          []string
}

func (s Subject) attributes(n pkix.Name) []attribute {
	return []attribute{
		{"commonName", s.CommonName, []string{n.CommonName}}, {"organization", s.Organization, n.Organization},
		{"organizationalUnit", s.OrganizationalUnit, n.OrganizationalUnit}, {"country", s.Country, n.Country},
		{"province", s.Province, n.Province}, {"locality", s.Locality, n.Locality}, {"serialNumber", s.SerialNumber, []string{n.SerialNumber}},
	}
}

func (s Subject) validate(at policy.At, p *policy.Problems) {
	for _, a := range s.attributes(pkix.Name{}) {
		inner := strings.TrimPrefix(a.wanted, "*")
		if inner == a.wanted {
			inner = strings.TrimSuffix(a.wanted, "*")
		}
		if a.wanted != "" && (inner == "" || strings.Contains(inner, "*")) {
			p.Suggestf(at.Field(a.name), policy.CodeValue, "write the value, its start and *, or * and its end", "%q is not a value that a subject can be held against", a.wanted)
		}
	}
}

// matches tells whether the subject says all of it; of an attribute with several values one must do.
func (s Subject) matches(n pkix.Name) bool {
	for _, a := range s.attributes(n) {
		if a.wanted != "" && !slices.ContainsFunc(a.has, func(v string) bool { return fits(a.wanted, v) }) {
			return false
		}
	}
	return true
}

func fits(wanted, value string) bool {
	if before, ok := strings.CutSuffix(wanted, "*"); ok {
		return strings.HasPrefix(value, before)
	}
	if after, ok := strings.CutPrefix(wanted, "*"); ok {
		return strings.HasSuffix(value, after)
	}
	return value == wanted
}
