package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// problem is application/problem+json as Sluice writes it.
type problem struct {
	Type, Title, Detail, RequestID string
	Status                         int
}

// problemIn is the problem that an answer holds; the test fails when it holds anything else.
func problemIn(t *testing.T, body string, header http.Header) problem {
	t.Helper()
	if got := header.Get("content-type"); got != "application/problem+json" {
		t.Errorf("content-type is %q", got)
	}
	var p problem
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if p.RequestID != header.Get("x-request-id") {
		t.Errorf("requestId %q, header %q", p.RequestID, header.Get("x-request-id"))
	}
	return p
}

// mute is an instance that takes connections and answers with these bytes, then hangs up.
func mute(t *testing.T, says string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			_, _ = c.Read(buffer)
			_, _ = io.WriteString(c, says)
			_ = c.Close()
		}
	}()
	return lis.Addr().String()
}

func TestErrors_EveryAnswerOfTheGatewayIsAProblem(t *testing.T) {
	release := make(chan struct{})
	slow := gateway.Backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) })
	g := gateway.Start(t, map[string]string{"policy.yaml": edge() +
		service("dead", dead(t), "") + service("rude", mute(t, ""), "") + service("odd", mute(t, "what?\r\n\r\n"), "") +
		service("slow", slow, "") + service("busy", slow, "  circuitBreaker: {maxRequests: 1}") +
		routeTo("{match: /dead, to: dead}", "{match: /rude, to: rude}", "{match: /odd, to: odd}",
			"{match: /slow, to: slow, timeout: 100ms}", "{match: GET /get, to: slow}",
			"{match: POST /small, to: slow, maxBody: 8B}")})
	for _, c := range []struct {
		name, request, detail string
		status                int
		title                 string
	}{
		{"no route", "GET /none HTTP/1.1\r\nhost: a\r\n\r\n", "No route takes this request.", 404, "Not Found"},
		{"other method", "PUT /get HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "The path exists, but not with this method.", 405, "Method Not Allowed"},
		{"refused", "GET /dead HTTP/1.1\r\nhost: a\r\n\r\n", "The service could not be reached, or broke off.", 503, "Service Unavailable"},
		{"hung up", "GET /rude HTTP/1.1\r\nhost: a\r\n\r\n", "The service could not be reached, or broke off.", 503, "Service Unavailable"},
		{"no HTTP", "GET /odd HTTP/1.1\r\nhost: a\r\n\r\n", "The service did not answer in valid HTTP.", 502, "Bad Gateway"},
		{"slow", "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", "The service did not answer in time.", 504, "Gateway Timeout"},
		{"large body", "POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789", "The body of the request is larger than allowed.", 413, "Content Too Large"},
		{"no upgrade", "GET /get HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "This path takes no upgrades.", 403, "Forbidden"},
		{"not HTTP", "hello\r\n\r\n", "The request is not valid HTTP.", 400, "Bad Request"},
		{"null byte", "GET /a%00 HTTP/1.1\r\nhost: a\r\n\r\n", "The path of the request is not allowed.", 400, "Bad Request"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "The request has no Host header.", 400, "Bad Request"},
		{"large headers", "GET / HTTP/1.1\r\nhost: a\r\nx-a: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", "The headers of the request are larger than allowed.", 431, "Request Header Fields Too Large"},
		{"many headers", "GET / HTTP/1.1\r\nhost: a\r\n" + strings.Repeat("x-a: a\r\n", 101) + "\r\n", "The request has more headers than allowed.", 431, "Request Header Fields Too Large"},
		{"old HTTP", "GET / HTTP/1.0\r\nhost: a\r\n\r\n", "HTTP/1.1 or later is needed.", 426, "Upgrade Required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, header := raw(t, g, c.request)
			got := problemIn(t, body, header)
			want := problem{Type: "about:blank", Title: c.title, Status: c.status, Detail: c.detail, RequestID: got.RequestID}
			if diff := cmp.Diff(want, got); diff != "" || status != c.status {
				t.Errorf("status %d (-want +got):\n%s", status, diff)
			}
		})
	}
	if _, body, _ := raw(t, g, "PUT /get HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"); !strings.Contains(body, `"status":405`) {
		t.Errorf("the status is no number: %s", body)
	}
}

func TestErrors_AFullServiceAndGRPCClients(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	slow := gateway.Backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release }))
	g := gateway.Start(t, map[string]string{"policy.yaml": edge() +
		service("busy", slow, "  circuitBreaker: {maxRequests: 1}") + service("dead", dead(t), "") +
		routeTo("{match: /busy, to: busy}", "{match: /dead, to: dead}")})
	t.Cleanup(func() { close(release) })
	_, err := fmt.Fprint(connect(t, g), "GET /busy HTTP/1.1\r\nhost: a\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	status, body, header := g.Get("/busy")
	if p := problemIn(t, body, header); status != 503 || p.Detail != "The service has more requests than it can take." {
		t.Errorf("%d %+v", status, p)
	}
	status, body, header = g.Do(http.MethodPost, "/dead", nil, "content-type", "application/grpc")
	if status != 200 || body != "" || header.Get("grpc-status") != "14" || header.Get("grpc-message") != "The service could not be reached, or broke off." {
		t.Errorf("%d %q %v", status, body, header)
	}
}

func TestErrors_WrittenAnswersStay(t *testing.T) {
	rules := routeTo(`{match: /gone, direct: {status: 410, body: '{"gone":true}', contentType: application/json}}`,
		"{match: /plain, direct: {status: 503, body: later}}", "{match: /bare, direct: {status: 404}}")
	g := gateway.Start(t, map[string]string{"policy.yaml": edge(`errors: {types: "https://errors.example.com/{status}"}`) + rules})
	for path, want := range map[string]string{"/gone": `410 application/json {"gone":true}`, "/plain": "503 text/plain later"} {
		status, body, header := g.Get(path)
		if got := fmt.Sprint(status, " ", header.Get("content-type"), " ", body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	_, body, header := g.Get("/bare")
	if p := problemIn(t, body, header); p.Type != "https://errors.example.com/404" {
		t.Errorf("type is %q", p.Type)
	}
	if err := g.Apply(map[string]string{"policy.yaml": edge("errors: off") + rules}); err != nil {
		t.Fatal(err)
	}
	gateway.Eventually(t, "Envoy's own words are back", func() bool {
		_, body, header := g.Get("/none")
		return header.Get("content-type") != "application/problem+json" && body == ""
	})
}
