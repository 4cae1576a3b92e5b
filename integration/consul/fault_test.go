package consul_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
)

// names of services, and their keys.
func services(n int) []catalog.Key {
	var keys []catalog.Key
	for i := range n {
		keys = append(keys, catalog.Key{Service: fmt.Sprintf("s%04d", i)})
	}
	return keys
}

// register writes an instance into the catalog itself, which is quick and needs no agent of its node.
func register(t testing.TB, a *agent.Agent, service string, n int) {
	t.Helper()
	number, _ := strconv.Atoi(strings.TrimLeft(service, "s"))
	_, err := a.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "elsewhere", Address: "127.0.0.3", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: fmt.Sprintf("%s-%d", service, n), Service: service, Port: 1000 + 10*number + n},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func deregister(t testing.TB, a *agent.Agent, service string, n int) {
	t.Helper()
	_, err := a.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "elsewhere", ServiceID: fmt.Sprintf("%s-%d", service, n)}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// elsewhere makes the node that register uses.
func elsewhere(t testing.TB, a *agent.Agent) {
	t.Helper()
	if _, err := a.Client.Catalog().Register(&api.CatalogRegistration{Node: "elsewhere", Address: "127.0.0.3"}, nil); err != nil {
		t.Fatal(err)
	}
}

// proxy passes connections on, counts them, and can be cut.
type proxy struct {
	net.Listener
	to        string
	mu        sync.Mutex
	open      map[net.Conn]bool
	most, all int
	cut       bool
	tasks     sync.WaitGroup
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to, open: map[net.Conn]bool{}}
	p.tasks.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.tasks.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.open[in] = true
		p.all++
		p.most = max(p.most, len(p.open))
		p.mu.Unlock()
		p.tasks.Go(func() { p.pass(in, out) })
	}
}

func (p *proxy) pass(in, out net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(gate{p, out}, in); out.Close(); in.Close() })
	both.Go(func() { _, _ = io.Copy(gate{p, in}, out); out.Close(); in.Close() })
	both.Wait()
	p.mu.Lock()
	delete(p.open, in)
	p.mu.Unlock()
}

// gate drops what is written while the proxy is cut, as a network does.
type gate struct {
	p *proxy
	net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	cut := g.p.cut
	g.p.mu.Unlock()
	if cut {
		return len(b), nil
	}
	return g.Conn.Write(b)
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

func (p *proxy) counts() (most, now int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most, len(p.open)
}

func TestSource_PlainHTTPTakesFewConnections(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	elsewhere(t, a)
	p := newProxy(t, a.Address)
	keys := services(300)
	for _, k := range keys {
		register(t, a, k.Service, 1)
	}
	w := watch(t, config(p.Addr().String()), keys...)
	w.until("all have an instance", func() bool {
		return !slices.ContainsFunc(keys, func(k catalog.Key) bool { return len(w.usable(k)) != 1 })
	})
	sum := w.source.Summary()
	if sum.Polled != 160 || sum.Cure == "" {
		t.Errorf("summary: %+v", sum)
	}
	for _, k := range keys { // each one, waiting or polled, hears of a second instance
		register(t, a, k.Service, 2)
	}
	w.until("all have two instances", func() bool {
		return !slices.ContainsFunc(keys, func(k catalog.Key) bool { return len(w.usable(k)) != 2 })
	})
	if most, _ := p.counts(); most > 150 {
		t.Errorf("%d connections at once", most)
	}
	w.wanted <- keys[:100]
	w.until("the rest is not watched any more", func() bool { sum := w.source.Summary(); return sum.Services == 100 && sum.Polled == 0 })
}

func TestSource_HTTPSSharesConnections(t *testing.T) {
	a := agent.Start(t, agent.Options{TLS: true})
	elsewhere(t, a)
	p := newProxy(t, a.HTTPS)
	c := config("https://" + p.Addr().String())
	c.CAFile = a.CAFile
	keys := services(1000)
	for _, k := range keys {
		register(t, a, k.Service, 1)
	}
	w := watch(t, c, keys...)
	w.within(time.Minute, "all have an instance", func() bool {
		return !slices.ContainsFunc(keys, func(k catalog.Key) bool { return len(w.usable(k)) != 1 })
	})
	if sum := w.source.Summary(); sum.Polled != 0 || sum.Cure != "" {
		t.Errorf("summary: %+v", sum)
	}
	most, _ := p.counts()
	t.Logf("%d services on %d connections", len(keys), most)
	if most > 40 {
		t.Errorf("%d connections", most)
	}
	register(t, a, keys[999].Service, 2)
	w.until("the last has two", func() bool { return len(w.usable(keys[999])) == 2 })

	t.Run("another CA is not trusted", func(t *testing.T) {
		other := agent.Start(t, agent.Options{TLS: true})
		c := config("https://" + a.HTTPS)
		c.CAFile, c.FirstWait = other.CAFile, 300*time.Millisecond
		w := watch(t, c, orders)
		w.untilStatus(orders, "refused", func(s consul.ServiceStatus) bool { return s.Error != "" })
	})
}

func TestSource_CutOffByTheNetwork(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	p := newProxy(t, a.Address)
	a.Register(registration("orders", 0))
	w := watch(t, config(p.Addr().String()), orders)
	w.untilUsable(orders, "orders-0")
	for n := 1; n <= 3; n++ {
		p.setCut(true)
		a.Register(registration("orders", n))
		w.untilStatus(orders, "stale, and served", func(s consul.ServiceStatus) bool { return s.Staleness > 0 && s.Usable == n })
		p.setCut(false)
		w.until("the new instance is there", func() bool { return len(w.usable(orders)) == n+1 })
	}
}

func TestSource_NoLeader(t *testing.T) {
	servers := agent.Cluster(t, agent.Options{})
	keys := services(20)
	elsewhere(t, servers[0])
	for _, k := range keys {
		register(t, servers[0], k.Service, 1)
	}
	w := watch(t, config(servers[0].Address), keys...)
	all := func(n int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(keys, func(k catalog.Key) bool { return len(w.usable(k)) != n })
		}
	}
	w.until("all have an instance", all(1))
	for _, s := range servers[1:] {
		s.Signal(syscall.SIGSTOP)
	}
	w.untilStatus(keys[0], "stale, and served", func(s consul.ServiceStatus) bool { return s.Staleness > 0 && s.Usable == 1 })
	outage := time.Now().Add(time.Duration(amount(30)) * time.Second)
	for time.Now().Before(outage) {
		w.take(100 * time.Millisecond)
		if !all(1)() {
			t.Fatalf("lost in the outage: %v", w.view.Services())
		}
	}
	for _, s := range servers[1:] {
		s.Signal(syscall.SIGCONT)
	}
	servers[0].AwaitLeader()
	w.within(time.Minute, "all are fresh", func() bool { return w.source.Summary().Stale == 0 })
	for _, k := range keys {
		agent.Until(t, 20*time.Second, "consul writes again", func() bool {
			_, err := servers[0].Client.Catalog().Register(&api.CatalogRegistration{Node: "elsewhere", Address: "127.0.0.3", SkipNodeUpdate: true,
				Service: &api.AgentService{ID: k.Service + "-2", Service: k.Service, Port: 1002}}, nil)
			return err == nil
		})
	}
	w.until("all have two instances", all(2))
}

func TestSource_MassDeregistration(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	elsewhere(t, a)
	keys := services(100)
	for _, k := range keys {
		register(t, a, k.Service, 1)
	}
	w := watch(t, config(a.Address), keys...)
	alive := func() int {
		n := 0
		for _, k := range keys {
			n += len(w.usable(k))
		}
		return n
	}
	w.until("all live", func() bool { return alive() == 100 })
	for _, k := range keys[:80] {
		deregister(t, a, k.Service, 1)
	}
	held := func() (n int) {
		for _, s := range w.source.Status() {
			n += s.Held
		}
		return n
	}
	w.until("all that went is held", func() bool { return held() == 80 && alive() == 100 })
	if sum := w.source.Summary(); sum.FrozenWhy == "" {
		t.Errorf("summary: %+v", sum)
	}
	if n, err := w.source.Release(keys[0].Service); n != 1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	w.until("one is let go", func() bool { return alive() == 99 })
	if n, err := w.source.Release(""); n != 79 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	w.until("all are let go", func() bool { return alive() == 20 })
}

func TestSource_Flapping(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	a.Register(registration("orders", 0))
	w := watch(t, config(a.Address), orders)
	w.untilUsable(orders, "orders-0")
	before := w.sends
	for n := range amount(600) { // ten a second
		if n%2 == 0 {
			a.Register(registration("orders", 1))
		} else {
			a.Deregister("orders-1")
		}
		w.take(100 * time.Millisecond)
		if !slices.Contains(w.usable(orders), "one/orders-0") {
			t.Fatal("the steady instance was lost")
		}
	}
	w.untilStatus(orders, "flapping", func(s consul.ServiceStatus) bool { return slices.Contains(s.Flapping, "one/orders-1") })
	if n := w.sends - before; n > 10 {
		t.Errorf("%d sends for an instance that flaps", n)
	}
}

func TestSource_ChurnEndsAsAFreshStart(t *testing.T) {
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("SLUICE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	a := agent.Start(t, agent.Options{})
	elsewhere(t, a)
	keys := services(amount(100))
	c := config(a.Address)
	c.Shield.Hold, c.Shield.Freeze, c.Shield.FlapPin = time.Second, time.Second, time.Second
	w := watch(t, c, keys...)
	for range amount(20) {
		for _, k := range keys {
			n := r.IntN(4)
			if r.IntN(2) == 0 {
				register(t, a, k.Service, n)
			} else {
				deregister(t, a, k.Service, n)
			}
		}
	}
	fresh := watch(t, c, keys...)
	fresh.until("a fresh start is complete", func() bool { return len(fresh.view.Services()) == len(keys) })
	want := fresh.view.Services()
	ignored := cmp.Options{cmpopts.IgnoreFields(catalog.Service{}, "Answered", "Stale"), cmpopts.IgnoreFields(catalog.Instance{}, "Registered")}
	for deadline := time.Now().Add(30 * time.Second); !cmp.Equal(want, w.view.Services(), ignored); w.take(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it differs from a fresh start: %s\n%+v", cmp.Diff(want, w.view.Services(), ignored), w.source.Status())
		}
	}
}
