package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	consulRounds = 60
	restSeconds  = 30
	restServices = 5000
)

// The targets of services from Consul: milliseconds at the median and the 99th percentile, percent of a core and MiB.
const (
	mostConsulMedian = 50.0
	mostConsulP99    = 250.0
	mostAtRest       = 0.5
	mostConsulMemory = 350.0
)

const blockingQuery = "a bare blocking query on the same agent"

// consulScenarios are of gateways whose services and routes come from a Consul agent.
func consulScenarios() []scenario {
	var all []scenario
	for _, n := range []int{50, 1000} {
		all = append(all, scenario{fmt.Sprintf("consul/%d", n), func(ctx context.Context, b *bench) error { return fromConsul(ctx, b, n) }})
	}
	return append(all, scenario{"consul/rest", consulAtRest})
}

// consulSite is an agent, and a lane whose control plane asks it by HTTPS.
type consulSite struct {
	*lane
	serve  *sluice
	agent  *process
	client *api.Client
	// instances answer with their number.
	instances [2]*answering
}

// answering is a backend that notes when it answered last.
type answering struct {
	port int
	last atomic.Int64
	lis  net.Listener
}

func startAnswering() (*answering, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &answering{port: lis.Addr().(*net.TCPAddr).Port, lis: lis}
	go func() {
		_ = http.Serve(lis, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { a.last.Store(time.Now().UnixNano()) }))
	}()
	return a, nil
}

func (s *consulSite) close() {
	if s.lane != nil {
		s.lane.close()
	} else if s.serve != nil {
		s.serve.stop()
	}
	if s.agent != nil {
		s.agent.stop()
	}
	for _, i := range s.instances {
		if i != nil {
			i.lis.Close()
		}
	}
}

// startConsulSite registers so many services that opt in, of two instances each, and waits until all have routes.
func (b *bench) startConsulSite(ctx context.Context, services int) (s *consulSite, err error) {
	s = &consulSite{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for i := range s.instances {
		if s.instances[i], err = startAnswering(); err != nil {
			return s, err
		}
	}
	folder, address, err := b.startConsul(ctx, s)
	if err != nil {
		return s, err
	}
	if err = s.registerMany(services); err != nil {
		return s, err
	}
	if s.serve, _, err = b.startSluice(ctx, b.newStore(), false, "--consul", "https://"+address, "--consul-ca", filepath.Join(folder, "cert.pem")); err != nil {
		return s, err
	}
	if s.lane, err = b.newLane(s.serve); err != nil {
		return s, err
	}
	template := object("RouteTemplate", "team", "  paths: [/team/*]\n  loadBalancing: {policy: roundRobin}\n")
	change := control.Request{Set: []policy.Object{gatewayOn(s.port), template}}
	return s, s.begin(ctx, change, consulPath(restName(services-1)))
}

// startConsul starts an agent with a door for HTTPS, and gives its folder and that door's address.
func (b *bench) startConsul(ctx context.Context, s *consulSite) (folder, address string, err error) {
	binary, err := agents.Find()
	if err != nil {
		return "", "", err
	}
	folder = filepath.Join(b.dir, fmt.Sprintf("consul-%d", b.stores))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", "", err
	}
	if err := agents.Certificates(folder); err != nil {
		return "", "", err
	}
	ports := map[string]int{"dns": -1, "grpc": -1, "grpc_tls": -1}
	for _, name := range []string{"http", "https", "server", "serf_lan", "serf_wan"} {
		free, err := freeAddress()
		if err != nil {
			return "", "", err
		}
		_, port, _ := net.SplitHostPort(free)
		if ports[name], err = strconv.Atoi(port); err != nil {
			return "", "", err
		}
	}
	settings, err := json.Marshal(map[string]any{
		"ports": ports, "log_level": "error", "disable_update_check": true, "bind_addr": "127.0.0.1",
		"tls": map[string]any{"https": map[string]any{"cert_file": filepath.Join(folder, "cert.pem"), "key_file": filepath.Join(folder, "key.pem")}},
	})
	if err != nil {
		return "", "", err
	}
	file := filepath.Join(folder, "agent.json")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		return "", "", err
	}
	plain := fmt.Sprintf("127.0.0.1:%d", ports["http"])
	if s.agent, _, err = b.start(ctx, exec.Command(binary, "agent", "-dev", "-config-file", file), "http://"+plain+"/v1/catalog/nodes"); err != nil {
		return "", "", err
	}
	s.client, err = api.NewClient(&api.Config{Address: plain})
	return folder, fmt.Sprintf("127.0.0.1:%d", ports["https"]), err
}

func restName(i int) string            { return fmt.Sprintf("rest-%d", i) }
func consulPath(service string) string { return "/team/" + service }
func optIn(name string) map[string]string {
	return map[string]string{catalog.MetaTemplate: "team", catalog.MetaPath: consulPath(name)}
}

// registerMany registers services on a node of their own, in as few requests as Consul allows.
func (s *consulSite) registerMany(services int) error {
	if _, err := s.client.Catalog().Register(&api.CatalogRegistration{Node: "elsewhere", Address: "127.0.0.1"}, nil); err != nil {
		return err
	}
	const most = 64 // operations of a transaction
	var ops api.TxnOps
	flush := func() error {
		ok, answer, _, err := s.client.Txn().Txn(ops, nil)
		if ops = nil; err == nil && !ok {
			err = fmt.Errorf("consul refuses registrations: %s", answer.Errors[0].What)
		}
		return err
	}
	for i := range services {
		name := restName(i)
		for n, instance := range s.instances {
			ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "elsewhere", Service: api.AgentService{
				ID: fmt.Sprintf("%s-%d", name, n), Service: name, Address: "127.0.0.1", Port: instance.port, Meta: optIn(name),
			}}})
		}
		if len(ops) >= most {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(ops) > 0 {
		return flush()
	}
	return nil
}

// fromConsul is the time from a registration to the first 200, and from a failing check to the last request.
func fromConsul(ctx context.Context, b *bench, services int) error {
	s, err := b.startConsulSite(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	var live, gone, bare series
	for i := range b.rounds(consulRounds) + 1 {
		for _, part := range []struct {
			took *series
			run  func(context.Context, int) (time.Duration, error)
		}{{&bare, s.timeBareQuery}, {&live, s.timeToFirst}, {&gone, s.timeToLast}} {
			next := time.Now().Add(time.Second) // one change a second
			d, err := part.run(ctx, i)
			if err != nil {
				return err
			}
			if i > 0 { // the first round warms up
				*part.took = append(*part.took, milliseconds(d))
			}
			time.Sleep(time.Until(next))
		}
	}
	return errors.Join(
		b.addConsul(fmt.Sprintf("registration to the first 200, %d registered services", services), live, bare),
		b.addConsul(fmt.Sprintf("failing check to the last request, %d registered services", services), gone, bare))
}

// addConsul adds the median and the 99th percentile.
func (b *bench) addConsul(name string, took, bare series) error {
	median := compare(name+", median", "ms", took, bare).over(blockingQuery).atMost(mostConsulMedian)
	worst := compare(name+", 99th percentile", "ms", series{took.quantile(0.99)}, series{bare.quantile(0.99)}).over(blockingQuery).atMost(mostConsulP99)
	worst.Rounds, worst.Spread = median.Rounds, median.Spread
	return errors.Join(b.out.add(median), b.out.add(worst))
}

func (s *consulSite) register(name, id string, instance *answering, meta map[string]string) error {
	return s.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: name, ID: id, Address: "127.0.0.1", Port: instance.port, Meta: meta,
		Check: &api.AgentServiceCheck{CheckID: id, TTL: "1h", Status: api.HealthPassing},
	})
}

// timeToFirst registers a service that opts in.
func (s *consulSite) timeToFirst(ctx context.Context, i int) (time.Duration, error) {
	name := fmt.Sprintf("new-%d", i)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- s.register(name, name, s.instances[0], optIn(name)) }()
	at, err := s.until(ctx, consulPath(name), http.StatusOK)
	return at.Sub(began), errors.Join(err, <-done)
}

// timeToLast fails the check of one of a new service's two instances.
func (s *consulSite) timeToLast(ctx context.Context, i int) (time.Duration, error) {
	name := fmt.Sprintf("checked-%d", i)
	ids := [2]string{name + "-stays", name + "-fails"}
	for n, id := range ids {
		if err := s.register(name, id, s.instances[n], optIn(name)); err != nil {
			return 0, err
		}
	}
	failing := s.instances[1]
	if err := s.ask(ctx, name, func() bool { return failing.last.Load() > 0 }); err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond) // the registration is a change of its own
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- s.client.Agent().UpdateTTL(ids[1], "", api.HealthCritical) }()
	const quiet = 300 * time.Millisecond // without a request to it, of which every second one would be
	err := s.ask(ctx, name, func() bool {
		return time.Since(began) > quiet && time.Since(time.Unix(0, failing.last.Load())) > quiet
	})
	last := max(time.Unix(0, failing.last.Swap(0)).Sub(began), 0)
	return last, errors.Join(err, <-done)
}

// ask sends requests to a service until the condition holds.
func (s *consulSite) ask(ctx context.Context, name string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !holds() {
		if _, err := s.get(ctx, consulPath(name)); err != nil {
			return err
		}
		time.Sleep(pollEvery)
	}
	return ctx.Err()
}

// timeBareQuery is how long Consul takes to tell a waiting query of a registration.
func (s *consulSite) timeBareQuery(ctx context.Context, i int) (time.Duration, error) {
	name := fmt.Sprintf("bare-%d", i)
	_, meta, err := s.client.Health().Service(name, "", false, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return 0, err
	}
	told := make(chan error, 1)
	var at time.Time
	go func() {
		options := &api.QueryOptions{WaitIndex: max(meta.LastIndex, 1), WaitTime: patience}
		for found := 0; found == 0; {
			entries, next, err := s.client.Health().Service(name, "", false, options.WithContext(ctx))
			if err != nil {
				told <- err
				return
			}
			found, options.WaitIndex = len(entries), next.LastIndex
		}
		at = time.Now()
		told <- nil
	}()
	time.Sleep(50 * time.Millisecond) // until it waits
	began := time.Now()
	if err := s.register(name, name, s.instances[0], nil); err != nil {
		return 0, err
	}
	if err := <-told; err != nil {
		return 0, err
	}
	return at.Sub(began), nil
}

// consulAtRest is what thousands of services take while nothing changes.
func consulAtRest(ctx context.Context, b *bench) error {
	services := restServices
	if b.quick {
		services /= 5
	}
	s, err := b.startConsulSite(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.quiet(ctx); err != nil {
		return err
	}
	sentBefore, err := s.sent(ctx)
	if err != nil {
		return err
	}
	var share series
	for range b.rounds(restSeconds / 5) {
		before, err := s.serve.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		time.Sleep(5 * time.Second)
		after, err := s.serve.cpu()
		if err != nil {
			return err
		}
		share = append(share, 100*float64(after-before)/float64(time.Since(began)))
	}
	sentAfter, err := s.sent(ctx)
	if err != nil {
		return err
	}
	memory, err := s.serve.memory()
	if err != nil {
		return err
	}
	at := fmt.Sprintf("%d services of two instances at rest", services)
	nothing := func(f figure) figure { f.Floor, f.Ratio = 0, 0; return f.over("nothing") }
	pushes := compare("resources sent, "+at, "", series{sentAfter - sentBefore}, series{0})
	pushes.Missed = sentAfter > sentBefore
	return errors.Join(
		b.out.add(nothing(compare("processor time of the control plane, "+at, "% of a core", share, series{1})).atMost(mostAtRest)),
		b.out.add(nothing(pushes)),
		b.out.add(nothing(compare("resident memory of the control plane, "+at, "MiB", series{memory}, series{1})).atMost(mostConsulMemory)))
}

// quiet waits until nothing has been sent for a while.
func (s *consulSite) quiet(ctx context.Context) error {
	last := -1.0
	for range 20 {
		now, err := s.sent(ctx)
		if err != nil || now == last {
			return err
		}
		last = now
		time.Sleep(5 * time.Second)
	}
	return errors.New("resources are sent all the time")
}

// sent is how many resources were sent so far.
func (s *consulSite) sent(ctx context.Context) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.serve.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if series, value, ok := strings.Cut(lines.Text(), "} "); ok && strings.HasPrefix(series, "sluice_xds_resources_sent_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}
