package xds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// TestStolenCertificate_OfAnotherGateway tries every call there is, and some that there are not, with a good certificate
// of the node s1 of the gateway shop.
func TestStolenCertificate_OfAnotherGateway(t *testing.T) {
	d := openDoor(t)
	stolen := d.node("shop", "s1")
	own, others := node("shop", "s1"), secretOf("edge")
	load := func(n *corev3.Node) proto.Message { return &loadstatsv3.LoadStatsRequest{Node: n} }
	sotw := func(n *corev3.Node) proto.Message {
		return &discoveryv3.DiscoveryRequest{Node: n, TypeUrl: resource.SecretType, ResourceNames: []string{others}}
	}
	type attempt struct {
		name, method string
		messages     []proto.Message
		reason       string
	}
	tests := []attempt{
		{"another gateway", deltaMethod, []proto.Message{delta(node("edge", "s1"), resource.ClusterType, "*")}, "not that of the certificate"},
		{"another gateway's node", deltaMethod, []proto.Message{delta(node("edge", "e1"), resource.ClusterType, "*")}, "not that of the certificate"},
		{"another gateway's agent", deltaMethod, []proto.Message{delta(node("edge", "agent-s1"), "type.googleapis.com/sluice.agent.v1.Policy", "*")}, "not that of the certificate"},
		{"another gateway's secret", deltaMethod, []proto.Message{delta(node("edge", "s1"), resource.SecretType, others)}, "not that of the certificate"},
		{"another node", deltaMethod, []proto.Message{delta(node("shop", "s2"), resource.ClusterType, "*")}, "not that of the certificate"},
		{"another spelling", deltaMethod, []proto.Message{delta(node("Edge", "s1"), resource.ClusterType, "*")}, "not that of the certificate"},
		{"no node", deltaMethod, []proto.Message{delta(nil, resource.ClusterType, "*")}, "names no node"},
		{"an empty node", deltaMethod, []proto.Message{delta(&corev3.Node{}, resource.ClusterType, "*")}, "not that of the certificate"},
		{"no gateway", deltaMethod, []proto.Message{delta(node("", "s1"), resource.ClusterType, "*")}, "not that of the certificate"},
		{"another gateway later", deltaMethod, []proto.Message{delta(own, resource.ClusterType, "*"), delta(node("edge", "s1"), resource.ListenerType, "*")}, "not that of the certificate"},
		{"another gateway in the third", deltaMethod, []proto.Message{delta(own, resource.ClusterType, "*"), delta(nil, resource.ListenerType, "*"),
			delta(node("edge", "e1"), resource.SecretType, others)}, "not that of the certificate"},
		{"another node of its own later", deltaMethod, []proto.Message{delta(own, resource.ClusterType, "*"), delta(node("shop", "agent-s1"), resource.ListenerType, "*")}, "not the one that the stream began with"},
		{"an empty node later", deltaMethod, []proto.Message{delta(own, resource.ClusterType, "*"), delta(&corev3.Node{}, resource.ListenerType, "*")}, "not that of the certificate"},
		{"state of the world", sotwMethod, []proto.Message{sotw(node("edge", "e1"))}, "not that of the certificate"},
		{"state of the world without a node", sotwMethod, []proto.Message{sotw(nil)}, "names no node"},
		{"load reports", loadMethod, []proto.Message{load(node("edge", "e1"))}, "not that of the certificate"},
		{"load reports without a node", loadMethod, []proto.Message{load(nil)}, "names no node"},
		{"load reports, another gateway later", loadMethod, []proto.Message{load(own), load(node("edge", "e1"))}, "not that of the certificate"},
	}
	for _, method := range []string{
		"/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters", "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
		"/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters", "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
		"/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
		"/envoy.service.listener.v3.ListenerDiscoveryService/FetchListeners", "/envoy.service.route.v3.RouteDiscoveryService/FetchRoutes",
		"/envoy.service.endpoint.v3.EndpointDiscoveryService/FetchEndpoints", "/envoy.service.runtime.v3.RuntimeDiscoveryService/FetchRuntime",
		"/envoy.service.extension.v3.ExtensionConfigDiscoveryService/FetchExtensionConfigs",
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/FetchAggregatedResources",
		"/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Watch", "/nobody.has.thought/OfThis",
	} {
		tests = append(tests, attempt{"with another's node " + method, method, []proto.Message{sotw(node("edge", "e1"))}, "no such call"},
			attempt{"with its own node " + method, method, []proto.Message{sotw(own)}, "no such call"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.mu.Lock()
			d.denials = nil
			d.mu.Unlock()
			code, heard := d.call(d.dial(&stolen), tt.method).say(tt.messages...).end()
			if code != codes.PermissionDenied {
				t.Errorf("ends with %v", code)
			}
			if strings.Contains(heard, "edge") {
				t.Errorf("was told of another gateway: %q", heard)
			}
			denial := d.heard(tt.reason)
			if denial.Caller != "spiffe://sluice/gateway/shop/node/s1" || denial.Method != tt.method || denial.Address == "" {
				t.Errorf("%+v", denial)
			}
		})
	}
	for _, e := range d.server.Envoys() {
		if e.Gateway != "shop" {
			t.Errorf("counts as a node of %s: %+v", e.Gateway, e)
		}
	}
}

// TestStolenCertificate_InItsOwnGateway gets what its node would get, and no secret that it does not name.
func TestStolenCertificate_InItsOwnGateway(t *testing.T) {
	d := openDoor(t)
	stolen := d.node("shop", "s1")
	c := d.call(d.dial(&stolen), deltaMethod)
	c.say(delta(node("shop", "s1"), resource.SecretType, "*", secretOf("edge"), "spiffe://sluice/"+secretOf("edge")),
		delta(nil, resource.SecretType+"x", "*"), delta(nil, resource.ClusterType, "*"))
	for {
		m := &discoveryv3.DeltaDiscoveryResponse{}
		if err := c.RecvMsg(m); err != nil {
			t.Fatal(err)
		}
		if text, _ := proto.Marshal(m); strings.Contains(string(text), "edge") && len(m.GetResources()) > 0 {
			t.Errorf("was told of another gateway: %v", m)
		}
		if m.GetTypeUrl() == resource.ClusterType {
			break // after secrets, by the order of sending
		}
	}
	if code, _ := d.call(d.dial(&stolen), sotwMethod).say(&discoveryv3.DiscoveryRequest{Node: node("shop", "s1")}).end(); code != codes.Unimplemented {
		t.Errorf("state of the world ends with %v", code)
	}
	load := d.call(d.dial(&stolen), loadMethod).say(&loadstatsv3.LoadStatsRequest{Node: node("shop", "s1")})
	if err := load.RecvMsg(load.answer()); err != nil {
		t.Error(err)
	}
}

// TestHealth is told to nodes, and to nobody else.
func TestHealth(t *testing.T) {
	d := openDoor(t)
	s1, person := d.node("shop", "s1"), d.issue(certs.Request{Client: &certs.Client{Role: certs.RoleSecrets, Name: "alice"}})
	for _, tt := range []struct {
		name string
		pair *certs.Pair
		code codes.Code
	}{{"a node", &s1, codes.OK}, {"a person", &person, codes.PermissionDenied}, {"nobody", nil, codes.Unavailable}} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := healthpb.NewHealthClient(d.dial(tt.pair)).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if status.Code(err) != tt.code {
				t.Errorf("ends with %v", err)
			}
		})
	}
	if _, err := healthpb.NewHealthClient(d.dial(&s1)).List(t.Context(), &healthpb.HealthListRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another call ends with %v", err)
	}
}

// TestCertificatesThatAreNotEnough get no further than the handshake, or no further than the first request.
func TestCertificatesThatAreNotEnough(t *testing.T) {
	d := openDoor(t)
	good := d.authority
	stranger, pair, err := certs.NewAuthority("stranger", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	d.pool.AddCert(pair.Certificate)
	d.authority = stranger
	unknown := d.node("edge", "e1")
	d.authority = good
	revoked := d.node("edge", "e1")
	d.revoke(revoked.Certificate.SerialNumber)
	expired := d.issue(certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}, Lifetime: time.Nanosecond})
	person := d.issue(certs.Request{Client: &certs.Client{Role: certs.RoleSecrets, Name: "alice"}})
	host := d.issue(certs.Request{Hosts: []string{"e1"}})
	wide := d.issue(certs.Request{Node: &certs.Node{Gateway: "edge"}})
	tests := []struct {
		name   string
		pair   *certs.Pair
		code   codes.Code
		reason string
	}{
		{"none", nil, codes.Unavailable, "didn't provide a certificate"},
		{"of an unknown authority", &unknown, codes.Unavailable, "unknown authority"},
		{"expired", &expired, codes.Unavailable, "expired"},
		{"revoked", &revoked, codes.Unavailable, "revoked"},
		{"a server's", &host, codes.Unavailable, "incompatible key usage"},
		{"a person's", &person, codes.PermissionDenied, "no Envoy or agent"},
		{"any node's of its gateway", &wide, codes.OK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			until(t, "the end that is expected", func() bool { // the revocation list is read within a second
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				conn := d.dial(tt.pair)
				s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, deltaMethod)
				if err == nil {
					c := call{s, conn, func() proto.Message { return &discoveryv3.DeltaDiscoveryResponse{} }}
					c.say(delta(node("edge", "e1"), resource.ClusterType, "*"))
					err = s.RecvMsg(&discoveryv3.DeltaDiscoveryResponse{})
				}
				return status.Code(err) == tt.code
			})
			if tt.reason != "" {
				d.heard(tt.reason)
			}
		})
	}
	t.Run("one who does not trust the server is no stranger", func(t *testing.T) {
		conn, err := tls.Dial("tcp", d.address, &tls.Config{RootCAs: x509.NewCertPool()})
		if err == nil {
			conn.Close()
			t.Fatal("it does")
		}
		until(t, "it is logged", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return strings.Contains(d.logged.String(), "does not take this server's certificate")
		})
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, denial := range d.denials {
			if strings.Contains(denial.Reason, "remote error") {
				t.Errorf("it counts as denied: %+v", denial)
			}
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///"+d.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Invoke(t.Context(), deltaMethod, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		d.heard("first record does not look like a TLS handshake")
	})
}

// TestOpenStreams_EndWithTheirCertificates although nobody says a word on them.
func TestOpenStreams_EndWithTheirCertificates(t *testing.T) {
	d := openDoor(t)
	short := d.issue(certs.Request{Node: &certs.Node{Gateway: "edge", Node: "short"}, Lifetime: 2 * time.Second})
	revoked, kept := d.node("edge", "revoked"), d.node("edge", "kept")
	open := func(pair *certs.Pair, id string) call {
		c := d.call(d.dial(pair), deltaMethod).say(delta(node("edge", id), resource.ClusterType, "*"))
		if err := c.RecvMsg(c.answer()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	expires, revokes, stays := open(&short, "short"), open(&revoked, "revoked"), open(&kept, "kept")
	if code, _ := expires.end(); code != codes.PermissionDenied {
		t.Errorf("the one that expires ends with %v", code)
	}
	d.revoke(revoked.Certificate.SerialNumber)
	if code, _ := revokes.end(); code != codes.PermissionDenied {
		t.Errorf("the one that is revoked ends with %v", code)
	}
	d.heard("revoked")
	until(t, "the end of its connection", func() bool { return !revokes.isConnected() })
	for _, e := range d.server.Envoys() {
		if e.Node == "kept" && (e.Certificate == nil || e.Certificate.Name != "spiffe://sluice/gateway/edge/node/kept" || e.Certificate.Advice != "") {
			t.Errorf("certificate of the one that is good: %+v", e.Certificate)
		}
	}
	stays.say(delta(nil, resource.ListenerType, "*"))
	if err := stays.RecvMsg(stays.answer()); err != nil {
		t.Errorf("the one that is good ends with %v", err)
	}
}

// TestSameNodeIDInTwoGateways: neither takes the other's place.
func TestSameNodeIDInTwoGateways(t *testing.T) {
	d := openDoor(t)
	for _, gateway := range []string{"edge", "shop"} {
		pair := d.node(gateway, "n1")
		c := d.call(d.dial(&pair), deltaMethod).say(delta(node(gateway, "n1"), resource.ClusterType, "*"))
		if err := c.RecvMsg(c.answer()); err != nil {
			t.Fatal(err)
		}
	}
	list := d.server.Envoys()
	if len(list) != 2 || list[0].Gateway != "edge" || list[1].Gateway != "shop" || !list[0].Connected || !list[1].Connected {
		t.Errorf("%+v", list)
	}
}
