package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/certs"
)

// secured is a site that runs with TLS, and a browser that holds a client certificate for it.
type secured struct {
	*site
	authority *certs.Authority
	client    certs.Pair
	crl       string
	base      string
	browser   *http.Client
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	authority, ca, err := certs.NewAuthority("ours", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server, failed := authority.Issue(certs.Request{Hosts: []string{"127.0.0.1", "sluice.internal"}, Lifetime: time.Minute * 30})
	client, err := authority.Issue(certs.Request{Client: &certs.Client{Role: access.Apply, Name: "anna"}, Lifetime: time.Minute * 30})
	list, noList := authority.Revoke(nil)
	own, noPair := tls.X509KeyPair(client.CertificatePEM, client.KeyPEM)
	if err := errors.Join(err, failed, noList, noPair); err != nil {
		t.Fatal(err)
	}
	s := &secured{authority: authority, client: client, crl: write("crl.pem", list)}
	credentials, err := certs.Open("admin", certs.Files{
		Certificate: write("server.pem", server.CertificatePEM), Key: write("server.key", server.KeyPEM), CA: write("ca.pem", ca.CertificatePEM), CRL: s.crl,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.site = newSite(t, func(c *admin.Config) {
		c.Credentials, c.Access = credentials, access.New(access.Config{Certificates: credentials})
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	s.browser = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, ForceAttemptHTTP2: true}}
	s.base = s.run(t)
	return s
}

// run serves until the test ends, and gives the address.
func (s *secured) run(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, lis) }()
	t.Cleanup(func() {
		s.browser.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "https://" + lis.Addr().String()
}

func (s *secured) get(t *testing.T, path string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", s.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	resp, err := s.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only how it went counts
	return resp
}

// TestABrowserWithACertificate: the browser shows it to us whichever page asks.
func TestABrowserWithACertificate(t *testing.T) {
	s := newSecured(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	own := strings.TrimPrefix(s.base, "https://")
	for _, c := range []struct {
		name   string
		change []func(*http.Request)
		want   int
	}{
		{"the address typed in", []func(*http.Request){header("sec-fetch-site", "none")}, 200},
		{"our own page", []func(*http.Request){header("origin", "https://"+own), header("sec-fetch-site", "same-origin")}, 200},
		{"a name of the certificate", []func(*http.Request){func(r *http.Request) { r.Host = "sluice.internal:18080" }}, 200},
		{"a page of ours without TLS", []func(*http.Request){header("origin", "http://"+own)}, 403},
		{"a page of a name of ours", []func(*http.Request){header("origin", "https://sluice.internal")}, 403},
		{"a foreign page", []func(*http.Request){header("origin", "https://evil.example")}, 403},
		{"a foreign image", []func(*http.Request){header("sec-fetch-site", "cross-site")}, 403},
		{"a name that was bound to us", []func(*http.Request){func(r *http.Request) { r.Host = "evil.example" }}, 421},
		{"such a name, and its page", []func(*http.Request){func(r *http.Request) { r.Host = "evil.example" }, header("origin", "https://evil.example")}, 421},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := s.get(t, "/v1/objects", c.change...)
			if resp.StatusCode != c.want || resp.ProtoMajor != 2 {
				t.Errorf("%d by %s", resp.StatusCode, resp.Proto)
			}
		})
	}
}

// TestACertificateIsRevokedMeanwhile: the connection is open already.
func TestACertificateIsRevokedMeanwhile(t *testing.T) {
	s := newSecured(t)
	if resp := s.get(t, "/v1/objects"); resp.StatusCode != 200 {
		t.Fatalf("before: %d", resp.StatusCode)
	}
	list, err := s.authority.Revoke(nil, s.client.Certificate.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.crl, list, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := s.browser.Get(s.base + "/v1/objects")
		if err == nil {
			resp.Body.Close()
		}
		if err != nil || resp.StatusCode == http.StatusUnauthorized {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after: %d", resp.StatusCode)
		}
	}
}
