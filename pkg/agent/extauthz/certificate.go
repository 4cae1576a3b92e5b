package extauthz

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"
)

// Limits of what is remembered of clients' certificates.
const (
	mostCertificates    = 4096
	maxCertificateBytes = 32 << 10
)

// certificates takes apart what Envoy says of clients' certificates, each once. Envoy only says it of certificates
// that a listener has asked for and verified: one that does not ask for any is shown none.
type certificates struct {
	log    *slog.Logger
	mu     sync.Mutex
	parsed map[string]*x509.Certificate // by Envoy's text; nil for what cannot be read
}

func newCertificates(log *slog.Logger) *certificates {
	return &certificates{log: log, parsed: map[string]*x509.Certificate{}}
}

// valid is the certificate of a client, nil when it has none that holds now: a connection may outlive what its
// handshake has verified.
func (c *certificates) valid(text string, now time.Time) *x509.Certificate {
	if text == "" {
		return nil
	}
	cert := c.get(text)
	if cert == nil || now.After(cert.NotAfter) {
		return nil
	}
	return cert
}

// get makes room by forgetting any other: one that is forgotten is only taken apart again.
func (c *certificates) get(text string) *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert, ok := c.parsed[text]; ok {
		return cert
	}
	cert, err := parseCertificate(text)
	if err != nil {
		c.log.Warn("a client's certificate, which Envoy takes, cannot be read; the client counts as one without", "error", err)
	}
	if len(text) > maxCertificateBytes {
		return cert
	}
	if len(c.parsed) >= mostCertificates {
		for other := range c.parsed {
			delete(c.parsed, other)
			break
		}
	}
	c.parsed[text] = cert
	return cert
}

// parseCertificate reads PEM in percent-encoding.
func parseCertificate(text string) (*x509.Certificate, error) {
	if len(text) > maxCertificateBytes {
		return nil, errors.New("it is too large")
	}
	plain, err := url.PathUnescape(text)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(plain))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it is no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
