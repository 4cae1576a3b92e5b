package secrets_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"
)

// form is what a certificate is to be.
type form struct {
	name    string
	ca      bool
	rsaBits int
	ed25519 bool
	curve   elliptic.Curve
	after   time.Duration // until it ends
}

type issued struct {
	pem, key, sec1 []byte
	cert           *x509.Certificate
	signer         crypto.Signer
}

func (f form) signer(t testing.TB) crypto.Signer {
	var key crypto.Signer
	var err error
	switch {
	case f.rsaBits > 0:
		t.Setenv("GODEBUG", "rsa1024min=0")
		key, err = rsa.GenerateKey(rand.Reader, f.rsaBits)
	case f.ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case f.curve != nil:
		key, err = ecdsa.GenerateKey(f.curve, rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate by another, or by itself.
func issue(t testing.TB, f form, by *issued) issued {
	t.Helper()
	if f.after == 0 {
		f.after = 90 * 24 * time.Hour
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: f.name}, IsCA: f.ca, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-90 * 24 * time.Hour), NotAfter: time.Now().Add(f.after),
	}
	if f.ca {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if !f.ca && f.name != "" {
		template.DNSNames = []string{f.name}
	}
	key := f.signer(t)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := issued{cert: cert, signer: key, pem: block("CERTIFICATE", der), key: block("PRIVATE KEY", pkcs8)}
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		sec1, err := x509.MarshalECPrivateKey(ec)
		if err != nil {
			t.Fatal(err)
		}
		out.sec1 = block("EC PRIVATE KEY", sec1)
	}
	return out
}

func block(kind string, body []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body})
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }
