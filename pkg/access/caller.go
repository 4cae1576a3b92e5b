package access

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/throttle"
)

// Caller is somebody who calls.
type Caller struct {
	// Name is how it is known: "token ci", "certificate anna", "uid 1000", "loopback"; "" for nobody.
	Name  string
	Roles Roles
	// Proven is that it showed a token or a certificate. Else it is trusted for where it is.
	Proven bool
}

// Config is what lets callers in. Without any of it, these are trusted who come by loopback or a unix socket.
type Config struct {
	// Tokens are the tokens that count, nil for none.
	Tokens *Tokens
	// Certificates prove clients of TLS connections, nil when they need none.
	Certificates *certs.Credentials
	// Socket is that callers by a unix socket need a token, too. Else who may open the socket is trusted.
	Socket bool
}

// Door finds out who calls.
type Door struct {
	Config
	failures *throttle.Throttle
}

// How many failures of one address are answered as such: so many at once, and so many a second.
const (
	failureBurst = 20
	failureRate  = 1
)

// New makes a door.
func New(c Config) *Door { return &Door{c, throttle.New(failureRate, failureBurst)} }

// Reason is a kind of refusal.
type Reason string

// The kinds.
const (
	Unknown    Reason = "unknown"     // who it is is not known
	TooSmall   Reason = "role"        // it is known, and may not
	TooOften   Reason = "too-often"   // it was not known too often
	Unreadable Reason = "no-decision" // nothing can be said now
)

// RefusedError is why somebody is not let in.
type RefusedError struct {
	Reason Reason
	Detail string
}

// Error is the detail.
func (e *RefusedError) Error() string { return e.Detail }

// Caller tells who sent a request; its error is a *RefusedError. A token that is sent decides, whatever else is there.
func (d *Door) Caller(r *http.Request) (Caller, error) {
	c, err := d.caller(r)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Reason == Unknown && !d.failures.Allow(r.RemoteAddr, time.Now()) {
		return Caller{}, &RefusedError{TooOften, "there were too many requests that nobody may make: wait a minute"}
	}
	return c, err
}

func (d *Door) caller(r *http.Request) (Caller, error) {
	header, sent := r.Header["Authorization"]
	switch {
	case sent && d.Tokens != nil:
		return d.byToken(header)
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && d.Certificates != nil:
		return d.byCertificate(*r.TLS)
	case overUnix(r.Context()) && !d.Socket:
		return Caller{Name: peerName(r.Context()), Roles: all()}, nil
	case r.TLS == nil && d.Tokens == nil && overLoopback(r.Context()):
		return Caller{Name: "loopback", Roles: all()}, nil
	}
	return Caller{}, &RefusedError{Unknown, d.wanted()}
}

// wanted says how to be let in.
func (d *Door) wanted() string {
	var ways []string
	if d.Tokens != nil {
		ways = append(ways, "a token (SLUICE_TOKEN or --token-file; the header is authorization: Bearer "+TokenPrefix+"…)")
	}
	if d.Certificates != nil {
		ways = append(ways, "a client certificate (--client-cert and --client-key)")
	}
	if ways == nil {
		return "this door takes callers by loopback and unix sockets only"
	}
	return "this needs " + strings.Join(ways, ", or ")
}

func (d *Door) byToken(header []string) (Caller, error) {
	if len(header) != 1 {
		return Caller{}, &RefusedError{Unknown, "there are several Authorization headers: send one"}
	}
	scheme, text, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Caller{}, &RefusedError{Unknown, "the header is authorization: Bearer " + TokenPrefix + "…"}
	}
	digest, err := ParseToken(text)
	if err != nil {
		return Caller{}, &RefusedError{Unknown, err.Error()}
	}
	t, err := d.Tokens.find(digest)
	switch {
	case errors.Is(err, errTokensUnreadable):
		return Caller{}, &RefusedError{Unreadable, err.Error()}
	case err != nil:
		return Caller{}, &RefusedError{Unknown, err.Error()}
	}
	return Caller{Name: "token " + t.Name, Roles: t.Roles, Proven: true}, nil
}

// byCertificate looks at the certificate again with each request: it may have been revoked, or have ended, meanwhile.
func (d *Door) byCertificate(s tls.ConnectionState) (Caller, error) {
	shown, err := d.Certificates.Caller(s)
	if err != nil {
		return Caller{}, &RefusedError{Unknown, "the client certificate is not taken: " + err.Error()}
	}
	client, err := certs.ClientOf(shown.Certificate)
	if err != nil {
		return Caller{Name: "certificate " + shown.Name()}, &RefusedError{TooSmall, "the client certificate is not for this: " + err.Error()}
	}
	return Caller{Name: "certificate " + client.Name, Roles: Roles{client.Role}, Proven: true}, nil
}

// overUnix tells whether a request came by a unix socket.
func overUnix(ctx context.Context) bool {
	local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// overLoopback tells whether a request came by an address of this machine only.
func overLoopback(ctx context.Context) bool {
	local, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return false
	}
	ip, ok := netip.AddrFromSlice(local.IP)
	return ok && ip.Unmap().IsLoopback()
}

type peerKey struct{}

// WithPeer notes whom a connection comes from, for http.Server.ConnContext.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	if uid, known := peerUID(unix); known {
		return context.WithValue(ctx, peerKey{}, uid)
	}
	return ctx
}

// peerName names the user at the other end of a unix socket.
func peerName(ctx context.Context) string {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if !ok {
		return "unix socket"
	}
	return "uid " + strconv.FormatUint(uint64(uid), 10)
}
