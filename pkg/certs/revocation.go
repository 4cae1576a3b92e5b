package certs

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// crlBlock is what a revocation list is called in PEM.
const crlBlock = "X509 CRL"

// Revoke makes the authority's next revocation list: what was in the one before, nil for none, and these certificates.
func (a *Authority) Revoke(before *x509.RevocationList, serials ...*big.Int) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-skew), NextUpdate: a.Certificate.NotAfter}
	if before != nil {
		list.Number.Add(list.Number, before.Number)
		list.RevokedCertificateEntries = slices.Clone(before.RevokedCertificateEntries)
	}
	for _, serial := range serials {
		if !revokes(list, serial) {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: crlBlock, Bytes: der}), nil
}

func revokes(list *x509.RevocationList, serial *big.Int) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 })
}

// ParseRevocations reads the revocation lists of a file, at least one, each signed by one of the authorities.
func ParseRevocations(text []byte, authorities []*x509.Certificate) ([]*x509.RevocationList, error) {
	var out []*x509.RevocationList
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != crlBlock {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("revocation list number %d cannot be read: %w", len(out)+1, err)
		}
		if !slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return list.CheckSignatureFrom(a) == nil }) {
			return nil, fmt.Errorf("revocation list number %d is signed by none of the authorities", len(out)+1)
		}
		out = append(out, list)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no revocation list in PEM: a block that starts with -----BEGIN X509 CRL-----")
	}
	return out, nil
}

// issued names a certificate within all authorities.
type issued struct{ issuer, serial string }

// revoked are the certificates of revocation lists.
func revoked(lists []*x509.RevocationList) map[issued]bool {
	out := map[issued]bool{}
	for _, list := range lists {
		for _, e := range list.RevokedCertificateEntries {
			out[issued{string(list.RawIssuer), e.SerialNumber.String()}] = true
		}
	}
	return out
}

func issuedAs(c *x509.Certificate) issued {
	return issued{string(c.RawIssuer), c.SerialNumber.String()}
}

// SerialOf is a certificate's serial number as people and files know it.
func SerialOf(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }
