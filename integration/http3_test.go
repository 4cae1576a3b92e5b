package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// client3 is a client of HTTP/3.
func (e *tlsEdge) client3(pairs ...ca.Pair) *http.Client {
	transport := &http3.Transport{TLSClientConfig: e.clientTLS(pairs...)}
	e.t.Cleanup(func() { _ = transport.Close() })
	return &http.Client{Transport: transport, Timeout: gateway.Patience}
}

// shown3 is the serial number of the certificate that a client of HTTP/3 gets that asks for a name.
func (e *tlsEdge) shown3(name string) (names []string, serial string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), gateway.Patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", e.port), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	c := conn.ConnectionState().TLS.PeerCertificates[0]
	return c.DNSNames, c.SerialNumber.String()
}

func TestHTTP3_BesideTLS(t *testing.T) {
	t.Parallel()
	e := startTLS(t, ", http3: true", "", "")
	for name, client := range map[string]*http.Client{"1": e.client1(), "2": e.client(), "3": e.client3()} {
		for path, status := range map[string]int{"/x?a=b": 200, "/a%2fb": 307} {
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			resp, body, err := fetch(t, client, e.url(path))
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(resp.ProtoMajor) != name || resp.StatusCode != status || status == 200 && body != "one "+path {
				t.Errorf("HTTP/%s %s: %s %d %q", name, path, resp.Proto, resp.StatusCode, body)
			}
			if want := fmt.Sprintf(`h3=":%d"; ma=86400`, e.port); resp.Header.Get("alt-svc") != want {
				t.Errorf("HTTP/%s %s: alt-svc %q", name, path, resp.Header.Get("alt-svc"))
			}
		}
	}
	for name, want := range map[string]string{"api.example": "api.example", "www.shop.example": "*.shop.example", "other.example": "api.example"} {
		if got, _ := e.shown3(name); got[0] != want {
			t.Errorf("asked for %q, shown %v", name, got)
		}
	}
	if _, _, h := e.Get("/x"); h.Get("alt-svc") != "" {
		t.Errorf("the plain listener, too, speaks of HTTP/3: %q", h.Get("alt-svc"))
	}
}

// What holds over HTTP/1.1 and HTTP/2 holds over HTTP/3: no path, header or limit is judged otherwise.
func TestHTTP3_PoliciesHold(t *testing.T) {
	t.Parallel()
	idp, service, partners := newIssuer(t), &echoHeaders{}, newRevoking(t, "partners")
	e, _ := startCertificates(t, partners, idp, service)
	client, good := e.client3(), idp.token(t)
	get := func(path string, headers ...string) (int, http.Header) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), gateway.Patience)
		defer cancel()
		target := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", e.port), Opaque: "https://api.example" + path} // the path as it is
		r := (&http.Request{Method: http.MethodGet, URL: target, Host: "api.example", Header: http.Header{}}).WithContext(ctx)
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
		}
		resp, err := client.Transport.RoundTrip(r)
		if err != nil {
			if ctx.Err() != nil {
				t.Errorf("%s %.100q: no answer", path, headers)
			}
			return 0, nil
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header
	}
	for path, want := range map[string]int{"/known/x": 401, "/permission": 401, "/public/x": 200, "/c/any": 401, "/nothing": 404} {
		if status, _ := get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if status, h := get("/known/x", "Authorization", "Bearer "+good+"x"); status != 401 || h.Get("content-type") != "application/problem+json" || h.Get("www-authenticate") == "" {
		t.Errorf("a broken token: %d %v", status, h)
	}
	if status, _ := get("/permission", "Authorization", "Bearer "+good); status != 200 {
		t.Errorf("a good token: %d", status)
	}
	service.reached.Store(0)
	answered := 0
	for _, path := range secretSpellings() {
		if strings.HasPrefix(path, "/public") || !strings.HasPrefix(path, "/") { // open, or nothing that the client would send
			continue
		}
		if status, _ := get(path); service.reached.Swap(0) != 0 {
			t.Errorf("%s reached the service without identity: %d", path, status)
		} else if status != 0 {
			answered++
		}
	}
	if answered < 60 {
		t.Errorf("only %d spellings were answered", answered)
	}
	for _, name := range []string{"x-sluice-user", "x-sluice-roles", "x_sluice_user", "x-forwarded-client-cert", "x_forwarded_client_cert", "x-envoy-original-path", "x-forwarded-for"} {
		for _, path := range []string{"/public/x", "/known/x", "/c/open"} {
			service.seen.Store(nil)
			get(path, "Authorization", "Bearer "+good, name, "forged", name, "forged2")
			if seen := service.seen.Load(); seen != nil && strings.Contains(fmt.Sprint(*seen), "forged") {
				t.Errorf("%s on %s reached the service: %v", name, path, *seen)
			}
		}
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("x-%d", i), "a")
	}
	if status, _ := get("/public/x", many...); status != 431 && status != 0 {
		t.Errorf("200 headers: %d", status)
	}
	if status, _ := get("/public/x", "x-large", strings.Repeat("a", 70<<10)); status != 431 && status != 0 {
		t.Errorf("headers of 70 KiB: %d", status)
	}
	if status, _ := get("/public/x"); status != 200 {
		t.Errorf("after all that: %d", status)
	}
}

// Early data could be recorded and sent again. So none is taken, and none is promised.
func TestHTTP3_TakesNoEarlyData(t *testing.T) {
	t.Parallel()
	partners := newRevoking(t, "partners")
	for _, asked := range []bool{false, true} {
		spec, more := ", http3: true", ""
		if asked {
			spec, more = ", http3: true, clientCA: partners, clientCertificate: optional", partners.policy()
		}
		e := startTLS(t, spec, "", more)
		config := e.clientTLS(partners.Sign([]string{"good.example"}))
		config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		for i := range 3 {
			early := false
			transport := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, addr string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
				conn, err := quic.DialAddrEarly(ctx, addr, c, q)
				if err == nil {
					<-conn.HandshakeComplete()
					early = conn.ConnectionState().Used0RTT
				}
				return conn, err
			}}
			resp, _, err := fetch(t, &http.Client{Transport: transport, Timeout: gateway.Patience}, e.url("/"))
			if err != nil {
				t.Fatal(err)
			}
			if early {
				t.Error("early data was taken")
			}
			if want := i > 0 && !asked; resp.TLS.DidResume != want {
				t.Errorf("connection %d, asked for a certificate %t: resumed %t", i+1, asked, resp.TLS.DidResume)
			}
			if err := transport.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestHTTP3_RotationUnderLoad is TestTLS_RotationUnderLoad for HTTP/3.
func TestHTTP3_RotationUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, rotations = 4, 5
	e := startTLS(t, ", http3: true", "", "")
	var requests, failed, dials atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var running, begun sync.WaitGroup
	for range clients {
		transport := &http3.Transport{TLSClientConfig: e.clientTLS(), Dial: func(ctx context.Context, addr string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			dials.Add(1)
			return quic.DialAddrEarly(ctx, addr, c, q)
		}}
		client := &http.Client{Transport: transport, Timeout: gateway.Patience}
		ask := func() {
			requests.Add(1)
			if resp, body, err := fetch(t, client, e.url("/load")); err != nil || resp.StatusCode != 200 || body != "one /load" {
				failed.Add(1)
			}
		}
		begun.Add(1)
		running.Go(func() {
			defer transport.Close()
			ask()
			begun.Done()
			for ctx.Err() == nil {
				ask()
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	begun.Wait()
	for range rotations {
		next := e.ca.Sign([]string{"api.example", "127.0.0.1"})
		next.Write(t, e.dir, "api")
		gateway.Eventually(t, "new handshakes are shown the new certificate", func() bool {
			_, serial := e.shown3("api.example")
			return serial == next.Certificate.SerialNumber.String()
		})
	}
	cancel()
	running.Wait()
	if failed.Load() != 0 || dials.Load() != clients {
		t.Errorf("%d of %d requests failed; %d clients opened %d connections", failed.Load(), requests.Load(), clients, dials.Load())
	}
	if n := e.counter("listener_manager.listener_modified"); n != "0" {
		t.Errorf("a rotation changed a listener: %s", n)
	}
	t.Logf("%d requests over %d rotations", requests.Load(), rotations)
}

func TestHTTP3_AuthoritiesAndListsRotate(t *testing.T) {
	t.Parallel()
	partners, after := newRevoking(t, "partners"), ca.New(t, "after")
	e := startTLS(t, ", clientCA: partners, http3: true", "", partners.policy())
	good, fresh := partners.Sign([]string{"good.example"}), after.Sign([]string{"good.example"})
	passes := func(pairs ...ca.Pair) bool {
		client := e.client3(pairs...)
		defer client.CloseIdleConnections()
		_, _, err := fetch(t, client, e.url("/"))
		return err == nil
	}
	if !passes(good) || passes(fresh) || passes() {
		t.Fatal("before: the wrong client passes")
	}
	partners.revoke(time.Now().Add(time.Hour), good)
	gateway.Eventually(t, "the list holds", func() bool { return !passes(good) })
	ca.Write(t, partners.list, after.Revoke(time.Now().Add(time.Hour)))
	ca.Write(t, partners.pem, after.PEM)
	gateway.Eventually(t, "the new authority holds", func() bool { return passes(fresh) })
	if passes(good) {
		t.Error("after: a client of the old authority passes")
	}
}

func TestHTTP3_ComesAndGoesByPolicy(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", "", "")
	quick := e.client3()
	quick.Timeout = time.Second
	over3 := func() bool { _, _, err := fetch(t, quick, e.url("/")); return err == nil }
	apply := func(text string) {
		t.Helper()
		if err := e.Apply(map[string]string{"edge.yaml": text}); err != nil {
			t.Fatal(err)
		}
	}
	if over3() {
		t.Fatal("there is HTTP/3 though nobody asked for it")
	}
	with := strings.Replace(e.text, "certificates: [api-cert, shop-cert]", "certificates: [api-cert, shop-cert], http3: 443", 1)
	apply(with)
	gateway.Eventually(t, "HTTP/3 answers", over3)
	gateway.Eventually(t, "the TCP listener says so", func() bool {
		resp, _, err := fetch(t, e.client(), e.url("/"))
		return err == nil && resp.Header.Get("alt-svc") == `h3=":443"; ma=86400`
	})
	apply(e.text)
	gateway.Eventually(t, "HTTP/3 is gone", func() bool { quick.CloseIdleConnections(); return !over3() })
	if resp, _, err := fetch(t, e.client(), e.url("/")); err != nil || resp.Header.Get("alt-svc") != "" {
		t.Errorf("%v %v", resp, err)
	}
}

// The limit of connections in Envoy's bootstrap does not count those over UDP: they have their own.
func TestHTTP3_ConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	const most = 3
	e := startTLS(t, ", http3: true", "", "")
	if err := e.Apply(map[string]string{"edge.yaml": strings.Replace(e.text, "  listeners:", fmt.Sprintf("  limits: {http3Connections: %d}\n  listeners:", most), 1)}); err != nil {
		t.Fatal(err)
	}
	open := 0
	gateway.Eventually(t, "the limit holds", func() bool {
		open = 0
		for range most + 1 {
			client := e.client3()
			client.Timeout = time.Second
			if _, _, err := fetch(t, client, e.url("/")); err == nil {
				open++
			}
			defer client.CloseIdleConnections()
		}
		return open <= most
	})
	if open != most {
		t.Errorf("%d of %d connections were served", open, most)
	}
	if _, _, err := fetch(t, e.client(), e.url("/")); err != nil {
		t.Errorf("over TCP: %v", err)
	}
}
