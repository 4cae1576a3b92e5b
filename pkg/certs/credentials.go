package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often files are looked at, at most.
const lookEvery = time.Second

// Credentials are files that are followed: what they hold is used from the next handshake on, and what cannot be used
// leaves what was good last in force. They are looked at when they are needed, and by Run. Safe for concurrent use.
type Credentials struct {
	door  string
	files Files
	log   *slog.Logger

	current atomic.Pointer[form]

	mu      sync.Mutex
	looked  time.Time
	problem error  // why what is there now cannot be used
	warned  string // the last warning about time
}

// Open reads the files for the first time; an error says which of them cannot be used. door names what they are for, in
// logs and metrics: xds, admin, …
func Open(door string, files Files, log *slog.Logger) (*Credentials, error) {
	if err := files.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", door, err)
	}
	first, err := files.read(nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", door, err)
	}
	c := &Credentials{door: door, files: files, log: log.With("door", door), looked: time.Now()}
	c.current.Store(first)
	if info, err := os.Stat(files.Key); files.Key != "" && err == nil && info.Mode().Perm()&0o004 != 0 {
		c.log.Warn("the key is readable by everyone on this machine: chmod o-r", "file", files.Key)
	}
	c.warn(first, time.Now())
	return c, nil
}

// now is what is in force. It looks at the files if it has not for a while.
func (c *Credentials) now() *form {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookEvery {
		c.look(now)
	}
	return c.current.Load()
}

func (c *Credentials) look(now time.Time) {
	c.looked = now
	last := c.current.Load()
	fresh, err := c.files.read(last)
	if err == nil && fresh != last {
		err = worse(fresh, last, now)
	}
	if err != nil {
		if c.problem == nil || c.problem.Error() != err.Error() {
			c.log.Error("certificates cannot be used as they are now; what was good last stays", "error", err)
		}
		c.problem = err
		c.warn(last, now)
		return
	}
	if c.problem != nil {
		c.log.Info("certificates can be used again")
	}
	c.problem = nil
	if fresh != last {
		c.current.Store(fresh)
		c.log.Info("certificates were read again", fresh.summary()...)
	}
	c.warn(fresh, now)
}

// worse refuses a certificate that has expired while the one before has not.
func worse(fresh, last *form, now time.Time) error {
	if fresh.pair != nil && now.After(fresh.pair.Leaf.NotAfter) && now.Before(last.pair.Leaf.NotAfter) {
		return errors.New("the new certificate has expired already")
	}
	return nil
}

func (o *form) summary() []any {
	out := []any{"authorities", len(o.authorities), "revoked", len(o.revoked)}
	if o.pair != nil {
		out = append(out, "serial", SerialOf(o.pair.Leaf), "expires", o.pair.Leaf.NotAfter.UTC())
	}
	return out
}

// ServerConfig is TLS for a listener: 1.2 and up, with our certificate, and clients' certificates as clients says, of our
// authorities and not revoked. Each handshake takes the files as they then are. Sessions are not resumed: each connection
// proves itself.
func (c *Credentials) ServerConfig(clients tls.ClientAuthType) (*tls.Config, error) {
	switch {
	case c.files.Certificate == "":
		return nil, fmt.Errorf("%s: a server needs a certificate and its key", c.door)
	case c.files.CA == "" && clients != tls.NoClientCert:
		return nil, fmt.Errorf("%s: the authorities that clients' certificates come from are not given", c.door)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.now()
		return &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true,
			Certificates: []tls.Certificate{*now.pair}, ClientAuth: clients, ClientCAs: now.pool,
			VerifyConnection: func(s tls.ConnectionState) error { return checkConnection(now, s) },
		}, nil
	}}, nil
}

// ClientConfig is TLS for a connection to be made now: with our certificate, if there is one, to a server whose
// certificate bears the name, is of our authorities and not revoked. An empty name is that of the address that is called.
func (c *Credentials) ClientConfig(name string) *tls.Config {
	now := c.now()
	out := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: now.pool,
		VerifyConnection: func(s tls.ConnectionState) error { return checkConnection(now, s) },
	}
	if now.pair != nil {
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return now.pair, nil }
	}
	return out
}

func checkConnection(o *form, s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return nil // where none is required
	}
	return o.checkChains(s.VerifiedChains)
}

// Own is our certificate as it now is, nil for none.
func (c *Credentials) Own() *x509.Certificate {
	if now := c.now(); now.pair != nil {
		return now.pair.Leaf
	}
	return nil
}

// Caller is a client that has proved itself on a connection, and whose certificate may end before the connection does.
type Caller struct {
	// Certificate is its own.
	Certificate *x509.Certificate

	credentials *Credentials
	others      *x509.CertPool
	checked     atomic.Pointer[verdict]
}

// verdict is what was found of a caller by one form of the files.
type verdict struct {
	by    *form
	until time.Time
	err   error
}

// Caller is who is at the other end of a server's connection. The error says that nobody has proved anything.
func (c *Credentials) Caller(s tls.ConnectionState) (*Caller, error) {
	if len(s.VerifiedChains) == 0 {
		return nil, errors.New("no certificate was shown")
	}
	out := &Caller{Certificate: s.PeerCertificates[0], credentials: c, others: x509.NewCertPool()}
	for _, other := range s.PeerCertificates[1:] {
		out.others.AddCert(other)
	}
	return out, out.Check()
}

// Check tells whether the caller's certificate is still good: not expired, of an authority that is still trusted, and not
// revoked meanwhile. It costs little while the files stay as they are. Safe for concurrent use.
func (c *Caller) Check() error {
	by, now := c.credentials.now(), time.Now()
	v := c.checked.Load()
	if v == nil || v.by != by || v.err == nil && now.After(v.until) {
		v = c.verify(by, now)
		c.checked.Store(v)
	}
	return v.err
}

func (c *Caller) verify(by *form, now time.Time) *verdict {
	chains, err := c.Certificate.Verify(x509.VerifyOptions{
		Roots: by.pool, Intermediates: c.others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		err = by.checkChains(chains)
	}
	return &verdict{by: by, until: ends(chains), err: err}
}

// ends is when the first of these certificates ends.
func ends(chains [][]*x509.Certificate) time.Time {
	var first time.Time
	for _, chain := range chains {
		for _, c := range chain {
			if first.IsZero() || c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
	}
	return first
}

// Name is the caller as its certificate names it, for logs.
func (c *Caller) Name() string {
	return cmp.Or(Identity(c.Certificate), c.Certificate.Subject.String(), SerialOf(c.Certificate))
}
