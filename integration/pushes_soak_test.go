package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// TestPushes_UnderLoad adds, changes, moves and removes rules and services while clients ask for all of them, for those
// that are gone, and for those that are yet to come. Every answer must be one that the path had at some time while the
// request was under way.
func TestPushes_UnderLoad(t *testing.T) {
	const clients, instances = 4, 5
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SLUICE_SEED=%d", seed)
	s := &changingSite{r: rand.New(rand.NewPCG(seed, 2)), services: map[string]*changingService{}, paths: map[int]*changingPath{}}
	for i := range instances {
		name := fmt.Sprintf("i%d", i)
		s.instances = append(s.instances, backendInstance{name, gateway.Echo(t, name)})
	}
	s.extend()
	for range 20 {
		s.addRule()
	}
	g := gateway.Start(t, s.files())
	s.settled(t, g)
	l := startLoad(t, g.URL, clients, s.ask)
	pushes := Amount(1000)
	for n := range pushes {
		s.change()
		s.push(t, g)
		if n%3 != 0 || n == pushes-1 { // the others come while the one before is on its way
			g.Settle()
			s.settled(t, g)
		}
	}
	l.end(t)
	t.Logf("%d pushes: %v; %d rules at the end", pushes, s.counts, len(s.live()))
}

// changingSite is a site and what its paths may answer. All but the paths' states belongs to the test's goroutine.
type changingSite struct {
	r         *rand.Rand
	instances []backendInstance
	services  map[string]*changingService
	number    int // of services ever made
	counts    map[string]int

	mu    sync.Mutex
	paths map[int]*changingPath // by number; the last one is not there yet
}

type backendInstance struct{ name, address string }

type changingService struct{ instance, setting int }

// changingPath is a path, the rule that takes it, and every answer that it ever had.
type changingPath struct {
	service string // "" while there is no rule
	route   int    // the Route that the rule stands in
	timeout int
	answers []string
	since   int // the earliest answer that may still come
}

// ask asks for any path.
func (s *changingSite) ask(r *rand.Rand, get func(string) reply) string {
	s.mu.Lock()
	number := r.IntN(len(s.paths))
	p := s.paths[number]
	since := p.since
	s.mu.Unlock()
	got := get(fmt.Sprintf("/r/%d", number)).String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(p.answers[since:], got) {
		return ""
	}
	return fmt.Sprintf("/r/%d: %s, want one of %q", number, got, p.answers[since:])
}

// extend makes the next path known, so that it is asked for before it is there.
func (s *changingSite) extend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths[len(s.paths)] = &changingPath{answers: []string{"404"}}
}

// change does one thing to the site.
func (s *changingSite) change() {
	changes := []struct {
		what string
		do   func()
	}{
		{"added", s.addRule}, {"added with a service", func() { s.newService(); s.addRule() }},
		{"changed", func() { s.anyRule(func(p *changingPath) { p.timeout++ }) }},
		{"moved to another service", func() { s.anyRule(func(p *changingPath) { p.service = s.anyService() }) }},
		{"moved to another Route", func() { s.anyRule(func(p *changingPath) { p.route = (p.route + 1) % 3 }) }},
		{"removed", func() { s.anyRule(func(p *changingPath) { p.service = "" }) }},
		{"service's settings changed", func() { s.services[s.anyService()].setting++ }},
		{"service's endpoint changed", func() { v := s.services[s.anyService()]; v.instance = (v.instance + 1) % len(s.instances) }},
		{"service removed", s.removeService},
	}
	c := changes[s.r.IntN(len(changes))]
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	s.counts[c.what]++
	c.do()
}

func (s *changingSite) newService() string {
	name := fmt.Sprintf("svc-%d", s.number)
	s.number++
	s.services[name] = &changingService{instance: s.r.IntN(len(s.instances))}
	return name
}

func (s *changingSite) anyService() string {
	if len(s.services) == 0 {
		return s.newService()
	}
	names := slices.Sorted(maps.Keys(s.services))
	return names[s.r.IntN(len(names))]
}

// removeService removes one, and moves its rules to another.
func (s *changingSite) removeService() {
	gone := s.anyService()
	delete(s.services, gone)
	for _, p := range s.live() {
		if p.service == gone {
			p.service = s.anyService()
		}
	}
}

func (s *changingSite) addRule() {
	next := s.paths[len(s.paths)-1]
	next.service, next.route = s.anyService(), s.r.IntN(3)
	s.extend()
}

func (s *changingSite) live() []*changingPath {
	var out []*changingPath
	for n := range len(s.paths) {
		if s.paths[n].service != "" {
			out = append(out, s.paths[n])
		}
	}
	return out
}

func (s *changingSite) anyRule(do func(*changingPath)) {
	if live := s.live(); len(live) > 0 {
		do(live[s.r.IntN(len(live))])
	}
}

// files are the site's policies.
func (s *changingSite) files() map[string]string {
	var b strings.Builder
	b.WriteString("apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: $PORT}], accessLog: off}\n---\n")
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		v := s.services[name]
		b.WriteString(service(name, s.instances[v.instance].address, fmt.Sprintf("  circuitBreaker: {maxPending: %d}", 1000+v.setting)))
	}
	routes := map[int][]string{}
	for n := range len(s.paths) {
		if p := s.paths[n]; p.service != "" {
			routes[p.route] = append(routes[p.route], fmt.Sprintf("{name: r%d, match: /r/%d, to: %s, timeout: %ds}", n, n, p.service, 30+p.timeout))
		}
	}
	for n, rules := range routes {
		fmt.Fprintf(&b, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: route-%d}\nspec:\n  rules:\n    - %s\n---\n", n, strings.Join(rules, "\n    - "))
	}
	return map[string]string{"policy.yaml": b.String()}
}

// push applies the site and does not wait. From before, its paths may answer the new way.
func (s *changingSite) push(t *testing.T, g *gateway.Gateway) {
	t.Helper()
	var problems policy.Problems
	objects, _ := policy.Split("policy.yaml", strings.ReplaceAll(s.files()["policy.yaml"], "$PORT", strconv.Itoa(g.Port)), "test", &problems)
	s.mu.Lock()
	s.announce()
	s.mu.Unlock()
	_, err := g.Controller.Apply(context.Background(), control.Request{Set: objects, Prune: true, Source: "test", AllowRemovals: true})
	if err != nil || problems.Failed() {
		t.Fatal(problems.Render(), err)
	}
}

// announce adds the answers that are to come.
func (s *changingSite) announce() {
	for _, p := range s.paths {
		next := "404"
		if p.service != "" {
			next = "200 " + s.instances[s.services[p.service].instance].name
		}
		if p.answers[len(p.answers)-1] != next {
			p.answers = append(p.answers, next)
		}
	}
}

// settled waits until every path answers as the site now says. After that, no other answer is right.
func (s *changingSite) settled(t *testing.T, g *gateway.Gateway) {
	t.Helper()
	s.mu.Lock()
	s.announce()
	waiting := map[int]string{}
	for n, p := range s.paths {
		if p.since != len(p.answers)-1 {
			waiting[n] = p.answers[len(p.answers)-1]
		}
	}
	s.mu.Unlock()
	for n, want := range waiting {
		gateway.Eventually(t, fmt.Sprintf("/r/%d answers %s", n, want), func() bool {
			status, _, header := g.Get(fmt.Sprintf("/r/%d", n))
			return reply{status: status, instance: header.Get("x-instance")}.String() == want
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.paths {
		p.since = len(p.answers) - 1
	}
}
