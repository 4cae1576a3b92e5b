package integration

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// counted is a service that counts who reaches it.
func counted(t *testing.T) (address string, reached *atomic.Int64) {
	reached = &atomic.Int64{}
	return gateway.Backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })), reached
}

const sourceRules = `
    - {name: office, match: /office, authorize: {sources: [203.0.113.0/24, "2001:db8::/32"]}, to: echo}
    - {name: here, match: /here, authorize: {sources: [127.0.0.1]}, to: echo}
    - {name: six, match: /six, authorize: {sources: ["::/0"]}, to: echo}
    - {name: methods, match: /methods, authorize: {methods: [GET, HEAD]}, to: echo}
    - {name: direct, match: /direct, authorize: {sources: [203.0.113.0/24]}, direct: {body: fixed}}
    - {name: trial, match: /trial, authorize: {sources: [203.0.113.7], methods: [POST], mode: shadow}, to: echo}
    - {name: half, match: /half, use: [trial], authorize: {sources: [203.0.113.0/24]}, to: echo}`

func sourcePolicies(address, block string) map[string]string {
	return map[string]string{"policy.yaml": edge(block) + service("echo", address, "") +
		"apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: trial}\nspec: {authorize: {sources: [203.0.113.7], mode: shadow}}\n---\n" +
		"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  rules:" + sourceRules}
}

// The client is who the proxies in front say, never who the client says, and no agent is needed to tell.
func TestAuthorize_NoClientChoosesItsAddress(t *testing.T) {
	address, reached := counted(t)
	forged := func(a string) string {
		return "X-Real-IP: " + a + "\r\nForwarded: for=" + a + "\r\nTrue-Client-IP: " + a + "\r\nX-Client-IP: " + a +
			"\r\nX-Envoy-External-Address: " + a + "\r\nX-Envoy-Internal: true\r\nX-Sluice-Client: " + a + "\r\n"
	}
	for _, gw := range []struct {
		name, block string
		sends       []sent
	}{
		{"the peer is the client", "clientAddress: {}", []sent{
			{"/office", "", 403}, {"/office", "X-Forwarded-For: 203.0.113.7\r\n", 403}, {"/office", forged("203.0.113.7"), 403},
			{"/office", "X-Forwarded-For: 203.0.113.7, 203.0.113.8\r\n" + forged("2001:db8::1"), 403},
			{"/here", "", 200}, {"/here", "X-Forwarded-For: 198.51.100.1\r\n", 200}, {"/six", "", 403}, {"/direct", "", 403},
		}},
		{"behind one proxy", "clientAddress: {trustedHops: 1}", []sent{
			{"/office", "", 403}, {"/office", forged("203.0.113.7"), 403},
			{"/office", "X-Forwarded-For: 203.0.113.7\r\n", 200}, {"/office", "X-Forwarded-For: 198.51.100.1\r\n", 403},
			{"/office", "X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n", 403}, {"/office", "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", 200},
			{"/office", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n", 403},
			{"/office", "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n", 200},
			{"/office", "X-Forwarded-For: 203.0.113.7, \r\n", 403}, {"/office", "X-Forwarded-For: 203.0.113.7,198.51.100.1 \r\n" + forged("203.0.113.7"), 403},
			{"/office", "X-Forwarded-For: 2001:db8::1\r\n", 200}, {"/office", "X-Forwarded-For: 2001:db9::1\r\n", 403},
			{"/office", "X-Forwarded-For: ::ffff:203.0.113.7\r\n", 200}, {"/office", "X-Forwarded-For: ::ffff:cb00:7107\r\n", 200},
			{"/office", "X-Forwarded-For: ::ffff:198.51.100.1\r\n", 403}, {"/office", "X-Forwarded-For: 203.0.113.7.example\r\n", 403},
			{"/office", "X-Forwarded-For: 0xcb.0.113.7\r\n", 403}, {"/office", "X-Forwarded-For: 203.0.28935\r\n", 403},
			{"/direct", "X-Forwarded-For: 203.0.113.7\r\n", 200}, {"/direct", "X-Forwarded-For: 198.51.100.1\r\n", 403},
			{"/six", "X-Forwarded-For: 2001:db8::1\r\n", 200}, {"/six", "X-Forwarded-For: 203.0.113.7\r\n", 403},
			{"/trial", "X-Forwarded-For: 198.51.100.1\r\n", 200}, {"/half", "X-Forwarded-For: 198.51.100.1\r\n", 403}, {"/half", "X-Forwarded-For: 203.0.113.9\r\n", 200},
		}},
		{"behind two", "clientAddress: {trustedHops: 2}", []sent{
			{"/office", "X-Forwarded-For: 203.0.113.7\r\n", 403}, {"/office", "X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\n", 200},
			{"/office", "X-Forwarded-For: 203.0.113.7, 198.51.100.1, 10.0.0.1\r\n", 403},
		}},
	} {
		t.Run(gw.name, func(t *testing.T) {
			g := gateway.Start(t, sourcePolicies(address, gw.block))
			for _, a := range gw.sends {
				reached.Store(0)
				status, body, header := raw(t, g, "GET "+a.path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+a.headers+"\r\n")
				if status != a.want || a.want != 200 && reached.Load() != 0 {
					t.Errorf("%s with %q: %d, want %d; the service was reached %d times", a.path, a.headers, status, a.want, reached.Load())
				}
				if status == 403 && (header.Get("content-type") != "application/problem+json" || !strings.Contains(body, "Requests from this address")) {
					t.Errorf("%s: %s as %q", a.path, body, header.Get("content-type"))
				}
			}
		})
	}
}

// sent is a request and the status that it must get.
type sent struct {
	path, headers string
	want          int
}

func TestAuthorize_MethodsAndShadowAreDecidedByEnvoy(t *testing.T) {
	address, _ := counted(t)
	g := gateway.Start(t, sourcePolicies(address, "clientAddress: {}"))
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 403, "DELETE": 403, "OPTIONS": 403, "get": 400, "PROPFIND": 403} {
		if status := rawStatus(t, g, method+" /methods HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); status != want {
			t.Errorf("%s: %d, want %d", method, status, want)
		}
	}
	before := len(logLines(t, g.Log.String()))
	if status, body, _ := g.Get("/trial", "x-request-id", "trial"); status != 200 {
		t.Errorf("what is only tried out: %d %s", status, body)
	}
	var line map[string]any
	gateway.Eventually(t, "the log says so", func() bool {
		for _, l := range logLines(t, g.Log.String()) {
			if l["path"] == "/trial" {
				line = l
			}
		}
		return line != nil
	})
	if line["shadow"] != "method" && line["shadow"] != "source" {
		t.Errorf("after %d lines: %v", before, line)
	}
	for _, l := range logLines(t, g.Log.String()) {
		if _, has := l["shadow"]; has != (l["path"] == "/trial") {
			t.Errorf("%v", l)
		}
	}
	if stats := g.Admin("/stats?filter=rbac.*authorize_"); !strings.Contains(stats, "authorize_.shadow_denied: 1") || !strings.Contains(stats, "authorize_.denied: 4") {
		t.Error(stats)
	}
}

func celPolicies(idp *issuer, address string) map[string]string {
	return map[string]string{"policy.yaml": edge("clientAddress: {trustedHops: 1}") + service("echo", address, "") + `apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.test", audiences: [food-api], jwks: {url: ` + idp.URL + `/jwks.json}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  authenticate: {jwt: idp, overridable: true}
  rules:
    - {name: path, match: "/path/{user}/orders", authorize: {cel: "request.path == '/path/' + identity.user + '/orders'"}, to: echo}
    - {name: own, match: ["/own/{user}/orders/*", "/of/{user}"], authorize: {cel: request.params.user == identity.user}, to: echo}
    - {name: rewritten, match: "/rewritten/{user}/*", rewrite: {path: /all/*}, authorize: {cel: request.params.user == identity.user}, to: echo}
    - {name: office, match: /office, authorize: {cel: "cidr('203.0.113.0/24').containsIP(request.clientAddress) || 'place_orders' in identity.permissions"}, to: echo}
    - {name: six, match: /six, authenticate: none, authorize: {cel: "request.clientAddress == ip('2001:db8::1') || request.clientAddress == ip('203.0.113.7')"}, to: echo}
    - {name: open, match: /open, authenticate: none, authorize: {cel: ["request.headers['x-tenant'] == 'acme'", "request.query.page.all(p, int(p) < 10)", "request.method == 'GET'"]}, to: echo}
    - {name: claim, match: /claim, authorize: {cel: identity.claims.level >= 3}, to: echo}
    - {name: trial, match: /trial, authorize: {cel: identity.claims.missing == 'x', mode: shadow}, to: echo}
    - {name: heavy, match: /heavy, authorize: {cel: "identity.permissions.all(p, request.headers['x-long'] + p != '')"}, to: echo}
`}
}

func TestAuthorize_ExpressionsDecideOnRequestAndIdentity(t *testing.T) {
	idp := newIssuer(t)
	address, reached := counted(t)
	g := gateway.Start(t, celPolicies(idp, address), gateway.WithAgent(&gateway.Agent{}))
	alice, odd := bearer(idp.token(t, "permissions", nil)), bearer(idp.token(t, "sub", "a b/%2e?é"))
	many, long := bearer(idp.token(t, "permissions", strings.Split(strings.Repeat("aaaaaaaa ", 180), " "))), []string{"x-long", strings.Repeat("a", 4000)}
	for _, c := range []struct {
		target string
		with   []string
		want   int
	}{
		{"/path/alice/orders", alice, 200}, {"/path/bob/orders", alice, 403}, {"/path/alice/orders?user=bob", alice, 200}, {"/path/alice/orders", nil, 401},
		{"/path/%61lice/orders", alice, 200}, {"/path//alice/orders", alice, 200}, {"/path/bob/../alice/orders", alice, 200}, {"/path/ALICE/orders", alice, 403},
		{"/own/alice/orders/7", alice, 200}, {"/own/bob/orders/7", alice, 403}, {"/own/alice/orders", alice, 200}, {"/of/alice", alice, 200}, {"/of/bob", alice, 403},
		{"/own/alice/orders/../../bob/orders/7", alice, 403}, {"/own/alice/../bob/orders/7", alice, 403}, {"/of/alice;bob", alice, 403}, {"/of/alice%20", alice, 403},
		{"/of/a%20b%2f%252e%3F%C3%A9", odd, 307}, {"/rewritten/alice/x", alice, 200}, {"/rewritten/bob/x", alice, 403},
		{"/office", append([]string{"x-forwarded-for", "203.0.113.9"}, alice...), 200}, {"/office", append([]string{"x-forwarded-for", "198.51.100.1"}, alice...), 403},
		{"/office", append([]string{"x-forwarded-for", "203.0.113.9, 198.51.100.1", "x-sluice-client", "203.0.113.9"}, alice...), 403},
		{"/office", bearer(idp.token(t)), 200},
		{"/six", []string{"x-forwarded-for", "2001:db8::1"}, 200}, {"/six", []string{"x-forwarded-for", "::ffff:203.0.113.7"}, 200}, {"/six", nil, 403},
		{"/open?page=3", []string{"x-tenant", "acme"}, 200}, {"/open?page=3&page=30", []string{"x-tenant", "acme"}, 403}, {"/open?page=3&page=x", []string{"x-tenant", "acme"}, 403},
		{"/open?page=3", nil, 403}, {"/open", []string{"x-tenant", "acme"}, 403}, {"/open?page=3;a", []string{"x-tenant", "acme"}, 403},
		{"/claim", alice, 403}, {"/claim", bearer(idp.token(t, "level", 3)), 200}, {"/claim", bearer(idp.token(t, "level", 2.5)), 403}, {"/claim", bearer(idp.token(t, "level", "3")), 403},
		{"/trial", alice, 200}, {"/trial", nil, 401}, {"/heavy", append(long, many...), 503}, {"/heavy", append([]string{"x-long", "a"}, many...), 200},
	} {
		reached.Store(0)
		status, body, header := g.Get(c.target, c.with...)
		if status != c.want || (status == 200) != (reached.Load() == 1) {
			t.Errorf("%s with %.60q: %d, want %d; reached %d: %s", c.target, c.with, status, c.want, reached.Load(), body)
		}
		if status >= 400 && header.Get("content-type") != "application/problem+json" {
			t.Errorf("%s: %q", c.target, header.Get("content-type"))
		}
	}
	gateway.Eventually(t, "the log says what would be refused", func() bool {
		for _, l := range logLines(t, g.Log.String()) {
			if l["path"] == "/trial" && l["status"] == 200.0 {
				return l["shadow"] == "cel_error"
			}
		}
		return false
	})
}

// With the PROXY protocol, the client is who its header names, for Envoy and for expressions.
func TestAuthorize_TheProxyProtocolNamesTheClient(t *testing.T) {
	address, reached := counted(t)
	rules := `
    - {name: office, match: /office, authorize: {sources: [203.0.113.0/24]}, to: echo}
    - {name: asked, match: /asked, authorize: {cel: "cidr('203.0.113.0/24').containsIP(request.clientAddress)"}, to: echo}`
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("clientAddress: {proxyProtocol: true}") + service("echo", address, "") +
		"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  rules:" + rules}, gateway.WithAgent(&gateway.Agent{}))
	for _, path := range []string{"/office", "/asked"} {
		for _, c := range []struct {
			line string
			want int
		}{
			{"PROXY TCP4 203.0.113.7 127.0.0.1 4000 80\r\n", 200}, {"PROXY TCP4 198.51.100.1 127.0.0.1 4000 80\r\n", 403},
			{"PROXY TCP6 2001:db8::1 ::1 4000 80\r\n", 403}, {"PROXY UNKNOWN\r\n", 403}, {"", 400},
		} {
			reached.Store(0)
			status := rawStatus(t, g, c.line+"GET "+path+" HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n")
			if status != c.want || (reached.Load() == 1) != (c.want == 200) {
				t.Errorf("%q on %s: %d, want %d; reached %d", c.line, path, status, c.want, reached.Load())
			}
		}
	}
}

// Some features give a route several forms in Envoy, or answer by themselves: what Envoy refuses holds for each.
func TestAuthorize_HoldsBesideEveryOtherFeature(t *testing.T) {
	address, reached := counted(t)
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("authorize: {sources: [192.0.2.0/24]}") + service("echo", address, "  timeout: 2s\n  retry: {on: [connectFailure, 5xx], retries: 1}") + routeTo(
		"{name: socket, match: /socket, upgrade: {websocket: true}, to: echo}",
		`{name: cors, match: /cors, cors: {origins: ["https://a.example"]}, to: echo}`,
		"{name: rewrite, match: /rewrite/*, rewrite: {path: /other}, to: echo}",
		"{name: redirect, match: /redirect, redirect: {path: /elsewhere}}",
		"{name: mirror, match: /mirror, mirror: {service: echo}, to: echo}",
		"{name: direct, match: /direct, direct: {body: fixed}}",
		`{name: header, match: {path: /header, headers: {x-canary: "1"}}, authorize: {sources: [127.0.0.1]}, to: echo}`,
		"{name: plain, match: /header, to: echo}",
	)})
	for _, path := range []string{"/socket", "/cors", "/rewrite/x", "/redirect", "/mirror", "/direct", "/header"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
			for _, more := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
				"Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n", "x-canary: 1\r\n"} {
				status := rawStatus(t, g, method+" "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"+more+"\r\n")
				if n := reached.Swap(0); n != 0 || status < 400 && method != "OPTIONS" {
					t.Errorf("%s %s with %q: %d, the service was reached %d times", method, path, more, status, n)
				}
			}
		}
	}
}
