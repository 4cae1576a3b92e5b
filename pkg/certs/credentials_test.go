package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// patience is how long an expected event is waited for: far longer than it ever takes.
const patience = 20 * time.Second

// site is a folder with an authority, and what one server and one client hold.
type site struct {
	t         *testing.T
	dir       string
	authority *certs.Authority
	log       *buffer
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir(), log: &buffer{}}
	var pair certs.Pair
	s.authority, pair = s.newAuthority()
	s.write("ca.crt", pair.CertificatePEM)
	s.revoke(nil)
	s.put("server", certs.Request{Hosts: []string{"127.0.0.1", "sluice.test"}})
	s.put("node", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}})
	return s
}

func (s *site) newAuthority() (*certs.Authority, certs.Pair) {
	s.t.Helper()
	a, pair, err := certs.NewAuthority("test", 365*24*time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return a, pair
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name+".new"), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path(name+".new"), s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) put(name string, r certs.Request) certs.Pair {
	s.t.Helper()
	if r.Lifetime == 0 {
		r.Lifetime = 90 * 24 * time.Hour
	}
	pair, err := s.authority.Issue(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name+".crt", pair.CertificatePEM)
	s.write(name+".key", pair.KeyPEM)
	return pair
}

func (s *site) revoke(c *x509.Certificate) {
	s.t.Helper()
	var text []byte
	var err error
	if c == nil {
		text, err = s.authority.Revoke(nil)
	} else {
		text, err = s.authority.Revoke(nil, c.SerialNumber)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("ca.crl", text)
}

func (s *site) open(name string) *certs.Credentials {
	s.t.Helper()
	c, err := certs.Open("test", s.files(name), slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) files(name string) certs.Files {
	return certs.Files{Certificate: s.path(name + ".crt"), Key: s.path(name + ".key"), CA: s.path("ca.crt"), CRL: s.path("ca.crl")}
}

// meet lets a client call a server, and gives what each says.
func meet(t *testing.T, server *certs.Credentials, auth tls.ClientAuthType, client *tls.Config) (seen tls.ConnectionState, atServer, atClient error) {
	t.Helper()
	config, err := server.ServerConfig(auth)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := lis.Accept()
		if err != nil {
			atServer = err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if atServer = conn.(*tls.Conn).Handshake(); atServer == nil {
			seen = conn.(*tls.Conn).ConnectionState()
			_, _ = conn.Write([]byte{1})
		}
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", lis.Addr().String(), client)
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a refusal comes after the handshake
		conn.Close()
	}
	<-done
	return seen, atServer, err
}

func TestCredentials_WhoMayMeet(t *testing.T) {
	s := newSite(t)
	s.put("other-node", certs.Request{Node: &certs.Node{Gateway: "shop"}})
	revoked := s.put("revoked", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e2"}})
	s.revoke(revoked.Certificate)
	own := s.authority
	s.authority, _ = s.newAuthority()
	s.put("stranger", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}})
	s.authority = own
	server := s.open("server")
	tests := []struct {
		name   string
		client func() *tls.Config
		auth   tls.ClientAuthType
		server *certs.Credentials
		fails  bool
	}{
		{"both prove themselves", func() *tls.Config { return s.open("node").ClientConfig("") }, tls.RequireAndVerifyClientCert, server, false},
		{"by name", func() *tls.Config { return s.open("node").ClientConfig("sluice.test") }, tls.RequireAndVerifyClientCert, server, false},
		{"by another name", func() *tls.Config { return s.open("node").ClientConfig("other.test") }, tls.RequireAndVerifyClientCert, server, true},
		{"no certificate", func() *tls.Config { return s.anonymous() }, tls.RequireAndVerifyClientCert, server, true},
		{"no certificate where none is needed", func() *tls.Config { return s.anonymous() }, tls.VerifyClientCertIfGiven, server, false},
		{"revoked", func() *tls.Config { return s.open("revoked").ClientConfig("") }, tls.RequireAndVerifyClientCert, server, true},
		{"revoked where none is needed", func() *tls.Config { return s.open("revoked").ClientConfig("") }, tls.VerifyClientCertIfGiven, server, true},
		{"of another authority", func() *tls.Config { return s.open("stranger").ClientConfig("") }, tls.RequireAndVerifyClientCert, server, true},
		{"a server's certificate as a client's", func() *tls.Config { return s.open("server").ClientConfig("") }, tls.RequireAndVerifyClientCert, server, true},
		{"a node as a server", func() *tls.Config { return s.open("node").ClientConfig("") }, tls.RequireAndVerifyClientCert, s.open("node"), true},
		{"an old protocol", func() *tls.Config {
			c := s.open("node").ClientConfig("")
			c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
			return c
		}, tls.RequireAndVerifyClientCert, server, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, atServer, atClient := meet(t, tt.server, tt.auth, tt.client())
			if failed := atServer != nil || atClient != nil; failed != tt.fails || tt.fails && atClient == nil {
				t.Errorf("server: %v; client: %v", atServer, atClient)
			}
		})
	}
}

// anonymous trusts the authority and has no certificate.
func (s *site) anonymous() *tls.Config {
	s.t.Helper()
	c, err := certs.Open("test", certs.Files{CA: s.path("ca.crt")}, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return c.ClientConfig("")
}

func (s *site) await(what string, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) { // between looks
		if time.Now().After(deadline) {
			s.t.Fatalf("never happened: %s\n%s", what, s.log)
		}
	}
}

func TestCredentials_FollowTheirFiles(t *testing.T) {
	s := newSite(t)
	server, node := s.open("server"), s.open("node")
	first := server.Own().SerialNumber
	seen, err, _ := meet(t, server, tls.RequireAndVerifyClientCert, node.ClientConfig(""))
	if err != nil {
		t.Fatal(err)
	}
	caller, err := server.Caller(seen)
	if err != nil {
		t.Fatal(err)
	}

	s.write("server.key", []byte("broken"))
	s.await("a problem", func() bool { _ = server.Own(); return server.Problem() != nil })
	if _, err, other := meet(t, server, tls.RequireAndVerifyClientCert, node.ClientConfig("")); err != nil || other != nil {
		t.Errorf("what was good last is not used: %v %v", err, other)
	}
	s.put("server", certs.Request{Hosts: []string{"127.0.0.1"}})
	s.await("the new certificate", func() bool { return server.Own().SerialNumber.Cmp(first) != 0 && server.Problem() == nil })
	if _, err, other := meet(t, server, tls.RequireAndVerifyClientCert, node.ClientConfig("")); err != nil || other != nil {
		t.Errorf("the new one is not used: %v %v", err, other)
	}

	if err := caller.Check(); err != nil {
		t.Error(err)
	}
	s.revoke(caller.Certificate)
	s.await("the caller's end", func() bool { return caller.Check() != nil })
	if _, err, _ := meet(t, server, tls.RequireAndVerifyClientCert, node.ClientConfig("")); err == nil {
		t.Error("what is revoked is let in")
	}
	s.revoke(nil)
	s.await("the caller's return", func() bool { return caller.Check() == nil })
	_, other := s.newAuthority()
	text, err := os.ReadFile(s.path("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("ca.crt", append(other.CertificatePEM, text...))
	s.await("two authorities", func() bool { return caller.Check() == nil && strings.Contains(s.log.String(), "authorities=2") })
	if err := os.Remove(s.path("ca.crl")); err != nil {
		t.Fatal(err)
	}
	s.await("a missing revocation list", func() bool { _ = server.Own(); return server.Problem() != nil })
	if strings.Contains(s.log.String(), "PRIVATE") {
		t.Error("a key is in the log")
	}
}

// TestCaller_EndsWithItsCertificate and not with its connection.
func TestCaller_EndsWithItsCertificate(t *testing.T) {
	s := newSite(t)
	s.put("node", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}, Lifetime: 2 * time.Second})
	server := s.open("server")
	seen, err, _ := meet(t, server, tls.RequireAndVerifyClientCert, s.open("node").ClientConfig(""))
	if err != nil {
		t.Fatal(err)
	}
	caller, err := server.Caller(seen)
	if err != nil {
		t.Fatal(err)
	}
	s.await("its end", func() bool { return caller.Check() != nil })
	if err := caller.Check(); !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
}

func TestOpen_SaysWhatCannotBeUsed(t *testing.T) {
	s := newSite(t)
	stranger, other := s.newAuthority()
	s.write("other.crt", other.CertificatePEM)
	foreign, err := stranger.Revoke(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.write("foreign.crl", foreign)
	s.write("empty", nil)
	good := s.files("server")
	tests := []struct {
		name   string
		change func(*certs.Files)
		want   string
	}{
		{"no key", func(f *certs.Files) { f.Key = "" }, "together"},
		{"nothing", func(f *certs.Files) { *f = certs.Files{} }, "neither"},
		{"a list without authorities", func(f *certs.Files) { f.CA = "" }, "means nothing"},
		{"no such file", func(f *certs.Files) { f.CA = "/nowhere" }, "/nowhere"},
		{"a folder", func(f *certs.Files) { f.CA = s.dir }, s.dir},
		{"another's key", func(f *certs.Files) { f.Key = s.path("node.key") }, "node.key"},
		{"an empty certificate", func(f *certs.Files) { f.Certificate = s.path("empty") }, "empty"},
		{"no authority", func(f *certs.Files) { f.CA = s.path("server.crt") }, "not an authority"},
		{"an empty list", func(f *certs.Files) { f.CRL = s.path("empty") }, "no revocation list in PEM"},
		{"a list of others", func(f *certs.Files) { f.CRL = s.path("foreign.crl") }, "signed by none of the authorities"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := good
			tt.change(&files)
			if _, err := certs.Open("test", files, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCollector(t *testing.T) {
	s := newSite(t)
	s.put("server", certs.Request{Hosts: []string{"a"}, Lifetime: 2 * 24 * time.Hour})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(certs.Collector(s.open("server")))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() / 86400
		}
	}
	if own := got["sluice_door_certificate_expiry_seconds test own"]; own < 1.9 || own > 2 {
		t.Errorf("own certificate: %v days", own)
	}
	if a := got["sluice_door_certificate_expiry_seconds test authority"]; a < 364 || a > 365 {
		t.Errorf("authority: %v days", a)
	}
	if v, ok := got["sluice_door_certificate_problem test"]; v != 0 || !ok {
		t.Errorf("problem: %v %v", v, ok)
	}
}

// BenchmarkCaller_Check is what each request of a node costs, and what its first one does.
func BenchmarkCaller_Check(b *testing.B) {
	authority, pair, err := certs.NewAuthority("test", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	put := func(name string, text []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			b.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	node, err := authority.Issue(certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}, Lifetime: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	known, err := certs.Open("test", certs.Files{CA: put("ca.crt", pair.CertificatePEM)}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	state := tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{node.Certificate}, VerifiedChains: [][]*x509.Certificate{{node.Certificate, pair.Certificate}},
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := known.Caller(state); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("next", func(b *testing.B) {
		caller, err := known.Caller(state)
		for b.Loop() {
			if err = caller.Check(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// buffer is written to and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
