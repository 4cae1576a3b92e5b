package secrets

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Pair is a certificate with those that lead to its authority, and its key.
type Pair struct {
	Chain []*x509.Certificate // the certificate itself first
	// CertificatePEM and KeyPEM hold these, and nothing else that stood in the files.
	CertificatePEM, KeyPEM []byte
	// Warnings are what is not as it should be, but can be served.
	Warnings []string
}

// minRSABits is the least that Envoy takes.
const minRSABits = 2048

// ParsePair reads a certificate and its key, both PEM. Its errors say nothing of what stands in the key.
func ParsePair(certificate, key []byte) (*Pair, error) {
	chain, err := parseCertificates(certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	private, block, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	if err := checkKey(private.Public()); err != nil {
		return nil, err
	}
	if err := matches(chain, private.Public()); err != nil {
		return nil, err
	}
	return &Pair{Chain: chain, CertificatePEM: encode(chain), KeyPEM: pem.EncodeToMemory(block), Warnings: chainWarnings(chain)}, nil
}

// ParseAuthorities reads one authority or several, PEM.
func ParseAuthorities(text []byte) ([]*x509.Certificate, error) {
	list, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("the authorities: %w", err)
	}
	for _, c := range list {
		if !c.IsCA {
			return nil, fmt.Errorf("the authorities: %s is not an authority (CA:TRUE is missing)", nameOf(c))
		}
	}
	return list, nil
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("number %d in the file cannot be read: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in PEM: a block that starts with -----BEGIN CERTIFICATE-----")
	}
	return out, nil
}

// parseKey finds the one private key of a file. No error holds any of it.
func parseKey(text []byte) (crypto.Signer, *pem.Block, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, nil, errors.New("it is encrypted: store it decrypted, readable by sluice alone")
		}
		signer, err := decodeKey(block.Bytes)
		return signer, block, err
	}
	return nil, nil, errors.New("there is no private key in PEM: a block that starts with -----BEGIN PRIVATE KEY-----")
}

func decodeKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("it cannot be read: neither PKCS #8, nor PKCS #1, nor SEC 1")
}

// checkKey refuses what Envoy would.
func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("the key: RSA of %d bits; at least %d are needed", key.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey:
		if size := key.Curve.Params().BitSize; size < 256 {
			return fmt.Errorf("the key: an elliptic curve of %d bits; at least 256 are needed", size)
		}
	default:
		return errors.New("the key: Envoy takes RSA and ECDSA only")
	}
	return nil
}

// matches tells whether the first certificate is that of the key.
func matches(chain []*x509.Certificate, public crypto.PublicKey) error {
	want, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	if ok && want.Equal(chain[0].PublicKey) {
		return nil
	}
	for i, c := range chain[1:] {
		if ok && want.Equal(c.PublicKey) {
			return fmt.Errorf("the certificate of the key is number %d in its file: it must come first, then those that lead to its authority", i+2)
		}
	}
	return fmt.Errorf("the key is not that of the certificate %s", nameOf(chain[0]))
}

func chainWarnings(chain []*x509.Certificate) []string {
	var out []string
	for i := 1; i < len(chain); i++ {
		if chain[i-1].CheckSignatureFrom(chain[i]) != nil {
			out = append(out, fmt.Sprintf("number %d in the certificate's file (%s) did not sign the one before it: some clients will not find the way to the authority", i+1, nameOf(chain[i])))
		}
	}
	if len(chain[0].DNSNames)+len(chain[0].IPAddresses)+len(chain[0].URIs) == 0 {
		out = append(out, "the certificate names no host (subject alternative names): clients will not take it for one")
	}
	return out
}

// soon is how long before its end a certificate is warned of, at most.
const soon = 14 * 24 * time.Hour

// validity says what is wrong with the time of a certificate, "" when nothing is.
func validity(c *x509.Certificate, now time.Time) string {
	left := c.NotAfter.Sub(now)
	switch {
	case left < 0:
		return fmt.Sprintf("%s expired on %s", nameOf(c), c.NotAfter.UTC().Format(time.DateTime))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("%s is valid only from %s on", nameOf(c), c.NotBefore.UTC().Format(time.DateTime))
	case left < min(soon, c.NotAfter.Sub(c.NotBefore)/3):
		return fmt.Sprintf("%s expires on %s", nameOf(c), c.NotAfter.UTC().Format(time.DateTime))
	}
	return ""
}

// nameOf is a certificate as people know it.
func nameOf(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case c.Subject.CommonName != "":
		return fmt.Sprintf("%q", c.Subject.CommonName)
	}
	return "serial " + serialOf(c)
}

func serialOf(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

func encode(list []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // to a buffer: never fails
	}
	return b.Bytes()
}
