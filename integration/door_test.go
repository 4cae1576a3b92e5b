package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// doorEdge is an Envoy and an agent that know their control plane by certificates, and clients that ask Envoy meanwhile.
type doorEdge struct {
	*gateway.Gateway
	t        *testing.T
	door     *gateway.Door
	own      certs.Pair // of Envoy and agent at first
	idp      *issuer
	files    map[string]string
	pushes   int
	requests atomic.Int64
	failed   atomic.Int64
	why      atomic.Pointer[string] // the first of them
	stop     func()
}

func startDoor(t *testing.T) *doorEdge {
	t.Helper()
	e := &doorEdge{t: t, door: gateway.NewDoor(t), idp: newIssuer(t)}
	e.own = e.door.Issue("test", time.Hour)
	service := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	e.files = e.policies(service)
	e.Gateway = gateway.Start(t, e.files, gateway.WithAgent(&gateway.Agent{}), gateway.Behind(e.door))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("control plane: %s", e.door.Log)
		}
	})
	e.load(4)
	return e
}

func (e *doorEdge) policies(service string) map[string]string {
	return map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.test", audiences: [food-api], jwks: {url: %s/jwks.json}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: api}
spec: {endpoints: ["%s"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {name: known, match: /known, authenticate: {jwt: idp}, to: api}
    - {name: open, match: /open, to: api}
`, e.idp.URL, service)}
}

// load asks until the test ends.
func (e *doorEdge) load(clients int) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range clients {
		client := &http.Client{Timeout: gateway.Patience, Transport: &http.Transport{}}
		running.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				e.ask(client)
				time.Sleep(5 * time.Millisecond) // no more than there is to learn
			}
		})
	}
	e.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	e.t.Cleanup(e.stop)
}

func (e *doorEdge) ask(client *http.Client) {
	e.requests.Add(1)
	resp, err := client.Get(e.URL + "/open")
	if err != nil {
		e.fail(err.Error())
		return
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		e.fail(fmt.Sprint(resp.StatusCode, err, string(body)))
	}
}

// fail remembers a request that was not answered as it should.
func (e *doorEdge) fail(why string) {
	e.failed.Add(1)
	e.why.CompareAndSwap(nil, &why)
}

// apply adds a route that Envoy answers by itself.
func (e *doorEdge) apply(path string) {
	e.t.Helper()
	files := maps.Clone(e.files)
	files["more.yaml"] = fmt.Sprintf(`
apiVersion: sluice/v1
kind: Route
metadata: {name: more}
spec: {match: %s, direct: {status: 200}}
`, path)
	if err := e.Apply(files); err != nil {
		e.t.Fatal(err)
	}
}

func (e *doorEdge) serves(path string) bool {
	status, _, _ := e.Get(path)
	return status == http.StatusOK
}

// push applies a change, and waits until it is served.
func (e *doorEdge) push() {
	e.t.Helper()
	e.pushes++
	path := fmt.Sprintf("/push-%d", e.pushes)
	e.apply(path)
	gateway.Eventually(e.t, path+" is served", func() bool { return e.serves(path) })
}

// decides looks whether the agent knows whom to let through.
func (e *doorEdge) decides() {
	e.t.Helper()
	token := e.idp.token(e.t)
	gateway.Eventually(e.t, "a good token passes", func() bool { status, _, _ := e.Get("/known", bearer(token)...); return status == http.StatusOK })
	if status, _, _ := e.Get("/known"); status == http.StatusOK {
		e.t.Error("without a token: 200")
	}
}

// since is when each, Envoy and agent, has connected last.
func (e *doorEdge) since() map[string]time.Time {
	out := map[string]time.Time{}
	for _, s := range e.XDS.Envoys() {
		if s.Connected {
			out[s.Node] = s.Since
		}
	}
	return out
}

func (e *doorEdge) synced() bool {
	list := e.XDS.Envoys()
	for _, s := range list {
		if s.State != xds.Synced {
			return false
		}
	}
	return len(list) == 2
}

// shows tells whether Envoy holds a certificate for its control plane.
func (e *doorEdge) shows(p certs.Pair) bool {
	return strings.Contains(strings.ReplaceAll(e.Admin("/certs"), `"serial_number": "0`, `"serial_number": "`), `"serial_number": "`+certs.SerialOf(p.Certificate)+`"`)
}

func (e *doorEdge) end() {
	e.t.Helper()
	e.stop()
	if why := e.why.Load(); why != nil || e.requests.Load() == 0 {
		e.t.Errorf("%d of %d requests failed: %s", e.failed.Load(), e.requests.Load(), *why)
	}
	e.t.Logf("%d requests", e.requests.Load())
}

// TestDoor_RotationUnderTraffic renews the certificates of Envoy, agent and server while requests flow. The first
// certificate of Envoy and agent ends meanwhile: they come again with the one they have then.
func TestDoor_RotationUnderTraffic(t *testing.T) {
	t.Parallel()
	e := startDoor(t)
	present := e.own
	for range Amount(20) {
		brief := e.door.Issue("test", 6*time.Second)
		gateway.Eventually(t, "Envoy holds the certificate that ends soon", func() bool { return e.shows(brief) })
		e.again("with the certificate that ends soon, since the one before is revoked", func() { e.door.Revoke(present) })
		e.again("with the certificate that lasts, since the one before has ended", func() {
			e.door.Issue("server", time.Hour)
			present = e.door.Issue("test", time.Hour)
		})
		e.push()
		gateway.Eventually(t, "both have all", e.synced)
		e.decides()
	}
	server := e.door.Issue("server", time.Hour)
	gateway.Eventually(t, "the server shows its new certificate", func() bool { return e.shownByServer(server) })
	e.end()
}

// again waits until Envoy and agent have both come again after something was done.
func (e *doorEdge) again(why string, do func()) {
	e.t.Helper()
	before := e.since()
	do()
	gateway.Eventually(e.t, "they come again "+why, func() bool {
		now := e.since()
		return len(now) == 2 && now["test"].After(before["test"]) && now["agent-test"].After(before["agent-test"])
	})
}

// TestDoor_AuthorityRotated changes to another authority, as the documentation says.
func TestDoor_AuthorityRotated(t *testing.T) {
	t.Parallel()
	e := startDoor(t)
	old := e.door.Folder
	e.door.NewAuthority("two")
	e.door.Trust(old, e.door.Folder)
	node := e.door.Issue("test", time.Hour)
	gateway.Eventually(t, "Envoy holds the new authority's certificate", func() bool { return e.shows(node) })
	server := e.door.Issue("server", time.Hour)
	gateway.Eventually(t, "the server shows the new authority's certificate", func() bool { return e.shownByServer(server) })
	e.again("when the old authority counts no more", func() { e.door.Trust() })
	e.push()
	gateway.Eventually(t, "both have all", e.synced)
	e.end()
}

// TestDoor_RevokedNodeServesOn what it has, gets nothing more, and comes back with a new certificate.
func TestDoor_RevokedNodeServesOn(t *testing.T) {
	t.Parallel()
	e := startDoor(t)
	e.door.Revoke(e.own)
	gateway.Eventually(t, "both are out", func() bool { return len(e.since()) == 0 })
	e.apply("/late")
	e.decides()
	gateway.Eventually(t, "Envoy tries in vain", func() bool { return strings.Count(e.door.Log.String(), "msg=denied") > 3 })
	if e.serves("/late") {
		t.Error("a revoked node has a new route")
	}
	e.door.Issue("test", time.Hour)
	gateway.Eventually(t, "the new route is served", func() bool { return e.serves("/late") })
	gateway.Eventually(t, "both have all", e.synced)
	e.end()
}

// TestDoor_EnvoyKnowsItsServer does not follow one that cannot prove itself.
func TestDoor_EnvoyKnowsItsServer(t *testing.T) {
	t.Parallel()
	e := startDoor(t)
	trusted := e.door.Folder
	e.door.NewAuthority("stranger")
	server := e.door.Issue("server", time.Hour)
	gateway.Eventually(t, "the server shows a stranger's certificate", func() bool { return e.shownByServer(server) })
	e.door.Folder = trusted
	e.door.Revoke(e.own) // so that they have to come again
	e.door.Issue("test", time.Hour)
	gateway.Eventually(t, "both are out", func() bool { return len(e.since()) == 0 })
	gateway.Eventually(t, "Envoy refuses the server", func() bool {
		return !strings.Contains(e.Admin("/stats?filter=cluster.sluice-xds.ssl.fail_verify_error"), "fail_verify_error: 0")
	})
	if len(e.since()) != 0 {
		t.Error("somebody followed a stranger")
	}
	e.door.Issue("server", time.Hour)
	gateway.Eventually(t, "both come back", func() bool { return len(e.since()) == 2 })
	e.push()
	e.end()
}

// shownByServer tells whether new connections see this certificate. The one that asks has none, and gets no further.
func (e *doorEdge) shownByServer(p certs.Pair) bool {
	seen := false
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: gateway.Patience}, "tcp", e.XDSAddress, &tls.Config{
		InsecureSkipVerify: true, // looked at, not believed
		VerifyConnection: func(s tls.ConnectionState) error {
			seen = s.PeerCertificates[0].SerialNumber.Cmp(p.Certificate.SerialNumber) == 0
			return nil
		},
	})
	if err == nil {
		conn.Close()
	}
	return seen
}
