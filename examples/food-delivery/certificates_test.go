package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificates_AreWhatGatewayAndProviderNeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	for range 2 { // the second replaces the first
		if err := run(t.Context(), []string{"-certificates", dir}, io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, cert, authority, host string
		usage                       x509.ExtKeyUsage
		holds                       bool
	}{
		{"the gateway to its clients", "edge.pem", "ca.pem", "localhost", x509.ExtKeyUsageServerAuth, true},
		{"the gateway under another name", "edge.pem", "ca.pem", "example.com", x509.ExtKeyUsageServerAuth, false},
		{"the provider to the gateway", "provider.pem", "partners.pem", "", x509.ExtKeyUsageClientAuth, true},
		{"the provider by another authority", "provider.pem", "ca.pem", "", x509.ExtKeyUsageClientAuth, false},
		{"the provider as a server", "provider.pem", "partners.pem", "", x509.ExtKeyUsageServerAuth, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, c.cert)
			pair, err := tls.LoadX509KeyPair(path, path)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(dir, c.authority))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(text)
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.usage}}); (err == nil) != c.holds {
				t.Errorf("verifies: %v, want %v", err, c.holds)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s holds a key: %v (%v)", c.cert, info.Mode(), err)
			}
		})
	}
}
