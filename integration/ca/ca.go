// Package ca makes certificates for tests: an authority of a test's own, and what it signs.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its certificate.
	PEM []byte
}

// New is a new authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t}
	a.cert, a.key = a.sign(authority(name))
	a.PEM = certificatePEM(a.cert)
	return a
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// Below is an authority that this one has signed.
func (a *Authority) Below(name string) *Authority {
	a.t.Helper()
	sub := &Authority{t: a.t}
	sub.cert, sub.key = a.sign(authority(name))
	sub.PEM = certificatePEM(sub.cert)
	return sub
}

// Own is the authority's certificate, without its key.
func (a *Authority) Own() Pair { return Pair{Certificate: a.cert, CertificatePEM: a.PEM} }

// Revoke is the authority's list of what it has revoked, as PEM, which is up to date until a time.
func (a *Authority) Revoke(until time.Time, revoked ...Pair) []byte {
	a.t.Helper()
	form := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-24 * time.Hour), NextUpdate: until}
	for _, p := range revoked {
		form.RevokedCertificateEntries = append(form.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: p.Certificate.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, form, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Pair is a certificate and its key.
type Pair struct {
	Certificate *x509.Certificate
	// CertificatePEM and KeyPEM are what files hold.
	CertificatePEM, KeyPEM []byte
}

// Option changes what is signed.
type Option func(*x509.Certificate)

// Expired makes it end an hour ago.
func Expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
}

// Of makes it that of a person or machine: subject fields instead of the first name.
func Of(subject pkix.Name) Option { return func(c *x509.Certificate) { c.Subject = subject } }

// Ends makes it end then.
func Ends(at time.Time) Option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), at }
}

// ForServers is a certificate that clients may not use.
func ForServers(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }

// Sign makes a certificate for names: hosts, addresses, e-mail addresses or URIs. Servers and clients may use it.
func (a *Authority) Sign(names []string, with ...Option) Pair {
	a.t.Helper()
	form := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) > 0 {
		form.Subject.CommonName = names[0]
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			form.IPAddresses = append(form.IPAddresses, ip)
		} else if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			form.URIs = append(form.URIs, u)
		} else if strings.Contains(name, "@") {
			form.EmailAddresses = append(form.EmailAddresses, name)
		} else {
			form.DNSNames = append(form.DNSNames, name)
		}
	}
	for _, set := range with {
		set(form)
	}
	cert, key := a.sign(form)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{cert, certificatePEM(cert), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// sign signs with the authority's key; an authority's own certificate with itself.
func (a *Authority) sign(form *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if form.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100)); err != nil {
		a.t.Fatal(err)
	}
	if form.NotAfter.IsZero() {
		form.NotBefore, form.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = form, key
	}
	der, err := x509.CreateCertificate(rand.Reader, form, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// Through shows the authority in the middle, too.
func (p Pair) Through(middle *Authority) Pair {
	p.CertificatePEM = slices.Concat(p.CertificatePEM, middle.PEM)
	return p
}

// TLS is the pair as Go's own TLS takes it.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	out, err := tls.X509KeyPair(p.CertificatePEM, p.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Write puts the pair into dir as NAME.crt and NAME.key, each in one step.
func (p Pair) Write(t testing.TB, dir, name string) {
	t.Helper()
	Write(t, filepath.Join(dir, name+".crt"), p.CertificatePEM)
	Write(t, filepath.Join(dir, name+".key"), p.KeyPEM)
}

// Write puts a file in its place in one step, as a rotation does.
func Write(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
