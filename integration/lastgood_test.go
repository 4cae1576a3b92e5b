package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// host is a machine with an Envoy and the agent beside it, both real, and a control plane that they share with nobody.
type host struct {
	*served
	url     string
	port    int
	sockets string
	copies  string
	tls     envoy.TLS // of Envoy and agent towards the control plane
	agent   *exec.Cmd
	log     *gateway.Buffer // the agent's
	envoy   *envoy.Process
}

// startHost applies policies, in which the gateway edge is added, and starts all three.
func startHost(t *testing.T, policies string) *host {
	return startSecuredHost(t, policies, envoy.TLS{})
}

// startSecuredHost also lets Envoy and agent prove themselves; serving are the arguments by which serve asks for that.
func startSecuredHost(t *testing.T, policies string, proof envoy.TLS, serving ...string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{served: startServed(t, serving...), tls: proof, port: gateway.FreePort(t), sockets: dir, copies: t.TempDir(), log: &gateway.Buffer{}}
	h.url, h.envoyAdmin = fmt.Sprintf("http://127.0.0.1:%d", h.port), "unix:"+filepath.Join(dir, "admin")
	h.apply(policies)
	h.startAgent()
	gateway.Eventually(t, "the agent has it", func() bool { return h.status("sluice_agent_stale") == "0" })
	h.startEnvoy()
	return h
}

func (h *host) apply(policies string) {
	h.t.Helper()
	text := fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, address: 127.0.0.1, port: %d}], accessLog: off}\n---\n", h.port)
	if _, err := h.client.Apply(context.Background(), admin.ApplyRequest{Request: control.Request{Set: objectsOf(h.t, text+policies)}}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) socket(name string) string { return "unix:" + filepath.Join(h.sockets, name) }

func (h *host) startAgent() {
	h.t.Helper()
	h.agent = exec.Command(h.binary, "agent", "--gateway", "edge", "--node", "agent-e1", "--xds", h.xds, "--copy", filepath.Join(h.copies, "edge.copy"),
		"--listen-agent", h.socket("agent"), "--listen-agent-xds", h.socket("xds"), "--listen-metrics", h.socket("metrics"))
	if h.tls.CA != "" {
		h.agent.Args = append(h.agent.Args, "--cert", h.tls.Certificate, "--key", h.tls.Key, "--ca", h.tls.CA)
	}
	h.agent.Stdout, h.agent.Stderr = h.log, h.log
	h.agent.Env = []string{"HOME=" + h.dir}
	if err := h.agent.Start(); err != nil {
		h.t.Fatal(err)
	}
	started := h.agent
	h.t.Cleanup(func() { _ = started.Process.Kill(); _ = started.Wait() })
	gateway.Eventually(h.t, "the agent runs", func() bool { return h.status("go_goroutines") != "" })
}

func (h *host) killAgent() {
	_ = h.agent.Process.Kill()
	_ = h.agent.Wait()
}

// status is the value of one of the agent's metrics, "" for none.
func (h *host) status(metric string) string {
	resp, err := envoy.AdminClient(h.socket("metrics")).Get("http://agent/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, metric+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// launchEnvoy starts Envoy, and does not wait for it.
func (h *host) launchEnvoy() {
	h.t.Helper()
	p := &envoy.Process{
		Binary: featuretest.Envoy(h.t), Concurrency: 1, DrainTime: time.Second, Log: &gateway.Buffer{},
		Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "e1", Servers: []string{h.xds}, TLS: h.tls, Agent: h.socket("agent"), AgentXDS: h.socket("xds"), Admin: h.envoyAdmin},
	}
	if err := p.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.envoy = p
	h.t.Cleanup(func() { h.stopEnvoy(p) })
}

func (h *host) stopEnvoy(p *envoy.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
	defer cancel()
	_ = p.Stop(ctx)
}

func (h *host) startEnvoy() {
	h.t.Helper()
	h.launchEnvoy()
	h.isReady()
}

func (h *host) isReady() {
	h.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), gateway.Patience)
	defer cancel()
	if err := h.envoy.Ready(ctx); err != nil {
		h.t.Fatalf("%v: %s\nagent: %s", err, h.envoy.Log, h.log)
	}
	h.t.Logf("Envoy was ready after %v", time.Since(began).Round(time.Millisecond))
}

func (h *host) restartEnvoy() {
	h.t.Helper()
	h.stopEnvoy(h.envoy)
	h.startEnvoy()
}

// isBack waits until the Envoy is at the control plane, with all that there is.
func (h *host) isBack() {
	h.t.Helper()
	began := time.Now()
	gateway.Eventually(h.t, "the Envoy is at the control plane", func() bool {
		e := h.known("e1")
		return e != nil && e.Connected && e.State == xds.Synced
	})
	h.t.Logf("the Envoy was back after %v", time.Since(began).Round(time.Millisecond))
}

// known is what the control plane knows of a node.
func (h *host) known(node string) *xds.EnvoyStatus {
	known, err := h.client.Envoys(context.Background())
	if err != nil {
		return nil
	}
	for _, e := range known.Envoys {
		if e.Node == node {
			return &e
		}
	}
	return nil
}

func (h *host) get(path string, headers ...string) int {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodGet, h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (h *host) freeze() { _ = h.cmd.Process.Signal(syscall.SIGSTOP) }
func (h *host) thaw()   { _ = h.cmd.Process.Signal(syscall.SIGCONT) }

// createKey makes an API key, as a person does.
func (h *host) createKey(args ...string) string {
	h.t.Helper()
	cmd := exec.Command(h.binary, append([]string{"keys", "create", "--server", "http://" + h.admin}, args...)...)
	cmd.Env = []string{"HOME=" + h.dir}
	key, err := cmd.Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

// TestLastGood_CredentialsWithoutIssuerAndControlPlane stops the control plane in each way, with the issuer gone for good, and
// restarts Envoy and its agent.
func TestLastGood_CredentialsWithoutIssuerAndControlPlane(t *testing.T) {
	idp, service := newIssuer(t), &echoHeaders{}
	h := startHost(t, authPolicies(idp, gateway.Backend(t, service))["policy.yaml"]+
		"    - {name: key, match: /key, authenticate: {apiKey: x-api-key}, authorize: {permissions: [place_orders]}, to: echo}\n")
	key, poor := h.createKey("--owner", "acme", "--permissions", "place_orders"), h.createKey("--owner", "other")
	good, expired := idp.token(t), idp.token(t, "exp", time.Now().Add(-2*time.Minute).Unix())
	check := func(t *testing.T) {
		t.Helper()
		gateway.Eventually(t, "a good token passes", func() bool { return h.get("/permission", bearer(good)...) == 200 })
		gateway.Eventually(t, "a good key passes", func() bool { return h.get("/key", "x-api-key", key) == 200 })
		for _, tt := range []struct {
			name, path string
			headers    []string
			want       int
		}{
			{"none", "/permission", nil, 401}, {"cut", "/permission", bearer(good[:len(good)-9]), 401},
			{"expired", "/permission", bearer(expired), 401}, {"without the permission", "/both", bearer(good), 403}, {"public", "/public/x", nil, 200},
			{"no key", "/key", nil, 401}, {"a cut key", "/key", []string{"x-api-key", key[:len(key)-2]}, 401}, {"a key without the permission", "/key", []string{"x-api-key", poor}, 403},
		} {
			if got := h.get(tt.path, tt.headers...); got != tt.want {
				t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
			}
		}
		for name, token := range forged(t, idp) {
			if len(token) > 4096 {
				continue
			}
			if got := h.get("/known/x", bearer(token)...); got < 400 || got > 499 {
				t.Errorf("%s: %d", name, got)
			}
		}
	}
	check(t)
	idp.Close()
	for _, tt := range []struct {
		name       string
		away, back func()
	}{
		{"killed", h.kill, h.start},
		{"frozen", h.freeze, h.thaw},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.away()
			h.restartEnvoy()
			check(t)
			h.killAgent()
			h.startAgent()
			h.restartEnvoy()
			check(t)
			if h.status("sluice_agent_stale") != "1" {
				t.Error("what is served is not shown as stale")
			}
			tt.back()
			h.isBack()
			check(t)
			gateway.Eventually(t, "the control plane is told that e1 was served without it", func() bool {
				e := h.known("agent-e1")
				return e != nil && e.Outage != nil && slices.Equal(e.Outage.Envoys, []string{"e1"})
			})
			if out, _ := h.run("envoys"); !strings.Contains(out, "served e1 without the control plane for ") {
				t.Errorf("sluice envoys prints\n%s", out)
			}
		})
	}
}

const answering = "apiVersion: sluice/v1\nkind: Service\nmetadata: {name: orders}\nspec: {endpoints: [%q]}\n---\n" +
	"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: a}\nspec: {rules: [{match: /orders, to: orders}, {match: /b, direct: {body: %q}}]}\n"

// TestLastGood_NothingFailsOnTheWayOverAndBack takes the control plane away again and again while clients ask, and kills
// the agent, too. Envoy is sent nothing, for nothing changes; and what changes while it is on its way, it gets.
func TestLastGood_NothingFailsOnTheWayOverAndBack(t *testing.T) {
	address := gateway.Echo(t, "orders")
	h := startHost(t, fmt.Sprintf(answering, address, "0"))
	h.isBack()
	l := startLoad(t, h.url, 2, func(_ *rand.Rand, get func(string) reply) string {
		for _, path := range []string{"/orders", "/b"} {
			if got := get(path); got.status != 200 {
				return got.String()
			}
		}
		return ""
	})
	const notices = "(cluster_(added|modified|removed)|listener_(added|modified|removed)|config_reload|rds.*version|membership_change)$"
	before := h.stats(notices)
	for round := range Amount(20) {
		h.kill()
		gateway.Eventually(t, "the agent serves the Envoy", func() bool { return h.status(`sluice_xds_connected{gateway="edge"}`) == "1" })
		if round%2 == 1 {
			h.killAgent()
			h.startAgent()
			gateway.Eventually(t, "the agent serves the Envoy again", func() bool { return h.status(`sluice_xds_connected{gateway="edge"}`) == "1" })
		}
		h.start()
		h.isBack()
		if sent := h.metric("sluice_xds_resources_sent_total", ""); sent != 0 {
			t.Errorf("%v resources were sent although nothing changed", sent)
		}
	}
	if after := h.stats(notices); after != before || before == "" {
		t.Errorf("Envoy noticed that servers were changed:\n%s\nbefore:\n%s", after, before)
	}
	h.kill()
	gateway.Eventually(t, "the agent serves the Envoy", func() bool { return h.status(`sluice_xds_connected{gateway="edge"}`) == "1" })
	h.start()
	h.apply(fmt.Sprintf(answering, address, "1"))
	client := l.client()
	defer client.CloseIdleConnections()
	gateway.Eventually(t, "the change is served", func() bool { return l.get(client, h.url+"/b").body == "1" })
	h.isBack()
	l.size++ // the client that waited for the change
	l.end(t)
}

func TestLastGood_AServerThatLostItsStoreIsPassedOver(t *testing.T) {
	h := startHost(t, fmt.Sprintf(answering, gateway.Echo(t, "orders"), "0"))
	h.kill()
	if err := os.Remove(filepath.Join(h.dir, "store.db")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.restartEnvoy()
	if got := h.get("/orders"); got != 200 {
		t.Errorf("%d", got)
	}
	h.killAgent()
	h.startAgent()
	h.restartEnvoy()
	if got := h.get("/orders"); got != 200 {
		t.Errorf("with the agent restarted: %d", got)
	}
	h.apply(fmt.Sprintf(answering, gateway.Echo(t, "orders"), "1"))
	h.isBack()
}

func TestLastGood_NothingIsServedFromADamagedCopy(t *testing.T) {
	h := startHost(t, fmt.Sprintf(answering, gateway.Echo(t, "orders"), "0"))
	h.kill()
	h.killAgent()
	file := filepath.Join(h.copies, "edge.xds")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.startAgent()
	h.stopEnvoy(h.envoy)
	h.launchEnvoy()
	gateway.Eventually(t, "the agent says so", func() bool {
		return strings.Contains(h.log.String(), "damaged") && strings.Contains(h.log.String(), "there is no last good configuration")
	})
	gateway.Eventually(t, "Envoy waits", func() bool {
		resp, err := envoy.AdminClient(h.envoyAdmin).Get("http://envoy/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	if got := h.stats("listener_manager.listener_added$"); !strings.Contains(got, ": 0") {
		t.Errorf("Envoy has %s", got)
	}
	h.start()
	h.isReady()
	h.isBack()
}

// TestLastGood_AnEnvoyWithoutAnAgentGoesOn although its bootstrap names one.
func TestLastGood_AnEnvoyWithoutAnAgentGoesOn(t *testing.T) {
	h := startHost(t, fmt.Sprintf(answering, gateway.Echo(t, "orders"), "0"))
	h.killAgent()
	h.restartEnvoy()
	h.isBack()
	for range Amount(20) {
		h.kill()
		if got := h.get("/orders"); got != 200 {
			t.Errorf("%d", got)
		}
		h.start()
		h.isBack()
	}
}

// TestLastGood_OverMutualTLS has the control plane behind certificates, and the agent without.
func TestLastGood_OverMutualTLS(t *testing.T) {
	dir := t.TempDir()
	authority, pair, err := certs.NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	issue := func(name string, r certs.Request) (cert, key string) {
		r.Lifetime = 30 * time.Minute
		pair, err := authority.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return write(name+".crt", pair.CertificatePEM), write(name+".key", pair.KeyPEM)
	}
	proof := envoy.TLS{CA: write("ca.crt", pair.CertificatePEM)}
	proof.Certificate, proof.Key = issue("node", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}})
	cert, key := issue("server", certs.Request{Hosts: []string{"127.0.0.1"}})
	h := startSecuredHost(t, fmt.Sprintf(answering, gateway.Echo(t, "orders"), "0"), proof, "--xds-cert", cert, "--xds-key", key, "--xds-client-ca", proof.CA)
	for _, away := range []func(){h.kill, h.freeze} {
		away()
		h.killAgent()
		h.startAgent()
		h.restartEnvoy()
		if got := h.get("/orders"); got != 200 {
			t.Errorf("%d", got)
		}
		h.kill()
		h.start()
		h.isBack()
	}
	if denied := h.metric("sluice_xds_denied_total", ""); denied != 0 {
		t.Errorf("%v calls were denied", denied)
	}
}
