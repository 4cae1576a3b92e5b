package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

func TestRequestID_IsOursUnlessTheClientIsTrusted(t *testing.T) {
	policy := service("orders", reflect(t), "") + routeTo("{match: /orders, to: orders}")
	for _, c := range []struct {
		blocks         string
		kept, answered bool
	}{
		{"", false, true},
		{"requestId: {trustClient: true, inResponse: false}", true, false},
	} {
		g := gateway.Start(t, map[string]string{"policy.yaml": edge(c.blocks) + policy})
		_, body, header := g.Get("/orders", "x-request-id", "mine")
		id := asked(t, body).Header.Get("x-request-id")
		if kept := id == "mine"; kept != c.kept || id == "" {
			t.Errorf("%s: the service got %q", c.blocks, id)
		}
		if answered := header.Get("x-request-id"); (answered == id) != c.answered {
			t.Errorf("%s: the client got %q, the service %q", c.blocks, answered, id)
		}
	}
}

func TestClientAddress_IsThePeersOrWhatTrustedHopsSay(t *testing.T) {
	policy := service("orders", reflect(t), "") + routeTo("{match: /orders, to: orders}")
	const forged = "GET /orders HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9, 198.51.100.7\r\nforwarded: for=203.0.113.9\r\nx-real-ip: 203.0.113.9\r\nx-forwarded-host: evil.example\r\n\r\n"
	for _, c := range []struct{ name, blocks, begin, client, forwarded string }{
		{"nobody in front", "", "", "127.0.0.1", ""},
		{"one load balancer", "clientAddress: {trustedHops: 1}", "", "198.51.100.7", "203.0.113.9, 198.51.100.7"},
		{"two of them", "clientAddress: {trustedHops: 2}", "", "203.0.113.9", "203.0.113.9, 198.51.100.7"},
		{"PROXY protocol", "clientAddress: {proxyProtocol: true}", "PROXY TCP4 192.0.2.33 127.0.0.1 4711 80\r\n", "192.0.2.33", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := gateway.Start(t, map[string]string{"policy.yaml": edge(c.blocks) + policy})
			_, body, _ := raw(t, g, c.begin+forged)
			header := asked(t, body).Header
			if line := logged(t, 1, g.Log.String)[0]; line["client"] != c.client {
				t.Errorf("the log says %v, want %s", line["client"], c.client)
			}
			forwarded := header.Get("x-forwarded-for")
			if c.forwarded == "" && strings.Contains(fmt.Sprint(header), "203.0.113.9") || !strings.HasPrefix(forwarded, c.forwarded) {
				t.Errorf("the service is told %v", header)
			}
			if believed := header.Get("x-forwarded-host") != ""; believed != (c.forwarded != "") {
				t.Errorf("x-forwarded-host: %q", header.Get("x-forwarded-host"))
			}
		})
	}
}

func TestClientAddress_WithoutItsPROXYHeaderAConnectionEnds(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("clientAddress: {proxyProtocol: true}") + routeTo("{match: /ok, direct: {body: ok}}")})
	c := connect(t, g)
	if _, err := fmt.Fprint(c, "GET /ok HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	closed(t, c)
	if n := stat(g, "http.edge/http.downstream_rq_total"); n != 0 {
		t.Errorf("%d requests were taken", n)
	}
}

func TestLoopGuard_ACircleEnds(t *testing.T) {
	var g *gateway.Gateway
	passes := atomic.Int64{}
	self := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // sends back what it gets
		passes.Add(1)
		again, err := http.NewRequestWithContext(r.Context(), r.Method, g.URL+r.URL.Path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		again.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(again)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		w.Header().Set("x-seen", fmt.Sprint(resp.StatusCode))
		w.WriteHeader(resp.StatusCode)
	}))
	g = gateway.Start(t, map[string]string{"policy.yaml": edge("loopGuard: {passes: 3}") + service("self", self, "") + routeTo("{match: /round, to: self}")})
	if status, _, _ := g.Get("/round"); status != http.StatusBadGateway || passes.Load() != 3 {
		t.Errorf("%d after %d passes; 3 are allowed", status, passes.Load())
	}
	if status, _, _ := g.Get("/round", "cdn-loop", ";;;"); status != http.StatusBadRequest {
		t.Errorf("a bad CDN-Loop header: %d", status)
	}
}

func TestSanitize_NoClientSteersTheGateway(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("sanitize: {remove: [x-user, x-internal-*], keep: [x-http-method-override]}") +
		service("orders", reflect(t), "") + routeTo("{match: /orders/*, to: orders, rewrite: {prefix: /v1}}")})
	forged := []string{
		"x-envoy-retry-on", "5xx", "x-envoy-max-retries", "9", "x-envoy-upstream-rq-timeout-ms", "1", "x-envoy-upstream-rq-per-try-timeout-ms", "1",
		"x-envoy-hedge-on-per-try-timeout", "true", "x-envoy-internal", "true", "x-envoy-force-trace", "true", "x-envoy-attempt-count", "99",
		"x-envoy-upstream-alt-stat-name", "q", "x-envoy-decorator-operation", "o", "x-envoy-ip-tags", "t", "x-envoy-anything", "a",
		"x-forwarded-client-cert", "By=forged", "x-sluice-user", "root", "x-original-url", "/admin", "x-rewrite-url", "/admin", "x-method-override", "DELETE",
		"x-user", "root", "X-INTERNAL-role", "root", "proxy", "http://forged",
	}
	status, body, _ := g.Get("/orders", append([]string{"x-envoy-original-path", "/forged", "x-http-method-override", "PUT", "x-fine", "1"}, forged...)...)
	header := asked(t, body).Header
	for i := 0; i < len(forged); i += 2 {
		if got := header.Get(forged[i]); got == forged[i+1] {
			t.Errorf("%s reached the service", forged[i])
		}
	}
	if status != 200 || header.Get("x-envoy-original-path") == "/forged" || header.Get("x-http-method-override") != "PUT" || header.Get("x-fine") != "1" {
		t.Errorf("%d %v", status, header)
	}
	if line := logged(t, 1, g.Log.String)[0]; line["path"] != "/orders" {
		t.Errorf("the log believes the client's path: %v", line["path"])
	}
}

func TestSanitize_WhatMayBeReadInTwoWaysIsRefused(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("sanitize: {pathParameters: refuse}") + service("orders", reflect(t), "") +
		routeTo("{match: /*, to: orders}")})
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400},
		{"two hosts in one", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400},
		{"absolute form names the host", "GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n", 200},
		{"underscore", "GET / HTTP/1.1\r\nhost: a\r\nx_user: root\r\n\r\n", 400},
		{"length and chunks", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef", 400},
		{"odd encoding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501},
		{"space in a name", "GET / HTTP/1.1\r\nhost: a\r\nx-user : root\r\n\r\n", 400},
		{"folded header, sent on as one line", "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n c\r\n\r\n", 200},
		{"line feed that ends no header", "GET / HTTP/1.1\r\nhost: a\nx-a: b\n\nGET /smuggled HTTP/1.1\r\n\r\n", 200},
		{"connection names our header", "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for, x-request-id\r\n\r\n", 400},
		{"null byte", "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400},
		{"fragment", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400},
		{"path parameter", "GET /admin;a=b/x HTTP/1.1\r\nhost: a\r\n\r\n", 400},
		{"encoded path parameter", "GET /admin%3Ba/x HTTP/1.1\r\nhost: a\r\n\r\n", 400},
		{"semicolon in a query", "GET /a?b=c;d HTTP/1.1\r\nhost: a\r\n\r\n", 200},
	} {
		if status, body, _ := raw(t, g, c.request); status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.want)
		}
	}
}

// spellings are ways to write a path below /admin that some server takes for it.
func spellings() []string {
	var out []string
	dots := []string{".", "%2e", "%2E"}
	slashes := []string{"/", "//", "/./", "/%2e/", "%2f", "%2F", "%5c", "%5C", "\\", "/x/../", "/x/%2e%2e/", "/x/.%2E/", "/x%2f..%2f", "/x\\..\\", "/x/y/../../", "/x//../", "/..;/", "/x/..;a/", "/%2e%2e/", "/../", "%252f", "/%c0%af", "/%ef%bc%8f", ";/", ";a=b/"}
	names := []string{"admin", "%61dmin", "a%64min", "%61%64%6d%69%6e", "ADMIN", "%41dmin", "admi%6E", "%2561dmin", "admin%20", "admin.", "admin%00", "./admin", "admin;", "admin;x=y", "admin%3b", "admin%23", "admin%3f", "admin?", "admin#"}
	for _, before := range slashes {
		for _, name := range names {
			for _, after := range []string{"", "/secret", "/", "%2fsecret", "//secret"} {
				out = append(out, "/"+strings.TrimPrefix(before, "/")+name+after, "/public"+before+name+after)
			}
		}
	}
	for _, a := range dots {
		for _, b := range dots {
			out = append(out, "/public/"+a+b+"/admin/secret", "/public/"+a+b+"%2fadmin", "/public%5c"+a+b+"%5cadmin", "/public/x/"+a+b+"/"+a+b+"/admin/x")
		}
	}
	return out
}

// means is the path that a service, even one that is careless, makes of what it is sent.
func means(uri string) string {
	p, _, _ := strings.Cut(uri, "?")
	if plain, err := url.PathUnescape(p); err == nil {
		p = plain
	}
	p = strings.ReplaceAll(p, "\\", "/")
	return path.Clean("/" + p)
}

func TestSanitize_NoSpellingPassesAProtectedPath(t *testing.T) {
	var reached atomic.Pointer[string]
	wide := gateway.Backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached.Store(&r.RequestURI) }))
	g := gateway.Start(t, map[string]string{"policy.yaml": edge() + service("wide", wide, "") +
		routeTo("{match: /admin/*, direct: {status: 403, body: no}}", "{match: /*, to: wide}")})
	var passed, refused int
	for _, spelling := range spellings() {
		target := spelling
		for range 3 { // a redirect leads to the plain spelling
			reached.Store(nil)
			status, _, header := raw(t, g, "GET "+target+" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
			if uri := reached.Load(); uri != nil {
				passed++
				if m := means(*uri); m == "/admin" || strings.HasPrefix(m, "/admin/") {
					t.Errorf("%s reached the service as %s", spelling, *uri)
				}
			} else if status == http.StatusForbidden || status == http.StatusBadRequest {
				refused++
			}
			if target = header.Get("location"); target == "" {
				break
			}
		}
	}
	if passed < 100 || refused < 500 {
		t.Errorf("of %d spellings %d passed and %d were refused: the test tests nothing", len(spellings()), passed, refused)
	}
}
