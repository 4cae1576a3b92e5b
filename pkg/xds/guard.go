package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// Denial is something that was refused because of who asked for it.
type Denial struct {
	// Caller is who asks, as its certificate says; "" without a certificate that holds.
	Caller string
	// Address is where it asks from.
	Address string
	// Method is the full gRPC method, or "handshake" for a connection that was not let in.
	Method string
	// Gateway and Node are who it says it is.
	Gateway, Node string
	Reason        string
}

// guard lets each caller act as the node that its certificate names, and as no other.
type guard struct {
	credentials *certs.Credentials
	every       time.Duration // how often the certificates of open streams are looked at
	denied      func(context.Context, Denial)
	metrics     *metrics
	log         *slog.Logger
	lines       *rate.Limiter // strangers do not fill the log
}

// longestNamed bounds what is passed on of names that nobody has checked, in bytes.
const longestNamed = 256

// How long a stranger may take to become known, and how long a connection outlives the certificate it was made with.
const (
	handshakeTime = 10 * time.Second
	farewell      = 200 * time.Millisecond
)

// options are those of a gRPC server that is guarded. What is not one of our streams is refused, too, so that a service
// that somebody adds is closed until it is thought about here.
func (g *guard) options() ([]grpc.ServerOption, error) {
	config, err := g.credentials.ServerConfig(tls.RequireAndVerifyClientCert)
	if err != nil {
		return nil, err
	}
	return []grpc.ServerOption{
		grpc.Creds(handshakes{credentials.NewTLS(config), g}),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.StreamInterceptor(g.stream),
		grpc.UnaryInterceptor(g.unary),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errDenied }),
	}, nil
}

// errDenied says no more than that: why stands in our log.
var errDenied = status.Error(codes.PermissionDenied, "this is not for the bearer of this certificate")

var errNoCertificate = errors.New("no certificate was shown")

func (g *guard) deny(ctx context.Context, d Denial) error {
	for _, text := range []*string{&d.Gateway, &d.Node, &d.Method} {
		*text = (*text)[:min(len(*text), longestNamed)]
	}
	g.metrics.denied.Inc()
	if g.lines.Allow() {
		g.log.Warn("denied", "caller", d.Caller, "address", d.Address, "method", d.Method,
			"gateway", d.Gateway, "node", d.Node, "reason", d.Reason)
	}
	if g.denied != nil {
		g.denied(ctx, d)
	}
	return errDenied
}

// proven is a connection whose other end has proved itself.
type proven struct {
	credentials.TLSInfo
	conn   net.Conn
	caller *certs.Caller // nil if it has shown no certificate
}

// handshakes reports connections that are not let in, and remembers those that are.
type handshakes struct {
	credentials.TransportCredentials
	guard *guard
}

// ServerHandshake implements credentials.TransportCredentials.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		h.guard.failed(raw, err)
		return nil, nil, err
	}
	secured, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("a handshake of another kind: %T", info), conn.Close())
	}
	caller, _ := h.guard.credentials.Caller(secured.State) // whether it is good is asked again for each call
	return conn, proven{secured, conn, caller}, nil
}

// failed tells of a handshake that came to nothing. Who goes without a word only looked whether we are here.
func (g *guard) failed(raw net.Conn, err error) {
	var theirs *net.OpError
	switch {
	case errors.Is(err, io.EOF):
	case errors.As(err, &theirs) && theirs.Op == "remote error":
		if g.lines.Allow() {
			g.log.Warn("a caller does not take this server's certificate", "address", raw.RemoteAddr().String(), "reason", theirs.Err)
		}
	default:
		_ = g.deny(context.Background(), refusedHandshake(raw, err))
	}
}

// refusedHandshake names the node that a certificate which does not hold is said to be of.
func refusedHandshake(raw net.Conn, err error) Denial {
	d := Denial{Address: raw.RemoteAddr().String(), Method: "handshake", Reason: err.Error()}
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		if n, err := certs.NodeOf(unverified.UnverifiedCertificates[0]); err == nil {
			d.Gateway, d.Node = n.Gateway, n.Node
		}
	}
	return d
}

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.guard}
}

// served tells whether nodes may call a method.
func served(method string) bool {
	switch method {
	case discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName,
		discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName,
		loadstatsv3.LoadReportingService_StreamLoadStats_FullMethodName:
		return true
	}
	return false
}

// unary lets those who may have a stream ask whether the server serves, and nothing else.
func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	d := Denial{Address: addressIn(ctx), Method: info.FullMethod, Reason: "no such call is served"}
	if info.FullMethod != healthpb.Health_Check_FullMethodName {
		return nil, g.deny(ctx, d)
	}
	if err := g.known(ctx); err != nil {
		d.Reason = err.Error()
		return nil, g.deny(ctx, d)
	}
	return handler(ctx, req)
}

// known is nil where the caller has the certificate of a node, which holds.
func (g *guard) known(ctx context.Context) error {
	info, ok := peer.FromContext(ctx)
	if !ok {
		return errors.New("nobody is known to call")
	}
	secured, ok := info.AuthInfo.(proven)
	if !ok {
		return errors.New("the connection has no TLS")
	}
	if secured.caller == nil {
		return errNoCertificate
	}
	if err := secured.caller.Check(); err != nil {
		return err
	}
	_, err := certs.NodeOf(secured.caller.Certificate)
	return err
}

func (g *guard) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	asked := &guarded{ServerStream: s, guard: g, ctx: ctx, cancel: cancel, what: Denial{Address: addressIn(ctx), Method: info.FullMethod}}
	if err := asked.open(info.FullMethod); err != nil {
		return err
	}
	watched := make(chan struct{})
	go func() { defer close(watched); asked.watch() }()
	err := handler(srv, asked)
	cancel()
	<-watched
	if denial := asked.denial(); denial != nil {
		return denial
	}
	return err
}

// certificateKey is where a stream's context has the caller's certificate.
type certificateKey struct{}

// certificateIn is that of a stream's caller, nil without one.
func certificateIn(ctx context.Context) *x509.Certificate {
	c, _ := ctx.Value(certificateKey{}).(*x509.Certificate)
	return c
}

func addressIn(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// guarded is a stream on which everything that is said is said as the node of the caller's certificate.
type guarded struct {
	grpc.ServerStream
	guard    *guard
	ctx      context.Context
	cancel   context.CancelFunc
	conn     net.Conn
	caller   *certs.Caller
	identity certs.Node

	mu   sync.Mutex
	what Denial       // filled in so far
	node *corev3.Node // as it first named itself
	err  error        // why the stream is at its end
}

// Context implements grpc.ServerStream. It ends when the caller is no longer let in.
func (s *guarded) Context() context.Context { return s.ctx }

func (s *guarded) open(method string) error {
	info, ok := peer.FromContext(s.ctx)
	if !ok {
		return s.deny(errors.New("nobody is known to call"))
	}
	secured, ok := info.AuthInfo.(proven)
	if !ok {
		return s.deny(errors.New("the connection has no TLS"))
	}
	if secured.caller == nil {
		return s.deny(errNoCertificate)
	}
	s.conn, s.caller, s.what.Caller = secured.conn, secured.caller, secured.caller.Name()
	err := s.caller.Check()
	if err != nil {
		return s.turnOut(err)
	}
	if s.identity, err = certs.NodeOf(s.caller.Certificate); err != nil {
		return s.deny(err)
	}
	s.ctx = context.WithValue(s.ctx, certificateKey{}, s.caller.Certificate)
	if !served(method) {
		return s.deny(errors.New("no such call is served"))
	}
	return nil
}

// deny ends the stream; the first reason counts.
func (s *guarded) deny(reason error) error {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = errDenied
		s.what.Reason = reason.Error()
	}
	what := s.what
	s.mu.Unlock()
	s.cancel()
	if first {
		return s.guard.deny(s.ctx, what)
	}
	return errDenied
}

// turnOut ends the connection, too, soon after it has been told why: the next one is made with another certificate, if the
// caller has got one meanwhile.
func (s *guarded) turnOut(reason error) error {
	time.AfterFunc(farewell, func() { _ = s.conn.Close() })
	return s.deny(reason)
}

func (s *guarded) denial() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watch ends the stream when the caller's certificate is no longer good, whoever is silent.
func (s *guarded) watch() {
	tick := time.NewTicker(s.guard.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.caller.Check(); err != nil {
				_ = s.turnOut(err)
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// SendMsg implements grpc.ServerStream: nothing leaves after a denial.
func (s *guarded) SendMsg(m any) error {
	if err := s.denial(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg implements grpc.ServerStream. Each message is looked at: a node may name itself anew in any of them.
func (s *guarded) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := s.denial(); err != nil {
		return err
	}
	if err := s.caller.Check(); err != nil {
		return s.turnOut(err)
	}
	asks, ok := m.(interface{ GetNode() *corev3.Node })
	if !ok {
		return s.deny(fmt.Errorf("a %T names no node", m))
	}
	if err := s.check(asks.GetNode()); err != nil {
		return s.deny(err)
	}
	return nil
}

// check holds who a message says it is from against the certificate, and against what was said before.
func (s *guarded) check(node *corev3.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case node == nil && s.node == nil:
		return errors.New("the first request names no node")
	case node == nil:
		return nil
	}
	s.what.Gateway, s.what.Node = node.GetCluster(), node.GetId()
	if !s.identity.Covers(node.GetCluster(), node.GetId()) {
		return errors.New("the node is not that of the certificate")
	}
	if s.node != nil && (s.node.GetId() != node.GetId() || s.node.GetCluster() != node.GetCluster()) {
		return errors.New("the node is not the one that the stream began with")
	}
	s.node = node
	return nil
}
