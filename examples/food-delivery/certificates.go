package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// certificateLifetime is long enough for a demonstration.
const certificateLifetime = 30 * 24 * time.Hour

// signed is a certificate and its key.
type signed struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// writeCertificates makes in a folder what a gateway with TLS needs: edge.pem, its certificate and key, by the authority
// ca.pem; and partners.pem, the authority of the payment provider, whose own certificate and key are provider.pem. What is
// there is replaced.
func writeCertificates(folder string) error {
	provider := &url.URL{Scheme: "spiffe", Host: "provider.example", Path: "/payments"}
	ca, err := issue(authority("food-delivery example"), nil)
	if err != nil {
		return err
	}
	partners, err := issue(authority("food-delivery partners"), nil)
	if err != nil {
		return err
	}
	edge, err := issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, ca)
	if err != nil {
		return err
	}
	payments, err := issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "payments"}, URIs: []*url.URL{provider},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, partners)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		of   *signed
		key  bool
	}{{"ca.pem", ca, false}, {"partners.pem", partners, false}, {"edge.pem", edge, true}, {"provider.pem", payments, true}} {
		if err := f.of.write(filepath.Join(folder, f.name), f.key); err != nil {
			return err
		}
	}
	return nil
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// issue signs a certificate by an authority, or by itself.
func issue(template *x509.Certificate, by *signed) (*signed, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	out := &signed{template, key}
	if by == nil {
		by = out
	}
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = template.NotBefore.Add(certificateLifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", template.Subject, err)
	}
	out.cert, err = x509.ParseCertificate(der)
	return out, err
}

// write writes the certificate, and its key behind it where that is wanted: then the file is its owner's only.
func (s *signed) write(path string, withKey bool) error {
	var text bytes.Buffer
	mode := os.FileMode(0o644)
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw}); err != nil {
		return err
	}
	if withKey {
		der, err := x509.MarshalPKCS8PrivateKey(s.key)
		if err != nil {
			return err
		}
		if err := pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			return err
		}
		mode = 0o600
	}
	return os.WriteFile(path, text.Bytes(), mode)
}
