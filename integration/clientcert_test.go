package integration

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// revoking is an authority of clients with a revocation list, in files.
type revoking struct {
	*ca.Authority
	t         *testing.T
	pem, list string
}

func newRevoking(t *testing.T, name string) *revoking {
	dir := t.TempDir()
	a := &revoking{ca.New(t, name), t, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.crl")}
	ca.Write(t, a.pem, a.PEM)
	a.revoke(time.Now().Add(24 * time.Hour))
	return a
}

func (a *revoking) revoke(until time.Time, revoked ...ca.Pair) {
	a.t.Helper()
	ca.Write(a.t, a.list, a.Revoke(until, revoked...))
}

func (a *revoking) policy() string {
	return strings.NewReplacer("$PEM", a.pem, "$LIST", a.list).Replace(`
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: partners}
spec: {ca: {file: $PEM}, crl: {file: $LIST}}
`)
}

// passes tells whether a new connection with this certificate, or none, is let in.
func (e *tlsEdge) passes(pairs ...ca.Pair) bool {
	c := e.client(pairs...)
	defer c.CloseIdleConnections()
	_, _, err := fetch(e.t, c, e.url("/"))
	return err == nil
}

func TestClientCertificate_ARevokedOneIsRefused(t *testing.T) {
	t.Parallel()
	partners := newRevoking(t, "partners")
	good, other := partners.Sign([]string{"good.example"}), partners.Sign([]string{"other.example"})
	e := startTLS(t, ", clientCA: partners", "", partners.policy())
	if !e.passes(good) || !e.passes(other) {
		t.Fatal("a certificate that is not revoked does not pass")
	}
	live := e.client(other)
	before, _, err := fetch(t, live, e.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	partners.revoke(time.Now().Add(24*time.Hour), other)
	gateway.Eventually(t, "the list holds", func() bool { return !e.passes(other) })
	if !e.passes(good) {
		t.Error("one that is not on the list does not pass")
	}
	// A list holds for handshakes: the live connection stays.
	if after, _, err := fetch(t, live, e.url("/")); err != nil || after.StatusCode != before.StatusCode {
		t.Errorf("the live connection: %v %v", after, err)
	}
	if n := e.counter("listener_manager.listener_modified"); n != "0" {
		t.Errorf("a new list changed a listener: %s", n)
	}
	partners.revoke(time.Now().Add(24 * time.Hour))
	gateway.Eventually(t, "one that is taken off the list passes again", func() bool { return e.passes(other) })
}

func (e *tlsEdge) counter(name string) string {
	for line := range strings.Lines(e.Admin("/stats?filter=" + name)) {
		if n, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && n == name {
			return value
		}
	}
	return ""
}

// An authority whose list is out of date: nobody knows what it has revoked since.
func TestClientCertificate_AnOutdatedListLetsNobodyIn(t *testing.T) {
	t.Parallel()
	partners := newRevoking(t, "partners")
	good := partners.Sign([]string{"good.example"})
	partners.revoke(time.Now().Add(-time.Minute))
	e := startTLS(t, ", clientCA: partners, clientCertificate: optional", "", partners.policy())
	if e.passes(good) {
		t.Error("a certificate passes by an outdated list")
	}
	if !e.passes() {
		t.Error("one without a certificate does not pass an optional listener")
	}
	partners.revoke(time.Now().Add(time.Hour))
	gateway.Eventually(t, "the certificate passes by a list of now", func() bool { return e.passes(good) })
	// An older list that comes by mistake takes nothing away.
	partners.revoke(time.Now().Add(-time.Hour))
	gateway.Eventually(t, "the problem is told", func() bool { return strings.Contains(e.problem("partners"), "expired already") })
	if !e.passes(good) {
		t.Error("the good list is not used any more")
	}
}

func TestClientCertificate_OneForServersIsRefused(t *testing.T) {
	t.Parallel()
	partners := newRevoking(t, "partners")
	e := startTLS(t, ", clientCA: partners, clientCertificate: optional", "", partners.policy())
	if e.passes(partners.Sign([]string{"server.example"}, ca.ForServers)) {
		t.Error("a certificate for servers passes as a client's")
	}
}

// A session that is resumed shows no certificate: what is expired or revoked since would pass.
func TestClientCertificate_NoSessionIsResumed(t *testing.T) {
	t.Parallel()
	partners := newRevoking(t, "partners")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, asked := range []bool{false, true} {
			spec, more := "", ""
			if asked {
				spec, more = ", clientCA: partners, clientCertificate: optional", partners.policy()
			}
			e := startTLS(t, spec, "", more)
			c := e.client(partners.Sign([]string{"good.example"}))
			transport := c.Transport.(*http.Transport)
			transport.TLSClientConfig.MaxVersion = version
			transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(10)
			resumed := false
			for range 3 {
				resp, _, err := fetch(t, c, e.url("/"))
				if err != nil {
					t.Fatal(err)
				}
				resumed = resp.TLS.DidResume
				c.CloseIdleConnections()
			}
			if resumed == asked {
				t.Errorf("TLS %x: asked for a certificate %t, resumed %t", version, asked, resumed)
			}
		}
	}
}

// What a client says of its certificate in a header never reaches a service, with and without a certificate.
func TestClientCertificate_ForgedHeadersNeverReachAService(t *testing.T) {
	t.Parallel()
	partners, service := newRevoking(t, "partners"), &echoHeaders{}
	for _, forward := range []string{"false", "true"} {
		e := startTLS(t, ", clientCA: partners, clientCertificate: optional, forwardClientCertificate: "+forward, "",
			partners.policy()+spyOn(gateway.Backend(t, service)))
		good := partners.Sign([]string{"good.example"})
		for _, name := range []string{"x-forwarded-client-cert", "X-Forwarded-Client-Cert", "X-FORWARDED-CLIENT-CERT", "x_forwarded_client_cert", "X-Forwarded_Client-Cert"} {
			for _, value := range []string{"Hash=0;Subject=\"CN=forged\"", "forged", "a, forged", "By=x;URI=spiffe://forged"} {
				for _, pairs := range [][]ca.Pair{nil, {good}} {
					service.seen.Store(nil)
					_, _, err := fetch(t, e.client(pairs...), e.url("/spy"), name, value)
					if reset := strings.Contains(name, "_"); reset != (err != nil) {
						t.Fatalf("%s: %v", name, err)
					}
					e.Get("/spy", name, value)
					if seen := service.seen.Load(); seen != nil && strings.Contains(strings.Join(seen.Values("x-forwarded-client-cert"), ","), "forged") {
						t.Errorf("%s: %q reached the service: %v", name, value, *seen)
					}
				}
			}
		}
		if _, _, err := fetch(t, e.client(good), e.url("/spy")); err != nil {
			t.Fatal(err)
		}
		if told := service.seen.Load().Get("x-forwarded-client-cert") != ""; told != (forward == "true") {
			t.Errorf("forwardClientCertificate: %s, but told %t", forward, told)
		}
	}
}

func spyOn(backend string) string {
	return `
---
apiVersion: sluice/v1
kind: Service
metadata: {name: spy}
spec: {endpoints: ["` + backend + `"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: spy}
spec: {match: /spy, to: spy}
`
}

// A control plane that starts without the authorities serves all else. The listeners that need them wait for them: they
// let nobody in, also where a certificate is optional, instead of letting in whom they cannot judge.
func TestClientCertificate_WithoutTheAuthoritiesNobodyComesIn(t *testing.T) {
	t.Parallel()
	partners, public, dir := newRevoking(t, "partners"), ca.New(t, "public"), t.TempDir()
	public.Sign([]string{"api.example", "127.0.0.1"}).Write(t, dir, "api")
	doors := map[string]*tlsEdge{}
	policies := strings.ReplaceAll(`
apiVersion: sluice/v1
kind: Certificate
metadata: {name: api-cert}
spec: {certificate: {file: $DIR/api.crt}, key: {file: $DIR/api.key}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: all}
spec: {direct: {body: served}}
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners:
`, "$DIR", dir)
	for _, kind := range []string{"required", "optional"} {
		doors[kind] = &tlsEdge{t: t, port: gateway.FreePort(t), ca: public}
		policies += fmt.Sprintf("    - {name: %s, address: 127.0.0.1, port: %d, tls: {certificate: api-cert, clientCA: partners, clientCertificate: %s, http3: true}}\n", kind, doors[kind].port, kind)
	}
	ca.Write(t, filepath.Join(dir, "edge.yaml"), []byte(policies+partners.policy()))
	s := startServed(t)
	if out, code := s.run("apply", "-f", filepath.Join(dir, "edge.yaml")); code != 0 {
		t.Fatal(out)
	}
	s.kill()
	if err := os.Rename(partners.pem, partners.pem+".away"); err != nil {
		t.Fatal(err)
	}
	s.start()
	startEnvoyOf(t, "e1", s)
	good, stranger := partners.Sign([]string{"good.example"}), ca.New(t, "strangers").Sign([]string{"good.example"})
	comesIn := func(kind string, client func(...ca.Pair) *http.Client, pairs ...ca.Pair) bool {
		c := client(pairs...)
		defer c.CloseIdleConnections()
		_, _, err := fetch(t, c, doors[kind].url("/"))
		return err == nil
	}
	for kind, e := range doors {
		for name, client := range map[string]func(...ca.Pair) *http.Client{"h2": e.client, "h3": e.client3} {
			if comesIn(kind, client) || comesIn(kind, client, good) || comesIn(kind, client, stranger) {
				t.Errorf("%s over %s: somebody comes in", kind, name)
			}
		}
	}
	if err := os.Rename(partners.pem+".away", partners.pem); err != nil {
		t.Fatal(err)
	}
	for kind, e := range doors {
		for name, client := range map[string]func(...ca.Pair) *http.Client{"h2": e.client, "h3": e.client3} {
			gateway.Eventually(t, kind+" over "+name+": a good client comes in", func() bool { return comesIn(kind, client, good) })
			if comesIn(kind, client, stranger) || comesIn(kind, client) != (kind == "optional") {
				t.Errorf("%s over %s: the wrong client comes in, or the right one does not", kind, name)
			}
		}
	}
}

// Envoy asks the lists about every certificate on the way to the root.
func TestClientCertificate_AuthoritiesInTheMiddle(t *testing.T) {
	t.Parallel()
	root := newRevoking(t, "root")
	middle := root.Below("middle")
	leaf := middle.Sign([]string{"good.example"})
	until := time.Now().Add(time.Hour)
	write := func(authorities, lists []byte) {
		ca.Write(t, root.list, lists)
		ca.Write(t, root.pem, authorities)
	}
	both := slices.Concat(root.PEM, middle.PEM)
	write(both, slices.Concat(root.Revoke(until), middle.Revoke(until)))
	e := startTLS(t, ", clientCA: partners, http3: true", "", root.policy())
	over3 := func(pairs ...ca.Pair) bool {
		client := e.client3(pairs...)
		defer client.CloseIdleConnections()
		_, _, err := fetch(t, client, e.url("/"))
		return err == nil
	}
	passes := func(p ca.Pair) bool {
		passes := e.passes(p)
		if over3(p) != passes {
			t.Errorf("over TCP it passes: %t, over HTTP/3 not the same", passes)
		}
		return passes
	}
	if !passes(leaf) || !passes(leaf.Through(middle)) {
		t.Error("what nobody has revoked does not pass")
	}
	ca.Write(t, root.list, slices.Concat(root.Revoke(until), middle.Revoke(until, leaf)))
	gateway.Eventually(t, "the list of the one in the middle holds", func() bool { return !e.passes(leaf.Through(middle)) && !over3(leaf.Through(middle)) })
	ca.Write(t, root.list, slices.Concat(root.Revoke(until, middle.Own()), middle.Revoke(until)))
	other := middle.Sign([]string{"other.example"})
	gateway.Eventually(t, "the list is read", func() bool { return e.problem("partners") == "" && !e.passes(other) && !over3(other) })
	ca.Write(t, root.list, root.Revoke(until))
	gateway.Eventually(t, "a list is missing, and that is told", func() bool { return strings.Contains(e.problem("partners"), `none of "middle"`) })
	if passes(leaf) {
		t.Error("the last good list holds no more")
	}
	ca.Write(t, root.list, slices.Concat(root.Revoke(until), middle.Revoke(until)))
	gateway.Eventually(t, "both are good again", func() bool { return e.passes(leaf) && over3(leaf) })
}
