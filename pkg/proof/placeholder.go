package proof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// absentSecrets puts a certificate of the moment in the place of secrets that are not in the snapshot: they may exist
// only where the control plane runs, and what names them can be judged without. It reports whether any was absent.
func (r *rewriter) absentSecrets(c *tlsv3.CommonTlsContext) bool {
	changed := false
	if slices.ContainsFunc(c.GetTlsCertificateSdsSecretConfigs(), r.absent) {
		cert, key := r.placeholder()
		c.TlsCertificateSdsSecretConfigs = nil
		c.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: inline(cert), PrivateKey: inline(key)}}
		changed = true
	}
	switch v := c.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		if r.absent(v.ValidationContextSdsSecretConfig) {
			c.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: r.authority()}
			changed = true
		}
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		if r.absent(v.CombinedValidationContext.GetValidationContextSdsSecretConfig()) {
			context := v.CombinedValidationContext.GetDefaultValidationContext()
			context.TrustedCa = r.authority().TrustedCa
			c.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: context}
			changed = true
		}
	}
	return changed
}

func (r *rewriter) absent(s *tlsv3.SdsSecretConfig) bool {
	return !slices.ContainsFunc(r.secrets, func(have *tlsv3.Secret) bool { return have.GetName() == s.GetName() })
}

func (r *rewriter) authority() *tlsv3.CertificateValidationContext {
	cert, _ := r.placeholder()
	return &tlsv3.CertificateValidationContext{TrustedCa: inline(cert)}
}

func inline(pem string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: pem}}
}

// newPlaceholder gives one certificate with its key however often it is asked.
func newPlaceholder() func() (cert, key string) {
	return sync.OnceValues(func() (cert, key string) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic("proof: " + err.Error())
		}
		form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"proof.invalid"}, IsCA: true, BasicConstraintsValid: true}
		body, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
		if err != nil {
			panic("proof: " + err.Error())
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			panic("proof: " + err.Error())
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: body})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	})
}
