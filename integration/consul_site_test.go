package integration

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// consulSite is a gateway whose services and routes come from a real Consul.
type consulSite struct {
	*gateway.Gateway
	t      *testing.T
	agent  *agents.Agent
	source *consul.Source
	config consul.Config
	files  map[string]string
	log    *gateway.Buffer
}

// teamTemplate lets registrations have paths below /team.
const teamTemplate = "apiVersion: sluice/v1\nkind: RouteTemplate\nmetadata: {name: team}\nspec: {paths: [/team/*]}\n---\n"

// startConsulSite starts a gateway that asks the agent.
func startConsulSite(t *testing.T, a *agents.Agent, policies string, change ...func(*consul.Config)) *consulSite {
	t.Helper()
	s := &consulSite{t: t, agent: a, files: map[string]string{"policy.yaml": policies}, log: &gateway.Buffer{}}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	s.config = consul.Default()
	s.config.Address, s.config.TokenEnv, s.config.Discover, s.config.Log = a.Address, "", true, log
	s.config.Linger, s.config.BackoffMax, s.config.Probe = 2*time.Second, 2*time.Second, 500*time.Millisecond
	for _, f := range change {
		f(&s.config)
	}
	s.source = s.newSource(s.config)
	s.Gateway = gateway.Start(t, s.files, gateway.FromCatalog(s.source), gateway.LogTo(log))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("control plane: %s\nstatus: %+v\n%s", s.log, s.source.Summary(), s.Admin("/stats?usedonly&filter=downstream_cx|listener_manager|drain|reset|overload"))
		}
	})
	return s
}

func (s *consulSite) newSource(c consul.Config) *consul.Source {
	s.t.Helper()
	source, err := consul.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return source
}

// fromConsul is a Service document whose instances are registered under its name, with more of its spec.
func fromConsul(name, consul, more string) string {
	return fmt.Sprintf("apiVersion: sluice/v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  consul: %s\n%s\n---\n", name, consul, more)
}

// instanceOf is a registration of an instance at an address.
func instanceOf(service, id, address string) *api.AgentServiceRegistration {
	host, port, _ := strings.Cut(address, ":")
	n, _ := strconv.Atoi(port)
	return &api.AgentServiceRegistration{Name: service, ID: id, Address: host, Port: n}
}

// optIn is a registration that asks for a route of the template team.
func optIn(service, id, address, path string) *api.AgentServiceRegistration {
	r := instanceOf(service, id, address)
	r.Meta = map[string]string{catalog.MetaTemplate: "team", catalog.MetaPath: path}
	return r
}

// answers waits until the path has this status.
func (s *consulSite) answers(path string, status int) {
	s.t.Helper()
	gateway.Eventually(s.t, fmt.Sprintf("%s answers %d", path, status), func() bool { got, _, _ := s.Get(path); return got == status })
}

// reach waits until exactly these instances answer a path.
func (s *consulSite) reach(path string, names ...string) {
	s.t.Helper()
	slices.Sort(names)
	var seen []string
	gateway.Eventually(s.t, fmt.Sprintf("%s reaches %v", path, names), func() bool {
		found := map[string]bool{}
		for range 8 * len(names) {
			if status, _, header := s.Get(path); status == http.StatusOK {
				found[header.Get("x-instance")] = true
			} else {
				found[fmt.Sprint(status)] = true
			}
		}
		seen = seen[:0]
		for name := range found {
			seen = append(seen, name)
		}
		slices.Sort(seen)
		return slices.Equal(seen, names)
	})
}

// isFreshStart waits until what is published is, byte for byte, what a control plane makes that has just started.
func (s *consulSite) isFreshStart() {
	s.t.Helper()
	c := s.config
	c.Saver = nil
	other, stop := s.Fresh(s.files, gateway.FromCatalog(s.newSource(c)))
	defer stop()
	for deadline := time.Now().Add(gateway.Patience); ; time.Sleep(5 * time.Millisecond) { // between looks, not instead of one
		now, fresh := s.Controller.Serving().Snapshots["edge"], other.Serving().Snapshots["edge"]
		if now.Digest() == fresh.Digest() {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("what is published differs from what a fresh start makes in %v", differing(now, fresh))
		}
	}
}

// differing are the resources that two snapshots do not have alike.
func differing(a, b *snapshot.Snapshot) (out []string) {
	for _, url := range a.Types() {
		for _, name := range slices.Concat(a.Table(url).Names(), b.Table(url).Names()) {
			if a.Table(url).Version(name) != b.Table(url).Version(name) {
				out = append(out, fmt.Sprintf("%s %s (%d and %d bytes)", url, name, len(a.Table(url).Body(name)), len(b.Table(url).Body(name))))
			}
		}
	}
	return out
}

// status waits until the status of a service is as wanted.
func (s *consulSite) status(service, what string, holds func(consul.ServiceStatus) bool) {
	s.t.Helper()
	gateway.Eventually(s.t, service+" is "+what, func() bool {
		return slices.ContainsFunc(s.source.Status(), func(v consul.ServiceStatus) bool { return v.Key.Service == service && holds(v) })
	})
}

func stale(v consul.ServiceStatus) bool { return v.Error != "" && v.Staleness > 0 }
func fresh(v consul.ServiceStatus) bool { return v.Error == "" }

// why waits until a registration has a fate, and returns it.
func (s *consulSite) why(service string, state control.FateState) *control.Fate {
	s.t.Helper()
	var fate *control.Fate
	gateway.Eventually(s.t, fmt.Sprintf("Registration/%s is %s", service, state), func() bool {
		j, err := s.Controller.Why(context.Background(), policy.Ref{Kind: control.KindRegistration, Name: service})
		if err != nil {
			return false
		}
		fate = j.Registration
		return fate.State == state
	})
	return fate
}

// metric is the sum over a metric's series, of the source and the control plane.
func (s *consulSite) metric(name, label string) float64 {
	s.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.source)
	registry.MustRegister(s.Controller.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == label) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// steady is load on paths that must answer 200 all the time.
func (s *consulSite) steady(paths ...string) *load {
	s.t.Helper()
	return startLoad(s.t, s.URL, 4, func(r *rand.Rand, get func(string) reply) string {
		path := paths[r.IntN(len(paths))]
		if got := get(path); got.status != http.StatusOK {
			return path + ": " + got.String()
		}
		return ""
	})
}

// command runs the consul program against the agent.
func (s *consulSite) command(args ...string) {
	s.t.Helper()
	cmd := exec.Command(agents.Binary(s.t), args...)
	cmd.Env = []string{"CONSUL_HTTP_ADDR=" + s.agent.Address}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("consul %v: %v\n%s", args, err, out.String())
	}
}
