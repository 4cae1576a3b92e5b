package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// largestRequest bounds what an Envoy may send at once, in bytes: a reconnecting one names all it has.
const largestRequest = 16 << 20

// Config is what a Server can be told. The zero value works.
type Config struct {
	// Log takes connects, disconnects and refusals. Default: nothing is logged.
	Log *slog.Logger
	// PhaseTimeout is how long clusters and the like may take to become ready before listeners and routes go out all
	// the same. Default 5s.
	PhaseTimeout time.Duration
	// DrainDelay is how long requests that took an old route have before its clusters are removed. Default 50ms.
	DrainDelay time.Duration
	// StaleAfter is how long an Envoy may be updating before it counts as stale. Default 15s.
	StaleAfter time.Duration
	// RememberFor is how long an Envoy that is gone is remembered, at most RememberMost of them. Default 15m and 10,000.
	RememberFor  time.Duration
	RememberMost int
	// Credentials secure what Run serves: with them every caller needs the certificate of a node, and acts as that node
	// only. Without them anybody who can connect is believed, so that Run is to listen where only this host can.
	Credentials *certs.Credentials
	// CheckEvery is how often the certificates of those who are connected are held against time and revocations, beside
	// each request. Default 2s.
	CheckEvery time.Duration
	// Reports are told what nodes say of types of which they are the source, by type URL: versions by name. Such a request
	// is not answered.
	Reports map[string]func(versions map[string]string)
	// Denied is told what was refused because of who asked, while the caller waits. Default: it is only logged.
	Denied func(context.Context, Denial)
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	orDefault(&c.PhaseTimeout, 5*time.Second)
	orDefault(&c.DrainDelay, 50*time.Millisecond)
	orDefault(&c.StaleAfter, 15*time.Second)
	orDefault(&c.RememberFor, 15*time.Minute)
	orDefault(&c.CheckEvery, 2*time.Second)
	if c.RememberMost <= 0 {
		c.RememberMost = 10_000
	}
	return c
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Server serves every Envoy the newest snapshot of its gateway. It is safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	cfg     Config
	diffs   diffs
	metrics *metrics
	closing chan struct{}
	close   sync.Once
	health  *health.Server

	mu       sync.Mutex
	gateways map[string]*gateway
	registry registry
}

// gateway is what the Envoys of one gateway share.
type gateway struct {
	name   string
	target atomic.Pointer[target]

	// Under Server.mu:
	streams map[*node]struct{} // connected, also those whose node id another one has taken over
	changed chan struct{}      // closed and replaced when a node reaches its target, comes or goes, or the target changes
}

// New makes a server without targets: Envoys that connect get nothing until their gateway is published.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), closing: make(chan struct{}), gateways: map[string]*gateway{}, health: health.NewServer()}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	s.registry = newRegistry(s.cfg.RememberFor, s.cfg.RememberMost)
	s.metrics = newMetrics(s)
	return s
}

// Register adds the aggregated discovery service to a gRPC server, and its health: it serves once anything has been
// published, so that a server that lost its store gives no Envoy reason to stay.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	loadstatsv3.RegisterLoadReportingServiceServer(g, loadReports{closing: s.closing})
	healthpb.RegisterHealthServer(g, s.health)
}

// Run serves on lis until ctx ends, then ends all streams and returns nil; Envoys keep what they have. It closes lis.
// A Server runs once.
func (s *Server) Run(ctx context.Context, lis net.Listener) error {
	options, err := s.options()
	if err != nil {
		return errors.Join(fmt.Errorf("xds: %w", err), lis.Close())
	}
	g := grpc.NewServer(options...)
	s.Register(g)
	stopped := make(chan struct{})
	end := context.AfterFunc(ctx, func() { defer close(stopped); s.stop(g) })
	err = g.Serve(lis)
	if end() {
		s.Close()
		g.Stop()
		return fmt.Errorf("xds: serve %s: %w", lis.Addr(), err)
	}
	<-stopped
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("xds: serve %s: %w", lis.Addr(), err)
	}
	return nil
}

func (s *Server) options() ([]grpc.ServerOption, error) {
	out := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(largestRequest),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
	if s.cfg.Credentials == nil {
		return out, nil
	}
	g := &guard{
		credentials: s.cfg.Credentials, every: s.cfg.CheckEvery, denied: s.cfg.Denied, metrics: s.metrics, log: s.cfg.Log,
		lines: rate.NewLimiter(5, 50),
	}
	guarded, err := g.options()
	return append(out, guarded...), err
}

// stop ends the streams and waits for them, but not for one whose Envoy does not read.
func (s *Server) stop(g *grpc.Server) {
	s.Close()
	timer := time.AfterFunc(2*time.Second, g.Stop)
	defer timer.Stop()
	g.GracefulStop()
}

// Close ends all streams, now and later ones. Run does it itself.
func (s *Server) Close() { s.close.Do(func() { close(s.closing); s.health.Shutdown() }) }

// TurnAway ends the streams that there are, without an error, and says how many. Envoys connect again at once, to the
// server that they prefer of those that they reach.
func (s *Server) TurnAway() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	turned := 0
	for _, g := range s.gateways {
		for n := range g.streams {
			signal(n.leave)
			turned++
		}
	}
	return turned
}

// Publish makes snap what the Envoys of a gateway should have, and returns at once. The newest target wins; one with
// the digest of the present target changes nothing.
func (s *Server) Publish(gateway string, snap *snapshot.Snapshot) {
	if snap == nil {
		s.Withdraw(gateway)
		return
	}
	s.retarget(gateway, newTarget(snap, time.Now()))
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
}

// Withdraw makes a gateway unknown: its Envoys keep what they have and get nothing more.
func (s *Server) Withdraw(gateway string) { s.retarget(gateway, nil) }

func (s *Server) retarget(name string, t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gatewayNamed(name)
	defer s.dropUnused(g)
	if was := g.target.Load(); was != nil && t != nil && was.snap.Digest() == t.snap.Digest() {
		return
	}
	g.target.Store(t)
	for n := range g.streams {
		signal(n.wake)
	}
	g.announce()
}

func (s *Server) gatewayNamed(name string) *gateway {
	g, ok := s.gateways[name]
	if !ok {
		g = &gateway{name: name, streams: map[*node]struct{}{}, changed: make(chan struct{})}
		s.gateways[name] = g
	}
	return g
}

// dropUnused forgets a gateway that has neither target nor Envoy, such as one that only an Envoy named.
func (s *Server) dropUnused(g *gateway) {
	if len(g.streams) == 0 && g.target.Load() == nil {
		delete(s.gateways, g.name)
	}
}

func (g *gateway) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// announce tells those who wait that a node of the gateway has reached its target.
func (s *Server) announce(g *gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.announce()
}

// signal tells the goroutine of a node's stream something that it need hear only once.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// attach finds or makes the record of an Envoy whose stream begins. An Envoy that comes while another stream of its gateway
// has its node id takes the id over; the other one is served on, with a record that nobody sees: it may be a dead connection,
// or the old process of a hot restart.
func (s *Server) attach(info nodeInfo) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gatewayNamed(info.gateway)
	n := s.registry.find(info.key())
	if n != nil && s.live(n) {
		s.cfg.Log.Warn("another envoy has the same node id", "node", info.id, "address", info.address, "other", n.address())
	}
	if n == nil || s.live(n) {
		n = newNode(s, g, info)
	}
	n.connect(g, info, time.Now())
	s.registry.connected(n)
	g.streams[n] = struct{}{}
	g.announce()
	return n
}

func (s *Server) live(n *node) bool {
	_, ok := n.gateway.streams[n]
	return ok
}

func (s *Server) detach(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	n.disconnect(now)
	delete(n.gateway.streams, n)
	s.registry.disconnected(n, now)
	n.gateway.announce()
	s.dropUnused(n.gateway)
}
