package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Limits of one fetch.
const (
	fetchTimeout  = 3 * time.Second
	maxBytes      = 256 << 10
	mostRedirects = 3
)

// newClient is an HTTP client that goes only where policies may lead: https, or http to loopback, never to link-local
// or metadata addresses whatever a name resolves to, never on to another host.
func newClient() *http.Client {
	transport := &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout: fetchTimeout, ResponseHeaderTimeout: fetchTimeout, IdleConnTimeout: 90 * time.Second, MaxIdleConns: 16,
		DisableCompression: true,
	}
	return &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: sameHost}
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
	d := &net.Dialer{Timeout: fetchTimeout, Control: func(_, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		return checkAddress(to.Addr().Unmap(), onlyLoopback)
	}}
	return d.DialContext(ctx, network, address)
}

// checkAddress refuses addresses that no issuer of keys has.
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

// get fetches one document.
func get(ctx context.Context, client *http.Client, raw string) ([]byte, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("not an http or https URL")
	}
	if u.Scheme == "http" {
		ctx = context.WithValue(ctx, plain{}, true)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("accept", "application/json, application/jwk-set+json")
	r.Header.Set("user-agent", "sluice")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxBytes:
		return nil, fmt.Errorf("the answer is larger than %d KiB", maxBytes>>10)
	}
	return body, nil
}

// discover is the URL of an issuer's keys, as its OpenID Connect discovery document says.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	body, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", errors.New("discovery: not JSON")
	}
	if doc.Issuer != issuer || doc.JWKS == "" {
		return "", errors.New("discovery: the document is of another issuer, or names no keys")
	}
	return doc.JWKS, nil
}
