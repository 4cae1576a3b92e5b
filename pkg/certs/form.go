package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"
)

// largestFile bounds a file, in bytes; a revocation list may be long.
const largestFile = 16 << 20

// Files are what one end of a connection proves itself with, and knows the other end by.
type Files struct {
	// Certificate (followed by those that lead to its authority) and Key are our own. Both, or neither.
	Certificate, Key string
	// CA are the authorities that the other end's certificate must come from.
	CA string
	// CRL are revocation lists of these authorities; "" for none. What stands there is let in no more.
	CRL string
}

func (f Files) validate() error {
	switch {
	case (f.Certificate == "") != (f.Key == ""):
		return errors.New("a certificate and its key are needed together")
	case f.CRL != "" && f.CA == "":
		return errors.New("a revocation list means nothing without the authorities that signed it")
	case f.CA == "" && f.Certificate == "":
		return errors.New("neither a certificate nor authorities are given")
	}
	return nil
}

// form is what stood in the files at one time, all of it good.
type form struct {
	texts       map[string]string
	pair        *tls.Certificate
	authorities []*x509.Certificate
	pool        *x509.CertPool // nil for the system's
	revocations []*x509.RevocationList
	revoked     map[issued]bool
}

// texts reads the files by their name.
func (f Files) texts() (map[string]string, error) {
	out := map[string]string{}
	for _, name := range []string{f.Certificate, f.Key, f.CA, f.CRL} {
		if name == "" {
			continue
		}
		text, err := readFile(name)
		if err != nil {
			return nil, err
		}
		out[name] = text
	}
	return out, nil
}

func readFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, largestFile+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > largestFile:
		return "", fmt.Errorf("%s is larger than %d MiB", name, largestFile>>20)
	}
	return string(text), nil
}

// read is the form of the files as they are now; last when they are as they were then.
func (f Files) read(last *form) (*form, error) {
	texts, err := f.texts()
	if err != nil {
		return nil, err
	}
	if last != nil && maps.Equal(texts, last.texts) {
		return last, nil
	}
	out := &form{texts: texts}
	if f.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(texts[f.Certificate]), []byte(texts[f.Key]))
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", f.Certificate, f.Key, err)
		}
		out.pair = &pair
	}
	if f.CA == "" {
		return out, nil
	}
	return out, out.readAuthorities(f)
}

func (o *form) readAuthorities(f Files) error {
	var err error
	if o.authorities, err = ParseCertificates([]byte(o.texts[f.CA])); err != nil {
		return fmt.Errorf("%s: %w", f.CA, err)
	}
	o.pool = x509.NewCertPool()
	for i, c := range o.authorities {
		if !c.IsCA {
			return fmt.Errorf("%s: certificate number %d is not an authority (CA:TRUE is missing)", f.CA, i+1)
		}
		o.pool.AddCert(c)
	}
	if f.CRL == "" {
		return nil
	}
	if o.revocations, err = ParseRevocations([]byte(o.texts[f.CRL]), o.authorities); err != nil {
		return fmt.Errorf("%s: %w", f.CRL, err)
	}
	o.revoked = revoked(o.revocations)
	return nil
}

// ends is when a form's certificate, or the first of its authorities, ends; the zero time for a form without one.
func (o *form) ends() (own, authority time.Time) {
	if o.pair != nil {
		own = o.pair.Leaf.NotAfter
	}
	for _, c := range o.authorities {
		if authority.IsZero() || c.NotAfter.Before(authority) {
			authority = c.NotAfter
		}
	}
	return own, authority
}

// stale is since when a newer revocation list should have been there, the zero time when none is late.
func (o *form) stale(now time.Time) time.Time {
	for _, list := range o.revocations {
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			return list.NextUpdate
		}
	}
	return time.Time{}
}

// errRevoked is of a certificate that stands in a revocation list.
var errRevoked = errors.New("the certificate is revoked")

// checkChains refuses what is revoked: a way to an authority must be left on which nothing is.
func (o *form) checkChains(chains [][]*x509.Certificate) error {
	if len(o.revoked) == 0 {
		return nil
	}
	for _, chain := range chains {
		if !o.anyRevoked(chain) {
			return nil
		}
	}
	if len(chains) == 0 {
		return errRevoked
	}
	return fmt.Errorf("%w: that of %s, serial %s", errRevoked, cmp.Or(Identity(chains[0][0]), chains[0][0].Subject.String()), SerialOf(chains[0][0]))
}

func (o *form) anyRevoked(chain []*x509.Certificate) bool {
	for _, c := range chain {
		if o.revoked[issuedAs(c)] {
			return true
		}
	}
	return false
}
