package secrets

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// ParseRevocations reads the revocation lists of authorities, PEM or one as DER. Envoy looks for the issuer of every
// certificate on the way to the authority, that included, and refuses the client where a list is missing: so each
// authority must have one, and each list must be of one of them.
func ParseRevocations(text []byte, authorities []*x509.Certificate) ([]*x509.RevocationList, error) {
	lists, err := parseLists(text)
	if err != nil {
		return nil, fmt.Errorf("the revocation lists: %w", err)
	}
	for i, l := range lists {
		if issuerOf(l, authorities) == nil {
			return nil, fmt.Errorf("the revocation lists: number %d, of %s, was signed by none of the authorities in ca", i+1, l.Issuer)
		}
	}
	for _, a := range authorities {
		if !covered(a, lists) {
			return nil, fmt.Errorf("the revocation lists: there is none of %s, so each of its clients would be refused", nameOf(a))
		}
		if !rooted(a, authorities) {
			return nil, fmt.Errorf("the revocation lists: ca does not have the authority above %s, so nobody could say whether that is revoked, and each of its clients would be refused", nameOf(a))
		}
	}
	return lists, nil
}

func parseLists(text []byte) ([]*x509.RevocationList, error) {
	var out []*x509.RevocationList
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("number %d in the file cannot be read (version 2, RFC 5280, is wanted; openssl makes it where crlnumber is set): %w", len(out)+1, err)
		}
		out = append(out, l)
	}
	if len(out) > 0 {
		return out, nil
	}
	if l, err := x509.ParseRevocationList(text); err == nil {
		return []*x509.RevocationList{l}, nil
	}
	return nil, errors.New("there is none, neither in PEM (a block that starts with -----BEGIN X509 CRL-----) nor as DER")
}

// issuerOf is the authority that signed a list, nil when it is none of these.
func issuerOf(l *x509.RevocationList, authorities []*x509.Certificate) *x509.Certificate {
	for _, a := range authorities {
		if bytes.Equal(a.RawSubject, l.RawIssuer) && l.CheckSignatureFrom(a) == nil {
			return a
		}
	}
	return nil
}

func covered(a *x509.Certificate, lists []*x509.RevocationList) bool {
	for _, l := range lists {
		if issuerOf(l, []*x509.Certificate{a}) != nil {
			return true
		}
	}
	return false
}

// rooted tells whether the authority that signed this one is among them; a root has signed itself.
func rooted(a *x509.Certificate, authorities []*x509.Certificate) bool {
	for _, by := range authorities {
		if bytes.Equal(a.RawIssuer, by.RawSubject) && a.CheckSignatureFrom(by) == nil {
			return true
		}
	}
	return false
}

// upToDate says what is wrong with the time of a list, "" when nothing is.
func upToDate(l *x509.RevocationList, now time.Time) string {
	left := l.NextUpdate.Sub(now)
	switch {
	case now.Before(l.ThisUpdate):
		return fmt.Sprintf("the revocation list of %s holds only from %s on: until then, each of its clients is refused", l.Issuer, l.ThisUpdate.UTC().Format(time.DateTime))
	case l.NextUpdate.IsZero():
		return ""
	case left < 0:
		return fmt.Sprintf("the revocation list of %s is out of date since %s: each of its clients is refused", l.Issuer, l.NextUpdate.UTC().Format(time.DateTime))
	case left < min(soon, l.NextUpdate.Sub(l.ThisUpdate)/3):
		return fmt.Sprintf("the revocation list of %s is out of date from %s on: each of its clients is refused then", l.Issuer, l.NextUpdate.UTC().Format(time.DateTime))
	}
	return ""
}

func encodeRevocations(lists []*x509.RevocationList) []byte {
	var b bytes.Buffer
	for _, l := range lists {
		_ = pem.Encode(&b, &pem.Block{Type: "X509 CRL", Bytes: l.Raw}) // to a buffer: never fails
	}
	return b.Bytes()
}
