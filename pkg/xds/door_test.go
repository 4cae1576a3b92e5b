package xds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// door is a server that lets nobody in unproven, with the gateways edge and shop.
type door struct {
	t         *testing.T
	dir       string
	authority *certs.Authority
	pool      *x509.CertPool
	address   string
	server    *xds.Server

	mu      sync.Mutex
	denials []xds.Denial
	logged  strings.Builder
}

// Write takes what the server logs.
func (d *door) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logged.Write(p)
}

const (
	deltaMethod = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName
	sotwMethod  = discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName
	loadMethod  = loadstatsv3.LoadReportingService_StreamLoadStats_FullMethodName
)

// secretOf is in every resource of a gateway, and nowhere else.
func secretOf(gateway string) string { return "secret-of-" + gateway }

func openDoor(t *testing.T) *door {
	t.Helper()
	d := &door{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	authority, pair, err := certs.NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	d.authority = authority
	d.pool.AddCert(pair.Certificate)
	d.write("ca.crt", pair.CertificatePEM)
	d.revoke()
	own := d.issue(certs.Request{Hosts: []string{"127.0.0.1"}})
	d.write("server.crt", own.CertificatePEM)
	d.write("server.key", own.KeyPEM)
	open, err := certs.Open("xds", certs.Files{
		Certificate: d.path("server.crt"), Key: d.path("server.key"), CA: d.path("ca.crt"), CRL: d.path("ca.crl"),
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.server = xds.New(xds.Config{Credentials: open, CheckEvery: 50 * time.Millisecond, Denied: d.note, Log: slog.New(slog.NewTextHandler(d, nil))})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = lis.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.server.Run(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, gateway := range []string{"edge", "shop"} {
		d.server.Publish(gateway, confidential(gateway))
	}
	return d
}

// confidential is a snapshot of which every resource holds the gateway's secret.
func confidential(gateway string) *snapshot.Snapshot {
	body := map[string][]byte{secretOf(gateway): []byte("\n" + secretOf(gateway))}
	tables := map[string]*snapshot.Table{}
	for _, url := range []string{resource.ClusterType, resource.ListenerType, resource.SecretType, resource.RouteType,
		"type.googleapis.com/sluice.agent.v1.Policy"} {
		tables[url] = snapshot.NewTable(body)
	}
	return snapshot.New(tables)
}

func (d *door) path(name string) string { return filepath.Join(d.dir, name) }

func (d *door) write(name string, text []byte) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name+".new"), text, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(d.path(name+".new"), d.path(name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *door) revoke(serials ...*big.Int) {
	d.t.Helper()
	text, err := d.authority.Revoke(nil, serials...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write("ca.crl", text)
}

func (d *door) issue(r certs.Request) certs.Pair {
	d.t.Helper()
	if r.Lifetime == 0 {
		r.Lifetime = 30 * time.Minute
	}
	pair, err := d.authority.Issue(r)
	if err != nil {
		d.t.Fatal(err)
	}
	return pair
}

func (d *door) node(gateway, node string) certs.Pair {
	return d.issue(certs.Request{Node: &certs.Node{Gateway: gateway, Node: node}})
}

func (d *door) note(_ context.Context, denial xds.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denials = append(d.denials, denial)
}

// heard waits for a denial for such a reason.
func (d *door) heard(reason string) xds.Denial {
	d.t.Helper()
	var found xds.Denial
	until(d.t, "a denial for "+reason, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, denial := range d.denials {
			if strings.Contains(denial.Reason, reason) {
				found = denial
				return true
			}
		}
		return false
	})
	return found
}

// dial connects with a certificate; with none, without.
func (d *door) dial(pair *certs.Pair) *grpc.ClientConn {
	d.t.Helper()
	config := &tls.Config{RootCAs: d.pool}
	if pair != nil {
		own, err := tls.X509KeyPair(pair.CertificatePEM, pair.KeyPEM)
		if err != nil {
			d.t.Fatal(err)
		}
		// Shown whatever the server asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	conn, err := grpc.NewClient("passthrough:///"+d.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// call is one stream of any method.
type call struct {
	grpc.ClientStream
	conn   *grpc.ClientConn
	answer func() proto.Message
}

func (c call) isConnected() bool { return c.conn.GetState() == connectivity.Ready }

func (d *door) call(conn *grpc.ClientConn, method string) call {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	d.t.Cleanup(cancel)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		d.t.Fatal(err)
	}
	c := call{s, conn, func() proto.Message { return &discoveryv3.DeltaDiscoveryResponse{} }}
	if method == sotwMethod {
		c.answer = func() proto.Message { return &discoveryv3.DiscoveryResponse{} }
	}
	if method == loadMethod {
		c.answer = func() proto.Message { return &loadstatsv3.LoadStatsResponse{} }
	}
	return c
}

// say sends messages, as far as anybody listens.
func (c call) say(messages ...proto.Message) call {
	for _, m := range messages {
		_ = c.SendMsg(m)
	}
	return c
}

// end is how the stream ends, and all that was said on it before.
func (c call) end() (codes.Code, string) {
	var heard strings.Builder
	for {
		m := c.answer()
		if err := c.RecvMsg(m); err != nil {
			return status.Code(err), heard.String()
		}
		text, _ := proto.Marshal(m)
		heard.Write(text)
	}
}

func node(gateway, id string) *corev3.Node {
	return &corev3.Node{Cluster: gateway, Id: id, UserAgentName: "envoy"}
}

func delta(n *corev3.Node, typeURL string, names ...string) proto.Message {
	return &discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: typeURL, ResourceNamesSubscribe: names}
}
