package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// TestRefusedByEnvoy gives a gateway a second listener on a port that is taken: the proof cannot know, Envoy refuses it.
func TestRefusedByEnvoy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := startServed(t)
	r := &refusing{served: s, port: gateway.FreePort(t), taken: taken.Addr().(*net.TCPAddr).Port}
	r.apply(r.policies("first", false), 0)
	s.startEnvoy()
	s.envoyIs("synced")
	l := startLoad(t, fmt.Sprintf("http://127.0.0.1:%d", r.port), 1, present)
	sent := s.metric("sluice_xds_resources_sent_total", `type="listener"`)

	out := r.apply(r.policies("second", true), 3)
	for _, want := range []string{"e1", "edge/extra", "Address already in use"} {
		if !strings.Contains(out, want) {
			t.Errorf("apply does not say %q:\n%s", want, out)
		}
	}
	r.answers("second") // the rest is updated
	for _, command := range [][]string{{"envoys", "-o", "json"}, {"why", "Gateway/edge"}} {
		if out, code := s.run(command...); code != 0 || !strings.Contains(out, "Address already in use") || !strings.Contains(out, "edge/extra") {
			t.Errorf("sluice %v ends with %d and does not give Envoy's reason:\n%s", command, code, out)
		}
	}
	for n := range Amount(50) { // later revisions go out, the refused listener does not
		r.apply(r.policies(fmt.Sprintf("later-%d", n), true), 3)
		r.answers(fmt.Sprintf("later-%d", n))
	}
	if again := s.metric("sluice_xds_resources_sent_total", `type="listener"`) - sent; again != 1 {
		t.Errorf("the refused listener was sent %v times", again)
	}
	if nacks := s.metric("sluice_xds_nack_total", ""); nacks != 1 {
		t.Errorf("Envoy refused %v times", nacks)
	}
	taken.Close()
	r.taken = gateway.FreePort(t)
	r.apply(r.policies("repaired", true), 0)
	s.envoyIs("synced")
	l.end(t)
}

type refusing struct {
	*served
	port, taken int
}

// apply runs `sluice apply`, which must end with that code, and gives what it prints.
func (r *refusing) apply(policies string, code int) string {
	r.t.Helper()
	file := filepath.Join(r.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(policies), 0o600); err != nil {
		r.t.Fatal(err)
	}
	out, got := r.run("apply", "-f", file)
	if got != code {
		r.t.Fatalf("apply ends with %d, want %d:\n%s", got, code, out)
	}
	return out
}

func (r *refusing) answers(body string) {
	r.t.Helper()
	l := &load{}
	client := l.client()
	defer client.CloseIdleConnections()
	gateway.Eventually(r.t, "Envoy answers "+body, func() bool { return l.get(client, fmt.Sprintf("http://127.0.0.1:%d/hello", r.port)).body == body })
}

// present asks for a path that is always there.
func present(_ *rand.Rand, get func(string) reply) string {
	if got := get("/hello"); got.status != 200 {
		return got.String()
	}
	return ""
}

func (r *refusing) policies(body string, extra bool) string {
	listeners := fmt.Sprintf("{name: http, address: 127.0.0.1, port: %d}", r.port)
	if extra {
		listeners += fmt.Sprintf(", {name: extra, address: 127.0.0.1, port: %d}", r.taken)
	}
	return fmt.Sprintf("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [%s], accessLog: off}\n---\n"+
		"apiVersion: sluice/v1\nkind: Route\nmetadata: {name: hello}\nspec: {match: /hello, direct: {body: %s}}\n", listeners, body)
}
