package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// trickle sends a text a byte at a time until the other side has had enough.
func trickle(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // the slowness that is tested
	}
}

func TestLimits_SlowClientsAreCutOffAndOthersServed(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("limits: {headersTimeout: 400ms, requestTimeout: 800ms}") +
		service("orders", reflect(t), "") + routeTo("{match: /orders, to: orders}")})
	endless := strings.Repeat("x-a: b\r\n", 10_000)
	slow := []struct{ name, begin, trickle string }{
		{"silent in the headers", "GET /orders HTTP/1.1\r\nhost: a\r\n", ""},
		{"trickling headers", "GET /orders HTTP/1.1\r\nhost: a\r\n", endless},
		{"silent in the body", "POST /orders HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nab", ""},
		{"trickling body", "POST /orders HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", endless},
		{"trickling chunks", "POST /orders HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", strings.Repeat("1\r\na\r\n", 10_000)},
	}
	var all sync.WaitGroup
	for range 10 {
		for _, s := range slow {
			c := connect(t, g)
			if _, err := io.WriteString(c, s.begin); err != nil {
				t.Fatal(err)
			}
			all.Go(func() { trickle(c, s.trickle) })
			all.Go(func() {
				status, body, header := answer(t, c)
				if p := problemIn(t, body, header); status != http.StatusRequestTimeout || p.Detail != "The request did not arrive in time." {
					t.Errorf("%s: %d %+v", s.name, status, p)
				}
				closed(t, c)
			})
		}
	}
	if status, _, _ := g.Get("/orders"); status != 200 {
		t.Errorf("beside slow clients: %d", status)
	}
	all.Wait()
	if n := stat(g, "http.edge/http.downstream_rq_active"); n != 0 {
		t.Errorf("%d requests are still held", n)
	}
}

func TestLimits_ConnectionsEnd(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("limits: {idle: 300ms, requestsPerConnection: 2}") +
		routeTo("{match: /ok, direct: {body: ok}}")})
	closed(t, connect(t, g)) // never a word
	c := connect(t, g)
	if _, err := io.WriteString(c, strings.Repeat("GET /ok HTTP/1.1\r\nhost: a\r\n\r\n", 3)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if n := strings.Count(string(got), "HTTP/1.1 200"); n != 2 || strings.Count(string(got), "connection: close") != 1 {
		t.Errorf("%d answers before the end of the connection, want 2: %v %s", n, err, got)
	}
}

func TestLimits_AStreamWithoutTrafficEnds(t *testing.T) {
	release := make(chan struct{})
	silent := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release) })
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("limits: {streamIdle: 300ms}") +
		service("orders", silent, "") + routeTo("{match: /orders, to: orders, timeout: 0s}")})
	if status, body, header := g.Get("/orders"); status != http.StatusGatewayTimeout {
		t.Errorf("%d %+v", status, problemIn(t, body, header))
	}
}

func TestLimits_HeadersByCountAndBytes(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("limits: {headerCount: 20, headerBytes: 2KiB}") +
		routeTo("{match: /ok, direct: {body: ok}}")})
	for _, c := range []struct {
		name, headers string
		want          int
	}{
		{"few", strings.Repeat("x-a: b\r\n", 15), 200},
		{"many", strings.Repeat("x-a: b\r\n", 25), 431},
		{"short", "x-a: " + strings.Repeat("a", 1500) + "\r\n", 200},
		{"long", "x-a: " + strings.Repeat("a", 2500) + "\r\n", 431},
	} {
		if status, _, _ := raw(t, g, "GET /ok HTTP/1.1\r\nhost: a\r\n"+c.headers+"\r\n"); status != c.want {
			t.Errorf("%s: %d, want %d", c.name, status, c.want)
		}
	}
}

func TestLimits_AConnectionCarriesSoManyStreams(t *testing.T) {
	release := make(chan struct{})
	held := gateway.Backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-release
		}
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("limits: {streamsPerConnection: 2}") + service("orders", held, "") +
		routeTo("{match: /*, to: orders}")})
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	get := func(path string) {
		resp, err := (&http.Client{Transport: transport, Timeout: gateway.Patience}).Get(g.URL + path)
		if err != nil || resp.ProtoMajor != 2 {
			t.Errorf("%v %v", resp, err)
			return
		}
		_ = resp.Body.Close()
	}
	get("/first") // brings the settings
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { get("/hold") })
	}
	gateway.Eventually(t, "four requests are under way", func() bool { return stat(g, "http.edge/http.downstream_rq_active") == 4 })
	if n := stat(g, "http.edge/http.downstream_cx_active"); n < 2 {
		t.Errorf("four requests on %d connection; two fit on each", n)
	}
	close(release)
	all.Wait()
}

func TestMaxBody_IsHeldByLengthAndByBytes(t *testing.T) {
	var whole atomic.Int64
	backend := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			whole.Add(1)
		}
		fmt.Fprint(w, n)
	}))
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("maxBody: 1KiB") + service("orders", backend, "") +
		routeTo("{match: /orders, to: orders}", "{match: /upload, to: orders, maxBody: 8MiB}")})
	for _, c := range []struct {
		name, path string
		bytes      int
		chunked    bool
		want       int
	}{
		{"at the limit", "/orders", 1 << 10, false, 200},
		{"at the limit in chunks", "/orders", 1 << 10, true, 200},
		{"above", "/orders", 1<<10 + 1, false, 413},
		{"above in chunks", "/orders", 1<<10 + 1, true, 413},
		{"far above in chunks", "/orders", 4 << 20, true, 413},
		{"more than Envoy buffers", "/upload", 8 << 20, true, 200},
		{"above the nearer limit", "/upload", 8<<20 + 1, false, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := whole.Load()
			var body io.Reader = strings.NewReader(strings.Repeat("a", c.bytes))
			if c.chunked {
				body = io.MultiReader(body) // of no known length
			}
			status, text, header := g.Do(http.MethodPost, c.path, body)
			if status != c.want {
				t.Fatalf("%d %s, want %d", status, text, c.want)
			}
			if status == 413 {
				problemIn(t, text, header)
			}
			if reached := whole.Load() > before; reached != (c.want == 200) {
				t.Errorf("the service read a whole body: %v", reached)
			}
		})
	}
}
