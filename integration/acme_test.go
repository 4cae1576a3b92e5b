package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/integration/gateway"
)

// pebbleBinary is the ACME authority for tests: the one that SLUICE_PEBBLE names, else what scripts/tools.sh fetched.
func pebbleBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLUICE_PEBBLE"); path != "" {
		return path
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	found, _ := filepath.Glob(filepath.Join(cache, "sluice", "tools", "pebble-*", "pebble"))
	if len(found) > 0 {
		return slices.Max(found)
	}
	err := errors.New("no Pebble: run `scripts/tools.sh pebble`, or name one with SLUICE_PEBBLE")
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// authority is a running Pebble.
type authority struct {
	directory string // URL
	roots     string // file: who signed its own certificate
	manage    string // URL of its management
	client    *http.Client
}

// startPebble runs an authority that looks for every domain at this host, and asks at a port.
func startPebble(t *testing.T, port int) *authority {
	t.Helper()
	binary, dir, own := pebbleBinary(t), t.TempDir(), ca.New(t, "pebble's own")
	own.Sign([]string{"127.0.0.1"}, ca.ForServers).Write(t, dir, "pebble")
	a := &authority{roots: filepath.Join(dir, "roots.pem")}
	ca.Write(t, a.roots, own.PEM)
	listen, manage := gateway.FreePort(t), gateway.FreePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + strconv.Itoa(listen), "managementListenAddress": "127.0.0.1:" + strconv.Itoa(manage),
		"certificate": filepath.Join(dir, "pebble.crt"), "privateKey": filepath.Join(dir, "pebble.key"),
		"httpPort": port, "tlsPort": gateway.FreePort(t),
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	ca.Write(t, file, config)
	out := &gateway.Buffer{}
	cmd := exec.Command(binary, "-config", file, "-dnsserver", nameserver(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble: %s", out)
		}
	})
	a.directory, a.manage = fmt.Sprintf("https://127.0.0.1:%d/dir", listen), fmt.Sprintf("https://127.0.0.1:%d", manage)
	a.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own.Pool()}}}
	gateway.Eventually(t, "pebble answers", func() bool {
		resp, err := a.client.Get(a.directory)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return a
}

// issued are the roots of what it issues.
func (a *authority) issued(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := a.client.Get(a.manage + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%v: %s", err, text)
	}
	return pool
}

// nameserver says that every name is this host.
func nameserver(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0") // Pebble asks by TCP
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: lis, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		out := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; q.Qtype == dns.TypeA {
			out.Answer = append(out.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(out)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return lis.Addr().String()
}

// shown is the certificate that a listener shows for a name, nil for none that the roots sign.
func shown(port int, name string, roots *x509.CertPool) *x509.Certificate {
	conn, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestACME_CertificatesAreObtainedWhileTheGatewayServes(t *testing.T) {
	port, secure := gateway.FreePort(t), gateway.FreePort(t)
	pebble := startPebble(t, port)
	g := gateway.Start(t, map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec:
  listeners:
    - {name: plain, port: $PORT}
    - {name: http, port: %d}
    - {name: https, port: %d, tls: {certificates: [shop, api]}}
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: shop}
spec: {acme: {domain: shop.example, email: ops@shop.example, directory: "%[3]s", ca: {file: %[4]s}}}
---
apiVersion: sluice/v1
kind: Certificate
metadata: {name: api}
spec: {acme: {domain: api.shop.example, directory: "%[3]s", ca: {file: %[4]s}}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: any}
spec: {match: /*, direct: {body: any}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec: {hosts: [api.shop.example], match: /*, direct: {body: api}}
`, port, secure, pebble.directory, pebble.roots)}, gateway.Obtaining())
	roots := pebble.issued(t)
	for _, name := range []string{"shop.example", "api.shop.example"} {
		gateway.Eventually(t, "there is a certificate for "+name, func() bool { return shown(secure, name, roots) != nil })
		if c := shown(secure, name, roots); !slices.Equal(c.DNSNames, []string{name}) {
			t.Errorf("%s is shown a certificate for %v", name, c.DNSNames)
		}
	}
	gateway.Eventually(t, "the answers are gone", func() bool {
		for _, v := range g.Controller.Serving().Config.Gateways[0].Hosts {
			for _, r := range v.Routes {
				if r.Text != "" {
					return false
				}
			}
		}
		return true
	})
	if _, body, _ := g.Get("/.well-known/acme-challenge/unknown"); body != "any" {
		t.Errorf("a path that no authority asks for: %q, want the route's own answer", body)
	}
	if n := strings.Count(g.Admin("/stats?filter=listener_modified"), ": 0"); n == 0 {
		t.Errorf("listeners were changed: %s", g.Admin("/stats?filter=listener_modified"))
	}
}
