package integration

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// keepAlive is clients that ask again and again, each on the one connection it opened.
type keepAlive struct {
	dials, requests, failed atomic.Int64
	stop                    func()
}

// startKeepAlive starts clients, half of them with HTTP/2, and returns when each has had an answer.
func startKeepAlive(t *testing.T, e *tlsEdge, clients int) *keepAlive {
	k := &keepAlive{}
	ctx, cancel := context.WithCancel(context.Background())
	var running, begun sync.WaitGroup
	for i := range clients {
		config := &tls.Config{ServerName: "api.example", RootCAs: e.ca.Pool(), NextProtos: []string{"http/1.1"}}
		if i%2 == 0 {
			config.NextProtos = []string{"h2", "http/1.1"}
		}
		transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			k.dials.Add(1)
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		}}
		client := &http.Client{Transport: transport, Timeout: gateway.Patience}
		begun.Add(1)
		running.Go(func() {
			defer transport.CloseIdleConnections()
			k.ask(client, e.url("/load"))
			begun.Done()
			for ctx.Err() == nil {
				k.ask(client, e.url("/load"))
			}
		})
	}
	begun.Wait()
	k.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(k.stop)
	return k
}

func (k *keepAlive) ask(c *http.Client, url string) {
	k.requests.Add(1)
	resp, err := c.Get(url)
	if err != nil {
		k.failed.Add(1)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.Close {
		k.failed.Add(1)
	}
}

// TestTLS_RotationUnderLoad rotates again and again: no request fails, no connection closes, no listener changes, and
// whoever comes new is shown the new certificate.
func TestTLS_RotationUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, rotations = 6, 10
	e := startTLS(t, "", "", "")
	k := startKeepAlive(t, e, clients)
	for range rotations {
		next := e.ca.Sign([]string{"api.example", "127.0.0.1"})
		next.Write(t, e.dir, "api")
		gateway.Eventually(t, "new handshakes are shown the new certificate", func() bool {
			return e.shown("api.example").SerialNumber.Cmp(next.Certificate.SerialNumber) == 0
		})
	}
	k.stop()
	if k.failed.Load() != 0 || k.dials.Load() != clients {
		t.Errorf("%d of %d requests failed; %d clients opened %d connections", k.failed.Load(), k.requests.Load(), clients, k.dials.Load())
	}
	stats := e.Admin("/stats?filter=listener_manager.listener_(modified|in_place_updated)")
	for line := range strings.Lines(stats) {
		if !strings.HasSuffix(strings.TrimSpace(line), ": 0") {
			t.Errorf("a rotation changed a listener: %s", line)
		}
	}
	if !strings.Contains(stats, "listener_modified") {
		t.Errorf("no such counter: %s", stats)
	}
	t.Logf("%d requests over %d rotations", k.requests.Load(), rotations)
}

// TestTLS_BrokenRotationKeepsTheLastGood puts bad files where the good ones were.
func TestTLS_BrokenRotationKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	e := startTLS(t, "", "", "")
	good := e.shown("api.example").SerialNumber
	other := e.ca.Sign([]string{"api.example"})
	breaks := []struct {
		name, file string
		text       []byte
		problem    string
	}{
		{"no certificate", "api.crt", []byte("nothing"), "no certificate in PEM"},
		{"the key of another", "api.crt", other.CertificatePEM, "not that of the certificate"},
		{"expired", "api.crt", nil, "expired"},
	}
	for _, b := range breaks {
		t.Run(b.name, func(t *testing.T) {
			if b.text == nil {
				e.ca.Sign([]string{"api.example"}, ca.Expired).Write(t, e.dir, "api")
			} else {
				ca.Write(t, filepath.Join(e.dir, b.file), b.text)
			}
			gateway.Eventually(t, "the problem is told", func() bool { return strings.Contains(e.problem("api-cert"), b.problem) })
			if e.shown("api.example").SerialNumber.Cmp(good) != 0 {
				t.Error("the last good certificate is not shown any more")
			}
		})
	}
	next := e.ca.Sign([]string{"api.example"})
	next.Write(t, e.dir, "api")
	gateway.Eventually(t, "a good one is shown again", func() bool {
		return e.shown("api.example").SerialNumber.Cmp(next.Certificate.SerialNumber) == 0
	})
	if p := e.problem("api-cert"); p != "" {
		t.Errorf("still a problem: %s", p)
	}
}

func (e *tlsEdge) problem(certificate string) string {
	for _, s := range e.Controller.Certificates() {
		if s.Name == certificate {
			return s.Problem
		}
	}
	return "not served"
}

// TestTLS_ClientAuthorityRotates takes a client's authority away and brings another.
func TestTLS_ClientAuthorityRotates(t *testing.T) {
	t.Parallel()
	before, after := ca.New(t, "before"), ca.New(t, "after")
	file := filepath.Join(t.TempDir(), "partners.pem")
	ca.Write(t, file, before.PEM)
	e := startTLS(t, ", clientCA: partners", "", strings.ReplaceAll(partners, "$PARTNERS", file))
	old, fresh := before.Sign([]string{"partner.example"}), after.Sign([]string{"partner.example"})
	passes := func(p ca.Pair) bool {
		c := e.client(p)
		defer c.CloseIdleConnections()
		_, _, err := fetch(t, c, e.url("/"))
		return err == nil
	}
	if !passes(old) || passes(fresh) {
		t.Fatal("before: the wrong client passes")
	}
	ca.Write(t, file, after.PEM)
	gateway.Eventually(t, "the new authority holds", func() bool { return passes(fresh) })
	if passes(old) {
		t.Error("after: a client of the old authority passes")
	}
}
