package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
)

// skew is how far before now a certificate begins: clocks differ.
const skew = 5 * time.Minute

// Authority signs certificates.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// Pair is a certificate and its key, as they stand in files.
type Pair struct {
	Certificate            *x509.Certificate
	CertificatePEM, KeyPEM []byte
}

// Request is what a certificate is to say: exactly one of Hosts, Node and Client.
type Request struct {
	// Hosts are the names and addresses that a server is reached at.
	Hosts []string
	// Node is an Envoy with its agent.
	Node *Node
	// Client is somebody who calls the admin API.
	Client *Client
	// Lifetime is how long it is good.
	Lifetime time.Duration
}

// NewAuthority makes an authority with a new key, and the pair to keep of it.
func NewAuthority(name string, lifetime time.Duration) (*Authority, Pair, error) {
	now := time.Now()
	form := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-skew), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, // it signs no other authorities
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, pair, err := sign(form, nil)
	if err != nil {
		return nil, Pair{}, err
	}
	return &Authority{pair.Certificate, key}, pair, nil
}

// ParseAuthority reads an authority that was kept. No error holds any of the key.
func ParseAuthority(certificate, key []byte) (*Authority, error) {
	list, err := ParseCertificates(certificate)
	if err != nil {
		return nil, err
	}
	if !list[0].IsCA {
		return nil, errors.New("the certificate is not that of an authority (CA:TRUE is missing)")
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("there is no private key in PEM: a block that starts with -----BEGIN PRIVATE KEY-----")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key cannot be read: PKCS #8 is expected")
	}
	signer, ok := private.(crypto.Signer)
	if public, comparable := list[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !comparable || !public.Equal(signer.Public()) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &Authority{list[0], signer}, nil
}

// Issue signs a certificate for a new key. A server's is good for servers only, the others for clients only.
func (a *Authority) Issue(r Request) (Pair, error) {
	form, err := r.form()
	if err != nil {
		return Pair{}, err
	}
	now := time.Now()
	form.NotBefore, form.NotAfter = now.Add(-skew), now.Add(r.Lifetime)
	if left := a.Certificate.NotAfter.Sub(now); r.Lifetime > left {
		return Pair{}, fmt.Errorf("the authority itself ends on %s: ask for at most %d days, or make a new authority",
			a.Certificate.NotAfter.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
	_, pair, err := sign(form, a)
	return pair, err
}

func (r Request) form() (*x509.Certificate, error) {
	form := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if r.Lifetime <= 0 {
		return nil, errors.New("a certificate is good for a day or more")
	}
	switch {
	case len(r.Hosts) > 0 && r.Node == nil && r.Client == nil:
		form.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		form.Subject.CommonName = common(r.Hosts[0])
		return form, addHosts(form, r.Hosts)
	case r.Node != nil && r.Client == nil && len(r.Hosts) == 0:
		form.Subject.CommonName = common(r.Node.Gateway + " " + r.Node.Node)
		return form, addName(form, r.Node.URI(), r.Node.Gateway)
	case r.Client != nil && r.Node == nil && len(r.Hosts) == 0:
		if _, err := ParseRole(string(r.Client.Role)); err != nil {
			return nil, err
		}
		form.Subject.CommonName = common(r.Client.Name)
		return form, addName(form, r.Client.URI(), r.Client.Name)
	}
	return nil, errors.New("a certificate is for hosts, for a node, or for a client")
}

// common is a name that fits into a certificate's common name, which nothing is decided by.
func common(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 64)], "")
}

func addHosts(form *x509.Certificate, hosts []string) error {
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			form.IPAddresses = append(form.IPAddresses, ip)
			continue
		}
		if host == "" || strings.ContainsAny(host, ":/ *") {
			return fmt.Errorf("%q is neither a host's name nor an address: give it without scheme and port", host)
		}
		form.DNSNames = append(form.DNSNames, host)
	}
	return nil
}

// addName puts in a name that is read again as it was given.
func addName(form *x509.Certificate, name, required string) error {
	if required == "" {
		return errors.New("a name is empty")
	}
	u, err := url.Parse(name)
	if err != nil {
		return err
	}
	if _, err := parseName(u); err != nil {
		return err
	}
	form.URIs = []*url.URL{u}
	return nil
}

// sign makes a key and a certificate for it; without an authority, it is signed by itself.
func sign(form *x509.Certificate, by *Authority) (crypto.Signer, Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, Pair{}, err
	}
	if form.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, Pair{}, err
	}
	if by == nil {
		by = &Authority{form, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, form, by.Certificate, key.Public(), by.key)
	if err != nil {
		return nil, Pair{}, err
	}
	pair := Pair{CertificatePEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	if pair.Certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, Pair{}, err
	}
	pair.KeyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return key, pair, nil
}

// ParseCertificates reads the certificates of a file, at least one.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate number %d cannot be read: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in PEM: a block that starts with -----BEGIN CERTIFICATE-----")
	}
	return out, nil
}
