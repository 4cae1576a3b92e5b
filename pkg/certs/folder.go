package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The files of an authority's folder.
const (
	AuthorityFile   = "ca.crt"
	RevocationsFile = "ca.crl"
	authorityKey    = "ca.key"
	issuedFolder    = "issued" // every certificate that was signed, by serial number
)

// Folder is the path of the folder that an authority is kept in.
type Folder string

func (f Folder) path(name string) string { return filepath.Join(string(f), name) }

// Init makes an authority in the folder, which is made when it is not there. It refuses to replace one.
func (f Folder) Init(name string, lifetime time.Duration) (*x509.Certificate, error) {
	if _, err := os.Lstat(f.path(authorityKey)); err == nil {
		return nil, fmt.Errorf("there is an authority in %s already: everything it signed would be worth nothing; give another folder", f)
	}
	authority, pair, err := NewAuthority(name, lifetime)
	if err != nil {
		return nil, err
	}
	revocations, err := authority.Revoke(nil)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.path(issuedFolder), 0o700); err != nil {
		return nil, err
	}
	if err := writeNew(f.path(authorityKey), pair.KeyPEM, 0o600); err != nil {
		return nil, err
	}
	if err := writeNew(f.path(AuthorityFile), pair.CertificatePEM, 0o644); err != nil {
		return nil, err
	}
	return pair.Certificate, replaceFile(f.path(RevocationsFile), revocations, 0o644)
}

// Open reads the authority.
func (f Folder) Open() (*Authority, error) {
	key, err := os.ReadFile(f.path(authorityKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no authority in %s: make one with sluice certs init, or name its folder with --dir", f)
	}
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(f.path(AuthorityFile))
	if err != nil {
		return nil, err
	}
	authority, err := ParseAuthority(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f, err)
	}
	return authority, nil
}

// Issue signs a certificate and keeps a copy of it, without its key.
func (f Folder) Issue(r Request) (Pair, error) {
	authority, err := f.Open()
	if err != nil {
		return Pair{}, err
	}
	pair, err := authority.Issue(r)
	if err != nil {
		return Pair{}, err
	}
	if err := os.MkdirAll(f.path(issuedFolder), 0o700); err != nil {
		return Pair{}, err
	}
	return pair, writeNew(f.path(filepath.Join(issuedFolder, SerialOf(pair.Certificate)+".crt")), pair.CertificatePEM, 0o644)
}

// Issued are all certificates that were signed, the newest first.
func (f Folder) Issued() ([]*x509.Certificate, error) {
	files, err := filepath.Glob(f.path(filepath.Join(issuedFolder, "*.crt")))
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, file := range files {
		c, err := ReadCertificate(file)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b *x509.Certificate) int { return b.NotBefore.Compare(a.NotBefore) })
	return out, nil
}

// ReadCertificate reads the first certificate of a file.
func ReadCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list[0], nil
}

// Revoked are the serial numbers, as SerialOf gives them, that the folder's revocation list holds.
func (f Folder) Revoked() (map[string]bool, error) {
	list, err := f.revocations()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		out[fmt.Sprintf("%x", e.SerialNumber)] = true
	}
	return out, nil
}

func (f Folder) revocations() (*x509.RevocationList, error) {
	certificate, err := ReadCertificate(f.path(AuthorityFile))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.path(RevocationsFile))
	if err != nil {
		return nil, err
	}
	lists, err := ParseRevocations(text, []*x509.Certificate{certificate})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(RevocationsFile), err)
	}
	return lists[0], nil
}

// Revoke adds certificates to the folder's revocation list, by their serial numbers. Only one at a time may do so.
func (f Folder) Revoke(serials ...*big.Int) error {
	lock := f.path(RevocationsFile + ".lock")
	if err := writeNew(lock, nil, 0o600); err != nil {
		return fmt.Errorf("%w: another sluice certs revoke is at work; if none is, remove that file", err)
	}
	defer os.Remove(lock)
	authority, err := f.Open()
	if err != nil {
		return err
	}
	before, err := f.revocations()
	if err != nil {
		return err
	}
	text, err := authority.Revoke(before, serials...)
	if err != nil {
		return err
	}
	return replaceFile(f.path(RevocationsFile), text, 0o644)
}

// Write writes the pair to base.crt and base.key, the key readable by its owner alone. Files that are there already are
// replaced, each at once, only when asked to; then the key keeps the mode it had.
func (p Pair) Write(base string, replace bool) error {
	key, certificate := base+".key", base+".crt"
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(key); err == nil && replace {
		mode = info.Mode().Perm()
	}
	if replace {
		return errors.Join(replaceFile(key, p.KeyPEM, mode), replaceFile(certificate, p.CertificatePEM, 0o644))
	}
	return errors.Join(writeNew(key, p.KeyPEM, mode), writeNew(certificate, p.CertificatePEM, 0o644))
}

// Free tells whether a pair can be written to base without replacing anything.
func Free(base string) error {
	for _, file := range []string{base + ".key", base + ".crt"} {
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%s is there already: give another name with --out, or make a new one in its place with sluice certs renew", file)
		}
	}
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(file string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// replaceFile puts a file in the place of another one, whole or not at all. Who could read the old one can read the new
// one: its owner is kept where that is allowed.
func replaceFile(file string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	keepOwner(f, file)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// RequestOf asks for another certificate like this one.
func RequestOf(c *x509.Certificate) (Request, error) {
	r := Request{Lifetime: c.NotAfter.Sub(c.NotBefore) - skew}
	if n, err := NodeOf(c); err == nil {
		r.Node = &n
		return r, nil
	}
	if who, err := ClientOf(c); err == nil {
		r.Client = &who
		return r, nil
	}
	r.Hosts = slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		r.Hosts = append(r.Hosts, ip.String())
	}
	if len(r.Hosts) == 0 {
		return Request{}, errors.New("it names neither a host, nor a node, nor a client")
	}
	return r, nil
}

// FileName is a name as a file may have it.
func FileName(name string) string {
	out := escape(name)
	if strings.HasPrefix(out, ".") {
		out = "%2E" + out[1:]
	}
	return out
}
