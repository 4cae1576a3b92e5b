package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 256 << 20

// client asks Consul. Safe for concurrent use.
type client struct {
	api       *api.Client
	transport *transport
	token     *token
}

func newClient(c Config) (*client, error) {
	e, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	t, err := newTransport(c, e)
	if err != nil {
		return nil, err
	}
	address := e.address
	if e.scheme == "unix" {
		address = "localhost" // the transport dials the socket
	}
	scheme := e.scheme
	if scheme == "unix" {
		scheme = "http"
	}
	made, err := api.NewClient(&api.Config{Address: address, Scheme: scheme, Datacenter: c.Datacenter, HttpClient: &http.Client{
		Transport: t,
		// A redirection would take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return nil, fmt.Errorf("consul at %s: %w", c.Address, err)
	}
	return &client{made, t, &token{file: c.TokenFile, env: c.TokenEnv}}, nil
}

// transport is the HTTP of all queries: it bounds answers and knows whether they share connections.
type transport struct {
	http *http.Transport
	// separate says that each query takes a connection of its own.
	separate atomic.Bool
}

func newTransport(c Config, e endpoint) (*transport, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	h := &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: maxConnections, ForceAttemptHTTP2: true,
		// A connection whose other end vanished without a word is noticed by its pings.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	t := &transport{http: h}
	switch e.scheme {
	case "unix":
		h.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", e.address)
		}
		fallthrough
	case "http":
		h.MaxConnsPerHost = maxConnections
		t.separate.Store(true)
	case "https":
		config, err := tlsConfig(c, e)
		if err != nil {
			return nil, err
		}
		h.TLSClientConfig = config
	}
	return t, nil
}

// tlsConfig trusts the CA file, or else the system's, and shows the certificate files as they are at each handshake.
func tlsConfig(c Config, e endpoint) (*tls.Config, error) {
	config, err := api.SetupTLSConfig(&api.TLSConfig{Address: e.address, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile})
	if err != nil {
		return nil, fmt.Errorf("consul: TLS: %w", err)
	}
	if c.ServerName != "" {
		config.ServerName = c.ServerName
	}
	config.MinVersion = tls.VersionTLS12
	if c.CertFile != "" {
		config.Certificates = nil
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &pair, err
		}
	}
	return config, nil
}

// RoundTrip asks, and remembers by which protocol Consul answered.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.http.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.separate.Store(response.ProtoMajor < 2)
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxAnswer), response.Body}
	return response, nil
}

// token is the ACL token, from a file that may change or from the environment.
type token struct {
	file, env string

	mu       sync.Mutex
	value    string
	modified time.Time
	size     int64
}

// Get is the present token. A file that cannot be read leaves the last one in use.
func (t *token) Get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" && t.env != "" {
		t.value = os.Getenv(t.env)
	}
	if t.file != "" {
		t.reread()
	}
	return t.value
}

func (t *token) reread() {
	info, err := os.Stat(t.file)
	if err != nil || info.ModTime().Equal(t.modified) && info.Size() == t.size {
		return
	}
	if text, err := os.ReadFile(t.file); err == nil {
		t.value, t.modified, t.size = strings.TrimSpace(string(text)), info.ModTime(), info.Size()
	}
}

var (
	errNoLeader = errors.New("consul has no leader: what it answers may be old")
	errFiltered = errors.New("the token may not read this service: it needs service:read and node:read")
)

// errBehind is the answer of a server that has lost touch with its leader.
type errBehind struct{ contact time.Duration }

func (e errBehind) Error() string {
	return fmt.Sprintf("the consul server is %s behind its leader", e.contact)
}

// isDenied says whether Consul refused the token.
func isDenied(err error) bool {
	var status api.StatusError
	return errors.Is(err, errFiltered) || errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized)
}
