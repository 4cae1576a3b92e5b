package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// lines is a backend that switches protocols when asked, and then sends every line back.
func lines(t *testing.T) string {
	return gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		if !strings.EqualFold(r.Header.Get("upgrade"), "websocket") {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, line)
		}
	}))
}

// dial opens a connection and sends one request head on it.
func dial(t *testing.T, g *gateway.Gateway, head string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(gateway.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, r, resp
}

const webSocketHead = "GET %s HTTP/1.1\r\nHost: food.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

func TestUpgrade_WebSocketsPassWhereTheyMay(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: chat}
spec: {endpoints: [` + lines(t) + `], upgrade: {websocket: true}, timeout: 200ms}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: chat}
spec:
  rules:
    - {match: /chat, to: chat}
    - {match: /off, to: chat, upgrade: {websocket: false}}
    - {match: /slow, to: chat}
`})
	conn, r, resp := dial(t, g, fmt.Sprintf(webSocketHead, "/chat"))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	say := func(what string) {
		t.Helper()
		_, _ = io.WriteString(conn, what+"\n")
		if got, err := r.ReadString('\n'); err != nil || got != what+"\n" {
			t.Errorf("said %q, heard %q, %v", what, got, err)
		}
	}
	say("before")
	for range 3 { // by then the route's timeout has long passed for the open connection
		if status, _, _ := g.Get("/slow"); status != http.StatusGatewayTimeout {
			t.Errorf("slow: status %d", status)
		}
	}
	say("after")
	if _, _, resp := dial(t, g, fmt.Sprintf(webSocketHead, "/off")); resp.StatusCode != http.StatusForbidden {
		t.Errorf("where it is off: status %d", resp.StatusCode)
	}
}

func TestUpgrade_ConnectIsRefused(t *testing.T) {
	backend := lines(t)
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: chat}
spec: {endpoints: [` + backend + `], upgrade: {websocket: true}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: chat}
spec: {match: /*, to: chat}
`})
	for _, head := range []string{
		"CONNECT " + backend + " HTTP/1.1\r\nHost: " + backend + "\r\n\r\n",
		strings.Replace(fmt.Sprintf(webSocketHead, "/"), "websocket", "h2c", 1),
		strings.Replace(fmt.Sprintf(webSocketHead, "/"), "websocket", "tls/1.2", 1),
	} {
		_, _, resp := dial(t, g, head)
		if first, _, _ := strings.Cut(head, "\r\n"); resp.StatusCode < 400 {
			t.Errorf("%s: status %d", first, resp.StatusCode)
		}
	}
}

// echoServer sends every message back, and says at the end how many there were, in a trailer.
type echoServer struct {
	testgrpc.UnimplementedTestServiceServer
	more chan struct{} // when closed, streams go on
}

func (e echoServer) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if wants := in.Get("fail"); len(wants) > 0 {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("why", "asked to"))
		return nil, status.Error(codes.FailedPrecondition, "as you wish")
	}
	return &testgrpc.SimpleResponse{Payload: r.GetPayload()}, nil
}

func (e echoServer) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	n := 0
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("messages", fmt.Sprint(n)))
			return nil
		}
		if err != nil {
			return err
		}
		n++
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

func (e echoServer) StreamingOutputCall(_ *testgrpc.StreamingOutputCallRequest, s testgrpc.TestService_StreamingOutputCallServer) error {
	if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: payload("one")}); err != nil {
		return err
	}
	select {
	case <-e.more:
		return s.Send(&testgrpc.StreamingOutputCallResponse{Payload: payload("two")})
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

// grpcBackend is a real gRPC server.
func grpcBackend(t *testing.T, more chan struct{}) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, echoServer{more: more})
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return lis.Addr().String()
}

func grpcClient(t *testing.T, g *gateway.Gateway, authority string) testgrpc.TestServiceClient {
	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", g.Port), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

func payload(text string) *testgrpc.Payload { return &testgrpc.Payload{Body: []byte(text)} }

func TestGRPC_PassesFromEndToEnd(t *testing.T) {
	more := make(chan struct{})
	g := gateway.Start(t, map[string]string{"policy.yaml": `
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: [` + grpcBackend(t, more) + `], protocol: grpc, timeout: 0s}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: gone}
spec: {endpoints: [], protocol: grpc}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: echo}
spec: {hosts: [echo.example], match: POST /grpc.testing.TestService/*, to: echo}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: bounded}
spec: {hosts: [bounded.example], match: POST /grpc.testing.TestService/*, to: echo, timeout: 200ms}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: gone}
spec: {hosts: [gone.example], match: POST /grpc.testing.TestService/*, to: gone}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: other}
spec: {hosts: [other.example], match: POST /other.Service/*, to: echo}
`})
	ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
	defer cancel()
	client := grpcClient(t, g, "echo.example")

	t.Run("one call", func(t *testing.T) {
		got, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: payload("pizza")})
		if err != nil || string(got.GetPayload().GetBody()) != "pizza" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("the service's own error, with its trailers", func(t *testing.T) {
		var trailer metadata.MD
		_, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "fail", "1"), &testgrpc.SimpleRequest{}, grpc.Trailer(&trailer))
		if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "as you wish" || fmt.Sprint(trailer.Get("why")) != "[asked to]" {
			t.Errorf("%v, trailers %v", err, trailer)
		}
	})
	t.Run("a stream in both directions, with a trailer", func(t *testing.T) { bothWays(ctx, t, client) })
	t.Run("a stream from the service, for as long as the timeout says", func(t *testing.T) {
		long, short := events(ctx, t, client), events(ctx, t, grpcClient(t, g, "bounded.example"))
		if _, err := short.Recv(); err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
			t.Errorf("the stream with a timeout ended with %v", err)
		}
		close(more)
		if got, err := long.Recv(); err != nil || string(got.GetPayload().GetBody()) != "two" {
			t.Errorf("the stream without a timeout: %v, %v", got, err)
		}
	})
	for authority, want := range map[string]codes.Code{"gone.example": codes.Unavailable, "other.example": codes.Unimplemented, "nobody.example": codes.Unimplemented} {
		t.Run("the gateway's own answer for "+authority, func(t *testing.T) {
			_, err := grpcClient(t, g, authority).UnaryCall(ctx, &testgrpc.SimpleRequest{})
			if status.Code(err) != want {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
}

// events starts a stream from the service, and waits for its first message.
func events(ctx context.Context, t *testing.T, client testgrpc.TestServiceClient) testgrpc.TestService_StreamingOutputCallClient {
	t.Helper()
	s, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recv(); err != nil || string(got.GetPayload().GetBody()) != "one" {
		t.Fatalf("%v, %v", got, err)
	}
	return s
}

// bothWays talks over one call.
func bothWays(ctx context.Context, t *testing.T, client testgrpc.TestServiceClient) {
	s, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"one", "two"} {
		if err := s.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(what)}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || string(got.GetPayload().GetBody()) != what {
			t.Fatalf("said %q, heard %v, %v", what, got, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if got := fmt.Sprint(s.Trailer().Get("messages")); got != "[2]" {
		t.Errorf("the trailer says %s messages", got)
	}
}
