package integration

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
)

// TestServe_KilledAtRandomMoments kills the program at some moment of every push. Each push changes two Routes and a
// Service at once, so that half of one would show: in the store, and to clients that ask for both paths all the time.
func TestServe_KilledAtRandomMoments(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SLUICE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	s := startServed(t)
	k := &killed{served: s, port: gateway.FreePort(t), address: gateway.Echo(t, "orders")}
	k.url = fmt.Sprintf("http://127.0.0.1:%d", k.port)
	k.pushInPeace(0)
	s.startEnvoy()
	k.serves(0)
	l := startLoad(t, k.url, 2, wholeRevisions)
	var acknowledged, stored int
	pushes := Amount(200)
	for n := 1; n <= pushes; n++ {
		answered, kept := k.killDuring(n, time.Duration(r.Int64N(int64(k.usual*3/2))))
		if answered {
			acknowledged++
		}
		if kept {
			stored++
		}
	}
	l.end(t)
	t.Logf("%d pushes, each killed: %d were acknowledged before, %d stored", pushes, acknowledged, stored)
	k.sentNothing()
}

// killed is a site whose every revision changes two Routes and a Service.
type killed struct {
	*served
	url, address string
	port         int
	usual        time.Duration // that an undisturbed push takes: later ones weigh more
}

func (k *killed) request(n int) admin.ApplyRequest {
	text := fmt.Sprintf(`apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, address: 127.0.0.1, port: %d}], accessLog: off}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: orders}
spec: {endpoints: [%q], circuitBreaker: {maxPending: %d}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: a}
spec: {rules: [{match: /a, direct: {body: "%d"}}, {match: /orders, to: orders}]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: b}
spec: {match: /b, direct: {body: "%d"}}
`, k.port, k.address, 100+n, n, n)
	return admin.ApplyRequest{Request: control.Request{Set: objectsOf(k.t, text), RequestID: fmt.Sprintf("push-%d", n)}}
}

func (k *killed) push(n int) (*admin.ApplyResult, error) {
	return k.client.Apply(context.Background(), k.request(n))
}

// pushInPeace is a push that nothing disturbs.
func (k *killed) pushInPeace(n int) *admin.ApplyResult {
	k.t.Helper()
	began := time.Now()
	result, err := k.push(n)
	if err != nil {
		k.t.Fatalf("push %d: %v", n, err)
	}
	took := time.Since(began)
	k.usual = (cmp.Or(k.usual, took) + took) / 2
	return result
}

// killDuring kills the program some time after a push began, starts it again, and holds what it kept against what it
// said. It leaves the site at that push.
func (k *killed) killDuring(n int, after time.Duration) (answered, kept bool) {
	k.t.Helper()
	pushed := make(chan error, 1)
	go func() { _, err := k.push(n); pushed <- err }()
	time.Sleep(after)
	k.kill()
	answered = <-pushed == nil
	k.start()
	stored := k.stored()
	kept = stored == n
	if answered && !kept || !kept && stored != n-1 {
		k.t.Fatalf("push %d, acknowledged %v, was killed after %v: revision %d is stored", n, answered, after, stored)
	}
	if again := k.pushInPeace(n); again.Changed == kept {
		k.t.Fatalf("push %d is stored: %v; pushed again it changed something: %v", n, kept, again.Changed)
	}
	k.serves(n)
	return answered, kept
}

// stored is the push that the stored objects come from; all of them from the same.
func (k *killed) stored() int {
	k.t.Helper()
	list, err := k.client.Objects(context.Background(), admin.ObjectFilter{})
	if err != nil {
		k.t.Fatal(err)
	}
	text := map[string]string{}
	for _, o := range list.Objects {
		text[o.Ref.String()] = o.Text
	}
	for n := 0; ; n++ {
		a := strings.Contains(text["Route/a"], fmt.Sprintf("body: %q", fmt.Sprint(n)))
		b := strings.Contains(text["Route/b"], fmt.Sprintf("body: %q", fmt.Sprint(n)))
		c := strings.Contains(text["Service/orders"], fmt.Sprintf("maxPending: %d}", 100+n))
		switch {
		case a && b && c:
			return n
		case a || b || c || n > 1_000_000:
			k.t.Fatalf("half a revision is stored:\n%v", text)
		}
	}
}

// serves waits until Envoy answers as a push says.
func (k *killed) serves(n int) {
	k.t.Helper()
	l := &load{}
	client := l.client()
	defer client.CloseIdleConnections()
	gateway.Eventually(k.t, fmt.Sprintf("Envoy serves push %d", n), func() bool {
		return l.get(client, k.url+"/b").body == fmt.Sprint(n) && l.get(client, k.url+"/orders").status == 200
	})
}

// wholeRevisions asks for one path, the other, and the first again: if that has not changed, both must be of one push.
func wholeRevisions(_ *rand.Rand, get func(string) reply) string {
	a, b, a2, service := get("/a"), get("/b"), get("/a"), get("/orders")
	for _, got := range []reply{a, b, a2, service} {
		if got.status != 200 {
			return got.String()
		}
	}
	if a.body == a2.body && a.body != b.body {
		return fmt.Sprintf("/a is of push %s, /b of push %s", a.body, b.body)
	}
	return ""
}

// sentNothing kills the program once more, with nothing changed, and looks at what it sends then, and at what Envoy
// notices.
func (k *killed) sentNothing() {
	k.t.Helper()
	k.envoyIs("synced")
	const notices = "(cluster_(added|modified|removed)|listener_(added|modified|removed)|config_reload|rds.*version|membership_change)$"
	before := k.stats(notices)
	k.kill()
	k.start()
	k.envoyIs("synced")
	if sent := k.metric("sluice_xds_resources_sent_total", ""); sent != 0 {
		k.t.Errorf("%v resources were sent after a restart with nothing changed", sent)
	}
	if after := k.stats(notices); after != before || before == "" {
		k.t.Errorf("Envoy noticed a restart with nothing changed:\n%s\nbefore:\n%s", after, before)
	}
}
