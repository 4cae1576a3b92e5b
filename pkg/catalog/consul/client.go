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
	"golang.org/x/net/http2"
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
	// one is HTTP/1.1, where each query takes a connection of its own; two is HTTP/2, nil without TLS.
	one *http.Transport
	two *http2.Transport
	// separate says that one is in use.
	separate atomic.Bool
}

func newTransport(c Config, e endpoint) (*transport, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	t := &transport{one: &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: maxConnections, MaxConnsPerHost: maxConnections,
	}}
	t.separate.Store(true)
	if e.scheme == "unix" {
		t.one.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", e.address)
		}
	}
	if e.scheme != "https" {
		return t, nil
	}
	config, err := tlsConfig(c, e)
	if err != nil {
		return nil, err
	}
	t.one.TLSClientConfig = config
	t.two = newHTTP2(dialer, config)
	t.separate.Store(false)
	return t, nil
}

// errHTTP1 says that the other end speaks no HTTP/2.
var errHTTP1 = errors.New("no HTTP/2 there")

// newHTTP2 opens one connection after another, as each is full: net/http's own pool would open one for each query of a
// start. A connection whose other end vanished without a word is noticed by its pings.
func newHTTP2(dialer *net.Dialer, config *tls.Config) *http2.Transport {
	config = config.Clone()
	config.NextProtos = []string{http2.NextProtoTLS, "http/1.1"}
	return &http2.Transport{
		ReadIdleTimeout: 10 * time.Second, PingTimeout: 5 * time.Second, IdleConnTimeout: 90 * time.Second,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			conn, err := (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
				return nil, errors.Join(errHTTP1, conn.Close())
			}
			return conn, nil
		},
	}
}

// RoundTrip asks by HTTP/2 where that is spoken.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.send(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxAnswer), response.Body}
	return response, nil
}

func (t *transport) send(r *http.Request) (*http.Response, error) {
	if t.separate.Load() {
		return t.one.RoundTrip(r)
	}
	response, err := t.two.RoundTrip(r)
	if errors.Is(err, errHTTP1) {
		t.separate.Store(true)
	}
	return response, err
}

func (t *transport) close() {
	t.one.CloseIdleConnections()
	if t.two != nil {
		t.two.CloseIdleConnections()
	}
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
