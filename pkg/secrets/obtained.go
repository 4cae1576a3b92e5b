package secrets

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-gateway/sluice/pkg/acme"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// Obtained are the certificates that come from authorities.
type Obtained interface {
	// Want makes what is obtained and renewed exactly this.
	Want(orders []acme.Order)
	// Get is a certificate with its key, PEM; an error says why there is none.
	Get(ctx context.Context, name string) (certificate, key []byte, err error)
	// Changed tells that some may have changed.
	Changed() <-chan struct{}
}

// obtainTimeout bounds how long the store is asked for a certificate.
const obtainTimeout = 5 * time.Second

// readObtained reads a certificate that comes from an authority. Before the first has come, a listener needs something
// to show: one that nobody trusts.
func (s *Source) readObtained(want model.Secret) (*form, error) {
	if s.Obtained == nil {
		return nil, errors.New("this server obtains no certificates: start it with --secrets-key FILE, under which their keys are stored")
	}
	ctx, cancel := context.WithTimeout(context.Background(), obtainTimeout)
	defer cancel()
	certificate, key, err := s.Obtained.Get(ctx, want.Name)
	if err != nil {
		if s.last(want) != nil {
			return nil, err
		}
		return s.placeholder(want, err.Error())
	}
	return s.pairForm(want, certificate, key)
}

// placeholder is a certificate of nobody's, one for each name for as long as the process lives.
func (s *Source) placeholder(want model.Secret, why string) (*form, error) {
	made, _ := s.placeholders.LoadOrStore(want.Name, sync.OnceValues(func() (*form, error) { return s.selfSigned(want) }))
	f, err := made.(func() (*form, error))()
	if err != nil {
		return nil, err
	}
	out := *f
	out.warnings = []string{"a certificate that nobody trusts is shown for " + want.ACME.Domain + ": " + why}
	return &out, nil
}

func (s *Source) selfSigned(want model.Secret) (*form, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	plain := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), DNSNames: []string{want.ACME.Domain},
	}
	der, err := x509.CreateCertificate(rand.Reader, plain, plain, private.Public(), private)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return s.pairForm(want, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// pairForm is the form of a certificate with its key.
func (s *Source) pairForm(want model.Secret, certificate, key []byte) (*form, error) {
	pair, err := ParsePair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", joined(places(want)), err)
	}
	f := &form{first: pair.Chain[0], ends: pair.Chain[0].NotAfter, warnings: pair.Warnings, read: time.Now()}
	if note := validity(f.first, f.read); note != "" {
		f.warnings = append(f.warnings, note)
	}
	f.body, err = feature.Marshal(&tlsv3.Secret{Name: want.Name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: bytesOf(pair.CertificatePEM), PrivateKey: bytesOf(pair.KeyPEM),
	}}})
	return f, err
}

// order makes what is obtained what is kept.
func (s *Source) order(list []model.Secret) {
	if s.Obtained == nil {
		return
	}
	var orders []acme.Order
	for _, want := range list {
		if !want.IsObtained() {
			continue
		}
		o := acme.Order{Name: want.Name, Domain: want.ACME.Domain, Email: want.ACME.Email, Directory: want.ACME.Directory}
		if want.ACME.Roots != (model.SecretPlace{}) {
			roots, err := s.fetch(want.ACME.Roots)
			if err != nil {
				s.Log.Error("a certificate is not obtained: the authorities of its directory cannot be read", "certificate", want.Name, "error", err)
				continue
			}
			o.Roots = roots
		}
		orders = append(orders, o)
	}
	s.Obtained.Want(orders)
}

// changes tells of certificates that were obtained; nil, which never does, where none are.
func (s *Source) changes() <-chan struct{} {
	if s.Obtained == nil {
		return nil
	}
	return s.Obtained.Changed()
}
