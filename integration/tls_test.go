package integration

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/control"
)

// tlsEdge is a gateway with a TLS listener, beside a plain one that may say more.
type tlsEdge struct {
	*gateway.Gateway
	t    *testing.T
	dir  string
	port int
	ca   *ca.Authority
	text string
}

// startTLS serves echo through a TLS listener with certificates for api.example and, by server name, shop.example.
func startTLS(t *testing.T, tlsSpec, plainSpec string, more string) *tlsEdge {
	t.Helper()
	e := &tlsEdge{t: t, dir: t.TempDir(), port: gateway.FreePort(t), ca: ca.New(t, "public")}
	e.ca.Sign([]string{"api.example", "127.0.0.1"}).Write(t, e.dir, "api")
	e.ca.Sign([]string{"*.shop.example"}).Write(t, e.dir, "shop")
	e.text = strings.NewReplacer("$DIR", e.dir, "$TLS", tlsSpec, "$PLAIN", plainSpec, "$SECURE", strconv.Itoa(e.port), "$BACKEND", gateway.Echo(t, "one")).Replace(`
apiVersion: sluice/v1
kind: Certificate
metadata: {name: api-cert}
spec: {certificate: {file: $DIR/api.crt}, key: {file: $DIR/api.key}}
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: shop-cert}
spec: {certificate: {file: $DIR/shop.crt}, key: {file: $DIR/shop.key}}
---
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners:
    - {name: http, port: $PORT$PLAIN}
    - {name: https, port: $SECURE, tls: {certificates: [api-cert, shop-cert]$TLS}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: one}
spec: {endpoints: ["$BACKEND"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: all}
spec: {to: one}
`) + strings.ReplaceAll(more, "$DIR", e.dir)
	e.Gateway = gateway.Start(t, map[string]string{"edge.yaml": e.text})
	return e
}

// dial shakes hands.
func (e *tlsEdge) dial(c *tls.Config) (*tls.Conn, error) {
	c.RootCAs = e.ca.Pool()
	return tls.DialWithDialer(&net.Dialer{Timeout: gateway.Patience}, "tcp", "127.0.0.1:"+strconv.Itoa(e.port), c)
}

// shown is the certificate that a client gets that asks for a name.
func (e *tlsEdge) shown(name string) *x509.Certificate {
	e.t.Helper()
	conn, err := e.dial(&tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// clientTLS asks for api.example, with a certificate or none.
func (e *tlsEdge) clientTLS(pairs ...ca.Pair) *tls.Config {
	config := &tls.Config{ServerName: "api.example", RootCAs: e.ca.Pool()}
	for _, p := range pairs {
		own := p.TLS(e.t)
		// Whatever authorities the server asks for: a client with a wrong one must be tried too.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return config
}

// client asks api.example, with a certificate or none.
func (e *tlsEdge) client(pairs ...ca.Pair) *http.Client {
	transport := &http.Transport{TLSClientConfig: e.clientTLS(pairs...), ForceAttemptHTTP2: true}
	e.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: gateway.Patience}
}

func (e *tlsEdge) url(path string) string { return fmt.Sprintf("https://127.0.0.1:%d%s", e.port, path) }

func fetch(t *testing.T, c *http.Client, url string, headers ...string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestTLS_ServerNameChoosesTheCertificate(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", "", "")
	for name, want := range map[string]string{
		"api.example": "api.example", "www.shop.example": "*.shop.example", "other.example": "api.example", "": "api.example",
	} {
		if got := e.shown(name).DNSNames; got[0] != want {
			t.Errorf("asked for %q, shown %v", name, got)
		}
	}
}

func TestTLS_VersionsAndProtocols(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", "", "")
	tests := []struct {
		name      string
		config    *tls.Config
		version   uint16 // 0: refused
		protocols string
	}{
		{"1.1 is refused", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, ""},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12, ""},
		{"1.3", &tls.Config{}, tls.VersionTLS13, ""},
		{"1.2 without forward secrecy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, 0, ""},
		{"1.2 with CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, 0, ""},
		{"h2 before http/1.1", &tls.Config{NextProtos: []string{"http/1.1", "h2"}}, tls.VersionTLS13, "h2"},
		{"http/1.1 alone", &tls.Config{NextProtos: []string{"http/1.1"}}, tls.VersionTLS13, "http/1.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.ServerName = "api.example"
			conn, err := e.dial(tt.config)
			if tt.version == 0 {
				if err == nil {
					conn.Close()
					t.Fatal("the handshake was accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if s := conn.ConnectionState(); s.Version != tt.version || s.NegotiatedProtocol != tt.protocols {
				t.Errorf("version %x, protocol %q", s.Version, s.NegotiatedProtocol)
			}
		})
	}
	resp, body, err := fetch(t, e.client(), e.url("/x"))
	if err != nil || resp.ProtoMajor != 2 || body != "one /x" {
		t.Errorf("%v %v %q", resp, err, body)
	}
}

func TestTLS_From13(t *testing.T) {
	t.Parallel()
	e := startTLS(t, `, minVersion: "1.3"`, "", "")
	if conn, err := e.dial(&tls.Config{ServerName: "api.example", MaxVersion: tls.VersionTLS12}); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if _, body, err := fetch(t, e.client(), e.url("/")); err != nil || body != "one /" {
		t.Errorf("%q %v", body, err)
	}
}

func TestTLS_PlainListenerRedirects(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", ", redirectToTLS: true", "")
	status, _, header := e.Do(http.MethodPost, "/orders/7?a=b", strings.NewReader("x"), "host", "api.example:8080")
	want := fmt.Sprintf("https://api.example:%d/orders/7?a=b", e.port)
	if status != http.StatusPermanentRedirect || header.Get("location") != want {
		t.Errorf("%d %q, want %q", status, header.Get("location"), want)
	}
	if resp, body, err := fetch(t, e.client(), e.url("/orders/7")); err != nil || resp.StatusCode != 200 || body != "one /orders/7" {
		t.Errorf("the TLS listener: %v %q %v", resp, body, err)
	}
	e.text = strings.Replace(e.text, "redirectToTLS: true", "redirectToTLS: 443", 1)
	if err := e.Apply(map[string]string{"edge.yaml": e.text}); err != nil {
		t.Fatal(err)
	}
	gateway.Eventually(t, "the redirect names no port", func() bool {
		_, _, header := e.Get("/a", "host", "api.example")
		return header.Get("location") == "https://api.example/a"
	})
}

const partners = `
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: partners}
spec: {ca: {file: $PARTNERS}}
`

func TestTLS_ClientCertificates(t *testing.T) {
	t.Parallel()
	authority, unknown := ca.New(t, "partners"), ca.New(t, "strangers")
	file := filepath.Join(t.TempDir(), "partners.pem")
	ca.Write(t, file, authority.PEM)
	names := []string{"partner.example", "spiffe://acme/partner"}
	clients := []struct {
		name     string
		pairs    []ca.Pair
		required bool // passes where one is required
		optional bool // passes where one is optional
	}{
		{"none", nil, false, true},
		{"good", []ca.Pair{authority.Sign(names)}, true, true},
		{"unknown authority", []ca.Pair{unknown.Sign(names)}, false, false},
		{"expired", []ca.Pair{authority.Sign(names, ca.Expired)}, false, false},
	}
	for _, kind := range []string{"required", "optional"} {
		e := startTLS(t, ", clientCA: partners, clientCertificate: "+kind, "", strings.ReplaceAll(partners, "$PARTNERS", file))
		for _, c := range clients {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				resp, _, err := fetch(t, e.client(c.pairs...), e.url("/"), "x-forwarded-client-cert", "Subject=forged")
				if passes := kind == "required" && c.required || kind == "optional" && c.optional; passes != (err == nil) {
					t.Fatalf("%v %v", resp, err)
				}
			})
		}
	}
}

func TestTLS_ServicesLearnWhoseCertificate(t *testing.T) {
	t.Parallel()
	authority := ca.New(t, "partners")
	file := filepath.Join(t.TempDir(), "partners.pem")
	ca.Write(t, file, authority.PEM)
	seen := make(chan string, 10)
	backend := gateway.Backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("x-forwarded-client-cert") }))
	more := strings.ReplaceAll(partners, "$PARTNERS", file) + spyOn(backend)
	e := startTLS(t, ", clientCA: partners, clientCertificate: optional, forwardClientCertificate: true", "", more)
	forged := []string{"x-forwarded-client-cert", "Hash=1;Subject=forged"}
	if _, _, err := fetch(t, e.client(authority.Sign([]string{"partner.example", "spiffe://acme/partner"})), e.url("/spy"), forged...); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; !strings.Contains(got, "URI=spiffe://acme/partner") || !strings.Contains(got, "DNS=partner.example") || strings.Contains(got, "forged") {
		t.Errorf("with a certificate: %q", got)
	}
	if _, _, err := fetch(t, e.client(), e.url("/spy"), forged...); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "" {
		t.Errorf("without a certificate: %q", got)
	}
	e.Get("/spy", forged...)
	if got := <-seen; got != "" {
		t.Errorf("on the plain listener: %q", got)
	}
}

func TestTLS_MissingAndInlineSecretsAreNamed(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", "", "")
	text := strings.Replace(e.text, "/api.key", "/gone.key", 1)
	err := e.Apply(map[string]string{"edge.yaml": text})
	var problems *control.Problems
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), "gone.key") || !strings.Contains(err.Error(), "edge.yaml:2") {
		t.Errorf("got %v", err)
	}
	if resp, _, err := fetch(t, e.client(), e.url("/")); err != nil || resp.StatusCode != 200 {
		t.Errorf("what was served is not served any more: %v %v", resp, err)
	}
}

// secure is a service that speaks TLS alone.
func secure(t *testing.T, server ca.Pair, clients *x509.CertPool) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "sni=%s client=%d", r.TLS.ServerName, len(r.TLS.PeerCertificates))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS(t)}}
	if clients != nil {
		s.TLS.ClientCAs, s.TLS.ClientAuth = clients, tls.RequireAndVerifyClientCert
	}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestTLS_Services(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	internal, strangers := ca.New(t, "internal"), ca.New(t, "strangers")
	ca.Write(t, filepath.Join(dir, "internal.pem"), internal.PEM)
	ca.Write(t, filepath.Join(dir, "strangers.pem"), strangers.PEM)
	internal.Sign([]string{"gateway.internal"}).Write(t, dir, "gateway")
	server := internal.Sign([]string{"orders.internal", "127.0.0.1", "spiffe://food/orders"})
	plain, mutual := secure(t, server, nil), secure(t, server, internal.Pool())
	wildcard := secure(t, internal.Sign([]string{"*.internal"}), nil)
	tests := []struct {
		name, endpoint, tls string
		status              int
		body                string
	}{
		{"name", plain, "{ca: internal, sni: orders.internal}", 200, "sni=orders.internal client=0"},
		{"wrong-name", plain, "{ca: internal, sni: payments.internal}", 503, ""},
		{"sans", plain, `{ca: internal, sans: ["spiffe://food/orders"]}`, 200, "sni= client=0"},
		{"address", plain, `{ca: internal, sans: [127.0.0.1]}`, 200, "sni= client=0"},
		{"wrong-sans", plain, `{ca: internal, sni: orders.internal, sans: ["spiffe://food/payments"]}`, 503, ""},
		{"unknown-ca", plain, "{ca: strangers, sni: orders.internal}", 503, ""},
		{"system-roots", plain, "{sni: orders.internal}", 503, ""},
		{"own-roots-file", plain, "{systemRoots: " + dir + "/internal.pem, sni: orders.internal}", 200, "sni=orders.internal client=0"},
		{"wildcard", wildcard, "{ca: internal, sni: orders.internal}", 200, "sni=orders.internal client=0"},
		{"mutual", mutual, "{ca: internal, sni: orders.internal, certificate: gateway}", 200, "sni=orders.internal client=1"},
		{"mutual-without", mutual, "{ca: internal, sni: orders.internal}", 503, ""},
	}
	text := strings.ReplaceAll(`
apiVersion: sluice/v1
kind: Certificate
metadata: {name: internal}
spec: {ca: {file: $DIR/internal.pem}}
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: strangers}
spec: {ca: {file: $DIR/strangers.pem}}
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: gateway}
spec: {certificate: {file: $DIR/gateway.crt}, key: {file: $DIR/gateway.key}}
`, "$DIR", dir)
	for _, tt := range tests {
		text += fmt.Sprintf(`---
apiVersion: sluice/v1
kind: Service
metadata: {name: %[1]s}
spec: {endpoints: ["%[2]s"], tls: %[3]s}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: %[1]s}
spec: {match: /%[1]s, to: %[1]s}
`, tt.name, tt.endpoint, tt.tls)
	}
	g := gateway.Start(t, map[string]string{"services.yaml": text})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body, _ := g.Get("/" + tt.name)
			if status != tt.status || tt.status == 200 && body != tt.body {
				t.Errorf("%d %q, want %d %q", status, body, tt.status, tt.body)
			}
		})
	}
}
