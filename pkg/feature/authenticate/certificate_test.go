package authenticate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// clientCertificate is one with names, as a listener has verified it.
func clientCertificate(t testing.TB, subject pkix.Name, names ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{Subject: subject, Issuer: pkix.Name{CommonName: "Partners"}, Raw: []byte("der"), SerialNumber: big.NewInt(1)}
	for _, name := range names {
		switch SAN(name).kind() {
		case sanURI:
			u, err := url.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		case sanEmail:
			c.EmailAddresses = append(c.EmailAddresses, name)
		case sanDNS:
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	return c
}

func TestSAN_Find(t *testing.T) {
	tests := []struct {
		san   SAN
		names string
		want  string // "" when none is taken
	}{
		{"spiffe://acme/a", "spiffe://acme/a", "spiffe://acme/a"},
		{"spiffe://acme/a", "spiffe://acme/ab spiffe://acme/", ""},
		{"spiffe://acme/*", "spiffe://other/a spiffe://acme/a spiffe://acme/b", "spiffe://acme/a"},
		{"spiffe://acme/*", "spiffe://acme/ spiffe://acme spiffe://acme.evil/a spiffe://acmeevil/a", ""},
		{"urn:partner:7", "urn:partner:7", "urn:partner:7"},
		{"urn:partner:7", "urn:partner:77", ""},
		{"partner.example", "partner.example", "partner.example"},
		{"partner.example", "PARTNER.example", "partner.example"},
		{"partner.example", "a.partner.example evilpartner.example *.example", ""},
		{"*.partner.example", "a.b.partner.example", "a.b.partner.example"},
		{"*.partner.example", "partner.example evilpartner.example a.partner.example.evil", ""},
		{"ops@partner.example", "ops@PARTNER.example", "ops@partner.example"},
		{"ops@partner.example", "OPS@partner.example ops@partner.example.evil", ""},
		{"*@partner.example", "anyone@partner.example", "anyone@partner.example"},
		{"*@partner.example", "a@evil@partner.example @partner.example a@sub.partner.example", ""},
		// A name of another kind is not taken for it.
		{"partner.example", "partner.example@x urn:partner.example", ""},
	}
	for _, tt := range tests {
		t.Run(string(tt.san)+" of "+tt.names, func(t *testing.T) {
			if problem, _ := tt.san.problem(); problem != "" {
				t.Fatal(problem)
			}
			got, ok := tt.san.find(clientCertificate(t, pkix.Name{}, strings.Fields(tt.names)...))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCertificates_WhoIsCalling(t *testing.T) {
	subject := pkix.Name{CommonName: "payments", Organization: []string{"Acme"}}
	cert := clientCertificate(t, subject, "spiffe://first/x", "spiffe://acme/x", "b.example", "a.example", "ops@acme.example")
	bare := clientCertificate(t, subject)
	tests := []struct {
		name string
		c    Certificates
		cert *x509.Certificate
		user string
		why  string
	}{
		{"none", Certificates{Any: true}, nil, "", "missing"},
		{"any", Certificates{Any: true}, cert, "spiffe://first/x", ""},
		{"the one that is asked for", Certificates{SANs: []SAN{"a.example"}}, cert, "a.example", ""},
		{"the one that is asked for, of its kind", Certificates{SANs: []SAN{"a.example", "spiffe://acme/*"}, User: "uri"}, cert, "spiffe://acme/x", ""},
		{"another kind than what is asked for", Certificates{SANs: []SAN{"a.example"}, User: "email"}, cert, "ops@acme.example", ""},
		{"dns", Certificates{User: "dns"}, cert, "b.example", ""},
		{"subject", Certificates{User: "subject"}, cert, "CN=payments,O=Acme", ""},
		{"common name", Certificates{User: "commonName"}, cert, "payments", ""},
		{"fingerprint", Certificates{User: "fingerprint"}, cert, fingerprint(cert), ""},
		{"no names", Certificates{Any: true}, bare, "CN=payments,O=Acme", ""},
		{"no such name", Certificates{User: "uri"}, bare, "", "certificate"},
		{"nothing at all", Certificates{Any: true}, clientCertificate(t, pkix.Name{}), "", "certificate"},
		{"too long", Certificates{Any: true}, clientCertificate(t, pkix.Name{}, "spiffe://"+strings.Repeat("a", maxUser)), "", "certificate"},
		{"not asked for", Certificates{SANs: []SAN{"c.example"}}, cert, "", "certificate"},
		{"subject and names", Certificates{SANs: []SAN{"a.example"}, Subject: Subject{Organization: "Ac*", CommonName: "*ments"}}, cert, "a.example", ""},
		{"names, but not the subject", Certificates{SANs: []SAN{"a.example"}, Subject: Subject{Organization: "Acme", Country: "DE"}}, cert, "", "certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := &feature.Identity{}
			d := tt.c.check(t.Context(), &feature.Request{Certificate: tt.cert}, id)
			if id.User != tt.user || d.Reason != tt.why || d.Allowed() != (tt.user != "") {
				t.Errorf("user %q, %+v", id.User, d)
			}
			if (d.Reason == "missing") != (d.Status == 401) {
				t.Errorf("%d for %q", d.Status, d.Reason)
			}
		})
	}
	id := &feature.Identity{}
	if (&Certificates{Any: true}).check(t.Context(), &feature.Request{Certificate: cert}, id); id.Issuer != "CN=Partners" {
		t.Errorf("issuer %q", id.Issuer)
	}
	want := []any{"Acme"}
	if diff := cmp.Diff(want, claim(id.Claims, "certificate.organization")); diff != "" {
		t.Error(diff)
	}
}

func FuzzSAN(f *testing.F) {
	for _, s := range []string{"spiffe://acme/*", "*.acme.example", "*@acme.example", "urn:a:b", "::1", "*", "%zz:", "a@b@c"} {
		f.Add(s, "spiffe://acme/x")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		s := SAN(pattern)
		if problem, _ := s.problem(); problem != "" {
			return
		}
		if star := strings.Trim(pattern, "*"); s.matches(name) && !strings.Contains(name, star) {
			t.Errorf("%q takes %q", pattern, name)
		}
	})
}

func BenchmarkCertificates(b *testing.B) {
	cert := clientCertificate(b, pkix.Name{CommonName: "payments"}, "spiffe://acme/x", "a.example")
	c := &Certificates{SANs: []SAN{"*.other.example", "spiffe://acme/*"}}
	r := &feature.Request{Certificate: cert}
	for b.Loop() {
		c.check(b.Context(), r, &feature.Identity{})
	}
}
