// Package fetch is how Sluice itself asks other servers by HTTP, where a policy names them: as if every URL had been
// written to harm it.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// DefaultTimeout bounds a request with its answer.
const DefaultTimeout = 3 * time.Second

const mostRedirects = 3

// NewClient is an HTTP client that goes only where policies may lead: https, or http to loopback, never to link-local
// or metadata addresses whatever a name resolves to, never on to another host. A request takes no longer than
// DefaultTimeout, unless its context ends sooner.
func NewClient() *http.Client {
	transport := &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout: DefaultTimeout, ResponseHeaderTimeout: DefaultTimeout, IdleConnTimeout: 90 * time.Second,
		MaxIdleConns: 64, MaxIdleConnsPerHost: 16,
		DisableCompression: true,
	}
	return &http.Client{Transport: careful{transport}, Timeout: DefaultTimeout, CheckRedirect: sameHost}
}

// careful refuses other schemes, and marks requests without TLS.
type careful struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (c careful) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Scheme {
	case "https":
		return c.next.RoundTrip(r)
	case "http":
		return c.next.RoundTrip(r.WithContext(context.WithValue(r.Context(), plain{}, true)))
	}
	return nil, errors.New("not an http or https URL")
}

func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > mostRedirects:
		return errors.New("redirected too often")
	case r.URL.Scheme != first.Scheme || r.URL.Host != first.Host:
		return errors.New("redirected to another host")
	}
	return nil
}

// plain marks a context of a request without TLS, which may go to loopback only.
type plain struct{}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	_, onlyLoopback := ctx.Value(plain{}).(bool)
	d := &net.Dialer{Timeout: DefaultTimeout, Control: func(_, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		return checkAddress(to.Addr().Unmap(), onlyLoopback)
	}}
	return d.DialContext(ctx, network, address)
}

// checkAddress refuses addresses that no server has which policies may name.
func checkAddress(a netip.Addr, onlyLoopback bool) error {
	a = a.WithZone("")
	switch {
	case onlyLoopback && !a.IsLoopback():
		return fmt.Errorf("%s: http is allowed to loopback only", a)
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified(), metadata(a):
		return fmt.Errorf("%s: link-local and metadata addresses are not asked", a)
	}
	return nil
}

// metadata tells the addresses at which clouds hand out credentials, beside link-local ones.
func metadata(a netip.Addr) bool {
	for _, m := range []string{"fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"} {
		if a == netip.MustParseAddr(m) {
			return true
		}
	}
	return false
}

// Body is the whole body of an answer with status 200, of at most so many bytes. It closes the body.
func Body(resp *http.Response, most int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > most:
		return nil, fmt.Errorf("the answer is larger than %d KiB", most>>10)
	}
	return body, nil
}
