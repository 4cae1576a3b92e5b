package integration

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// certificateRoutes are routes that ask for certificates, alone and beside tokens.
const certificateRoutes = `
---
apiVersion: sluice/v1
kind: Route
metadata: {name: certificates}
spec:
  rules:
    - {name: any, match: /c/any, authenticate: {certificate: any}, to: echo}
    - {name: uri, match: /c/uri, authenticate: {certificate: spiffe://acme/*}, to: echo}
    - {name: dns, match: /c/dns, authenticate: {certificate: ["*.acme.example", exact.example]}, to: echo}
    - {name: email, match: /c/email, authenticate: {certificate: {sans: ["*@acme.example"], user: email}}, to: echo}
    - {name: subject, match: /c/subject, authenticate: {certificate: {subject: {organization: Acme, commonName: pay*}, user: commonName}}, to: echo}
    - {name: fingerprint, match: /c/fingerprint, authenticate: {certificate: {user: fingerprint}}, to: echo}
    - {name: and, match: /c/and, authenticate: {jwt: idp, certificate: spiffe://acme/*}, to: echo}
    - {name: or, match: /c/or, authenticate: {anyOf: [{jwt: idp}, {certificate: spiffe://acme/*}]}, to: echo}
    - {name: claim, match: /c/claim, authenticate: {certificate: any}, authorize: {claims: {certificate.organization: Acme}}, to: echo}
    - {name: open, match: /c/open, to: echo}
`

// startCertificates serves certificateRoutes at a plain listener, one that asks for certificates, and one that insists.
func startCertificates(t *testing.T, partners *revoking, idp *issuer, service http.Handler) (optional, required *tlsEdge) {
	optional, required, _ = startCertificatesAndMore(t, partners, idp, service)
	return optional, required
}

// startCertificatesAndMore has a TLS listener, too, that does not ask for certificates.
func startCertificatesAndMore(t *testing.T, partners *revoking, idp *issuer, service http.Handler) (optional, required, silent *tlsEdge) {
	t.Helper()
	e := &tlsEdge{t: t, dir: t.TempDir(), port: gateway.FreePort(t), ca: ca.New(t, "public")}
	insists := &tlsEdge{t: t, dir: e.dir, port: gateway.FreePort(t), ca: e.ca}
	quiet := &tlsEdge{t: t, dir: e.dir, port: gateway.FreePort(t), ca: e.ca}
	e.ca.Sign([]string{"api.example", "127.0.0.1"}).Write(t, e.dir, "api")
	files := authPolicies(idp, gateway.Backend(t, service))
	files["edge.yaml"] = strings.NewReplacer("$DIR", e.dir, "$OPTIONAL", strconv.Itoa(e.port), "$REQUIRED", strconv.Itoa(insists.port),
		"$SILENT", strconv.Itoa(quiet.port)).Replace(`
apiVersion: sluice/v1
kind: Certificate
metadata: {name: api-cert}
spec: {certificate: {file: $DIR/api.crt}, key: {file: $DIR/api.key}}
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners:
    - {name: http, port: $PORT}
    - {name: optional, port: $OPTIONAL, tls: {certificate: api-cert, clientCA: partners, clientCertificate: optional, http3: true}}
    - {name: required, port: $REQUIRED, tls: {certificate: api-cert, clientCA: partners, http3: true}}
    - {name: silent, port: $SILENT, tls: {certificate: api-cert, http3: true}}
`) + partners.policy() + certificateRoutes
	e.Gateway = gateway.Start(t, files, gateway.WithAgent(&gateway.Agent{}))
	insists.Gateway, quiet.Gateway = e.Gateway, e.Gateway
	return e, insists, quiet
}

// TestAuth_CertificateAndRequirementDecideTheStatus is the table of what a client shows in its handshake and in its
// request, by what routes ask for.
func TestAuth_CertificateAndRequirementDecideTheStatus(t *testing.T) {
	t.Parallel()
	idp, service, partners, strangers := newIssuer(t), &echoHeaders{}, newRevoking(t, "partners"), ca.New(t, "strangers")
	optional, required, silent := startCertificatesAndMore(t, partners, idp, service)
	acme := pkix.Name{CommonName: "payments", Organization: []string{"Other", "Acme"}}
	all := []string{"spiffe://acme/payments", "pay.acme.example", "ops@acme.example"}
	good, revoked := partners.Sign(all, ca.Of(acme)), partners.Sign(all, ca.Of(acme))
	partners.revoke(time.Now().Add(time.Hour), revoked)
	gateway.Eventually(t, "the list holds", func() bool { return !optional.passes(revoked) })
	tokens := map[string][]string{"none": nil, "good": bearer(idp.token(t)), "bad": bearer(idp.token(t, "iss", "https://evil.test"))}
	paths := []string{"any", "uri", "dns", "email", "subject", "fingerprint", "and", "or", "claim", "open"}
	const refused = "-"
	for _, c := range []struct {
		certificate string
		pairs       []ca.Pair
		token       string
		want        string // a status for each path; - when the handshake fails
	}{
		{"none", nil, "none", "401 401 401 401 401 401 401 401 401 200"},
		{"none", nil, "good", "401 401 401 401 401 401 401 200 401 200"},
		{"none", nil, "bad", "401 401 401 401 401 401 401 401 401 200"},
		{"good", []ca.Pair{good}, "none", "200 200 200 200 200 200 401 200 200 200"},
		{"good", []ca.Pair{good}, "good", "200 200 200 200 200 200 200 200 200 200"},
		{"good", []ca.Pair{good}, "bad", "200 200 200 200 200 200 401 200 200 200"},
		{"other names", []ca.Pair{partners.Sign([]string{"spiffe://acme.evil/x", "acme.example", "ops@acme.example.evil"}, ca.Of(pkix.Name{CommonName: "apay", Organization: []string{"Acme"}}))},
			"good", "200 403 403 403 403 200 403 200 200 200"},
		{"other names", []ca.Pair{partners.Sign([]string{"spiffe://acme", "evil-acme.example"}, ca.Of(pkix.Name{CommonName: "payments", Organization: []string{"acme"}}))},
			"none", "200 403 403 403 403 200 401 403 403 200"},
		{"the exact name", []ca.Pair{partners.Sign([]string{"EXACT.example"})}, "none", "200 403 200 403 403 200 401 403 403 200"},
		{"no names", []ca.Pair{partners.Sign(nil, ca.Of(acme))}, "none", "200 403 403 403 200 200 401 403 200 200"},
		{"names in the subject only", []ca.Pair{partners.Sign(nil, ca.Of(pkix.Name{CommonName: "spiffe://acme/payments"}))}, "none", "200 403 403 403 403 200 401 403 403 200"},
		{"unknown authority", []ca.Pair{strangers.Sign(all, ca.Of(acme))}, "good", refused},
		{"expired", []ca.Pair{partners.Sign(all, ca.Of(acme), ca.Expired)}, "good", refused},
		{"revoked", []ca.Pair{revoked}, "good", refused},
		{"for servers", []ca.Pair{partners.Sign(all, ca.Of(acme), ca.ForServers)}, "good", refused},
	} {
		for _, door := range []struct {
			name   string
			edge   *tlsEdge
			client func(...ca.Pair) *http.Client
		}{
			{"optional h1", optional, optional.client1}, {"optional h2", optional, optional.client}, {"optional h3", optional, optional.client3},
			{"required h1", required, required.client1}, {"required h2", required, required.client}, {"required h3", required, required.client3},
		} {
			t.Run(c.certificate+"/"+c.token+"/"+door.name, func(t *testing.T) {
				client, want := door.client(c.pairs...), strings.Fields(c.want)
				for i, path := range paths {
					resp, body, err := fetch(t, client, door.edge.url("/c/"+path), tokens[c.token]...)
					if c.want == refused || strings.HasPrefix(door.name, "required") && c.pairs == nil {
						if err == nil {
							t.Fatalf("the handshake was accepted: %d %s", resp.StatusCode, body)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if !strings.HasSuffix(door.name, fmt.Sprint("h", resp.ProtoMajor)) {
						t.Fatalf("%s answers", resp.Proto)
					}
					if fmt.Sprint(resp.StatusCode) != want[i] {
						t.Errorf("%s: %d, want %s: %s", path, resp.StatusCode, want[i], body)
					}
					if resp.StatusCode == 401 && resp.Header.Get("www-authenticate") == "" {
						t.Errorf("%s: no challenge", path)
					}
				}
			})
		}
		if c.pairs != nil {
			continue
		}
		for i, want := range strings.Fields(c.want) { // the plain listener
			if status, body, _ := optional.Get("/c/"+paths[i], append(tokens[c.token], "x-forwarded-client-cert", "URI=spiffe://acme/payments")...); fmt.Sprint(status) != want {
				t.Errorf("plain %s: %d, want %s: %s", paths[i], status, want, body)
			}
		}
	}
	// A listener that does not ask is shown none, whatever the client has: nothing that was not verified counts.
	for _, client := range []*http.Client{silent.client1(good), silent.client(good), silent.client3(good), silent.client3(revoked)} {
		resp, _, err := fetch(t, client, silent.url("/c/any"))
		if err != nil || resp.StatusCode != 401 {
			t.Errorf("at a listener that does not ask: %v %v", resp, err)
		}
	}
	for path, user := range map[string]string{
		"any": "spiffe://acme/payments", "uri": "spiffe://acme/payments", "dns": "pay.acme.example", "email": "ops@acme.example",
		"subject": "payments", "and": "alice", "claim": "spiffe://acme/payments",
	} {
		if _, body, _ := fetch(t, optional.client(good), optional.url("/c/"+path), tokens["good"]...); !strings.HasPrefix(body, "user="+user+" ") {
			t.Errorf("%s: the service saw %q", path, body)
		}
	}
	if _, body, _ := fetch(t, optional.client(good), optional.url("/c/or")); !strings.HasPrefix(body, "user=spiffe://acme/payments ") {
		t.Errorf("or, without a token: the service saw %q", body)
	}
}

// client1 is a client of HTTP/1.1.
func (e *tlsEdge) client1(pairs ...ca.Pair) *http.Client {
	c := e.client(pairs...)
	transport := c.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	return c
}

// A connection may outlive the certificate of its handshake.
func TestAuth_ACertificateThatExpiresOnALiveConnection(t *testing.T) {
	t.Parallel()
	idp, partners := newIssuer(t), newRevoking(t, "partners")
	optional, _ := startCertificates(t, partners, idp, &echoHeaders{})
	ends := time.Now().Add(5 * time.Second).Truncate(time.Second)
	client := optional.client(partners.Sign([]string{"spiffe://acme/payments"}, ca.Ends(ends)))
	resp, body, err := fetch(t, client, optional.url("/c/any"))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %s %v", resp, body, err)
	}
	gateway.Eventually(t, "the expired certificate counts as none", func() bool {
		resp, _, err = fetch(t, client, optional.url("/c/any"))
		return err == nil && resp.StatusCode == 401
	})
	if time.Now().Before(ends) {
		t.Error("it was refused before it expired")
	}
	if resp, _, err := fetch(t, client, optional.url("/c/open")); err != nil || resp.StatusCode != 200 {
		t.Errorf("the connection does not live: %v %v", resp, err)
	}
}
