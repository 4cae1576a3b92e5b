package consul_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var orders = catalog.Key{Service: "orders"}

// script is a Consul that does what no healthy one does.
type script struct {
	*httptest.Server
	mu sync.Mutex
	// answer writes what is said about orders; index is what was asked with.
	answer  func(w http.ResponseWriter, index uint64)
	changed chan struct{}
	asked   int
	exact   int
	waiting int
}

func newScript(t *testing.T) *script {
	s := &script{changed: make(chan struct{}), answer: say(10, 1, 2, 3)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *script) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/status/leader") {
		fmt.Fprint(w, `"127.0.0.1:8300"`)
		return
	}
	index, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	s.mu.Lock()
	s.asked++
	if !r.URL.Query().Has("stale") {
		s.exact++
	}
	answer, changed, waits := s.answer, s.changed, index > 0 && s.isPresent(index)
	if waits {
		s.waiting++
	}
	s.mu.Unlock()
	if waits {
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		s.mu.Lock()
		answer = s.answer
		s.waiting--
		s.mu.Unlock()
	}
	answer(w, index)
}

// isPresent says whether a query with the index has to wait.
func (s *script) isPresent(index uint64) bool {
	w := httptest.NewRecorder()
	func() {
		defer func() { _ = recover() }() // an answer may abort the connection
		s.answer(w, index)
	}()
	return w.Header().Get("X-Consul-Index") == strconv.FormatUint(index, 10) && w.Header().Get("Busy") == ""
}

// isWaiting says whether a query waits.
func (s *script) isWaiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0
}

// now changes what is said, and wakes those who wait.
func (s *script) now(answer func(w http.ResponseWriter, index uint64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *script) counts() (asked, exact int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.exact
}

func headers(w http.ResponseWriter, index uint64) {
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
}

// say answers with instances of the numbers, at the index.
func say(index uint64, numbers ...int) func(http.ResponseWriter, uint64) {
	return func(w http.ResponseWriter, _ uint64) {
		headers(w, index)
		writeInstances(w, numbers)
	}
}

func writeInstances(w http.ResponseWriter, numbers []int) {
	entries := []*api.ServiceEntry{}
	for _, n := range numbers {
		entries = append(entries, &api.ServiceEntry{Node: &api.Node{Node: "n", Address: "10.0.0.9"},
			Service: &api.AgentService{ID: fmt.Sprint(n), Service: "orders", Port: 80 + n, Weights: api.AgentWeights{Passing: 1, Warning: 1}}})
	}
	_ = json.NewEncoder(w).Encode(entries)
}

// run runs a source against the script, and returns what it sends.
func run(t *testing.T, s *script, change func(*consul.Config)) (*consul.Source, <-chan []catalog.Service) {
	c := consul.Default()
	c.Address, c.TokenEnv, c.Backoff, c.BackoffMax, c.Probe = s.URL, "", 10*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	if change != nil {
		change(&c)
	}
	source, err := consul.New(c)
	if err != nil {
		t.Fatal(err)
	}
	wanted, out, done := make(chan []catalog.Key, 1), make(chan []catalog.Service), make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- source.Run(ctx, wanted, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wanted <- []catalog.Key{orders}
	return source, out
}

// expect waits for a send with the ports.
func expect(t *testing.T, out <-chan []catalog.Service, ports ...uint32) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case sent := <-out:
			var got []uint32
			for _, i := range sent[0].Instances {
				got = append(got, i.Port)
			}
			if fmt.Sprint(got) == fmt.Sprint(ports) {
				return
			}
			t.Logf("on the way: %v", got)
		case <-deadline:
			t.Fatalf("%v never came", ports)
		}
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

func TestSource_IndexesThatLie(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, index uint64)
	}{
		{"backwards", say(3, 1, 2, 3, 4)},
		{"to zero", say(0, 1, 2, 3, 4)},
		{"unchanged with new data", say(10, 1, 2, 3, 4)},
		{"back and forth", func(w http.ResponseWriter, index uint64) {
			headers(w, 5+index%2*7)
			w.Header().Set("Busy", "1")
			writeInstances(w, []int{1, 2, 3, 4})
		}},
		{"returning at once, always", func(w http.ResponseWriter, index uint64) {
			headers(w, index+1)
			writeInstances(w, []int{1, 2, 3, 4})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			_, out := run(t, s, nil)
			expect(t, out, 81, 82, 83)
			await(t, "a query waits", s.isWaiting)
			start := time.Now()
			s.now(test.answer)
			expect(t, out, 81, 82, 83, 84)
			await(t, "it was asked for a while", func() bool { return time.Since(start) > 3*time.Second })
			if asked, _ := s.counts(); float64(asked) > 8+2*time.Since(start).Seconds() {
				t.Errorf("asked %d times within %s", asked, time.Since(start))
			}
			s.now(say(20, 1, 2))
			expect(t, out, 81, 82)
		})
	}
}

func TestSource_AnswersThatAreNone(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, uint64) {
		return func(w http.ResponseWriter, _ uint64) { http.Error(w, "no", code) }
	}
	with := func(name, value string) func(http.ResponseWriter, uint64) {
		return func(w http.ResponseWriter, _ uint64) {
			headers(w, 11)
			w.Header().Set(name, value)
			fmt.Fprint(w, "[]")
		}
	}
	for _, test := range []struct {
		name, want string
		answer     func(http.ResponseWriter, uint64)
	}{
		{"404", "404", status(404)},
		{"500", "500", status(500)},
		{"403", "403", status(403)},
		{"429", "429", status(429)},
		{"redirected", "302", func(w http.ResponseWriter, _ uint64) { w.Header().Set("Location", "/"); w.WriteHeader(302) }},
		{"truncated", "EOF", func(w http.ResponseWriter, _ uint64) { headers(w, 11); fmt.Fprint(w, `[{"Node":`) }},
		{"another thing", "cannot unmarshal", func(w http.ResponseWriter, _ uint64) { headers(w, 11); fmt.Fprint(w, `{"a":1}`) }},
		{"cut off", "EOF", func(w http.ResponseWriter, _ uint64) { panic(http.ErrAbortHandler) }},
		{"no leader", "no leader", with("X-Consul-KnownLeader", "false")},
		{"behind", "behind its leader", with("X-Consul-LastContact", "60000")},
		{"filtered", "may not read", with("X-Consul-Results-Filtered-By-ACLs", "true")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			s.Config.ErrorLog = nil
			source, out := run(t, s, nil)
			expect(t, out, 81, 82, 83)
			s.now(test.answer)
			await(t, "the service is stale", func() bool {
				v := source.Status()[0]
				return v.Usable == 3 && v.Staleness > 0 && strings.Contains(v.Error, test.want)
			})
			s.now(say(12, 1, 2))
			expect(t, out, 81, 82)
			if v := source.Status()[0]; v.Error != "" {
				t.Errorf("still stale: %+v", v)
			}
		})
	}
}

func TestSource_AsksTheLeaderWhenAServerIsBehind(t *testing.T) {
	s := newScript(t)
	_, out := run(t, s, nil)
	expect(t, out, 81, 82, 83)
	s.now(func(w http.ResponseWriter, _ uint64) {
		headers(w, 11)
		w.Header().Set("X-Consul-LastContact", "60000")
		writeInstances(w, []int{1})
	})
	await(t, "the leader was asked", func() bool { _, exact := s.counts(); return exact > 0 })
}

func TestSource_HoldsAnEmptyAnswerUntilReleased(t *testing.T) {
	s := newScript(t)
	source, out := run(t, s, nil)
	expect(t, out, 81, 82, 83)
	s.now(say(11))
	await(t, "three are held", func() bool { v := source.Status()[0]; return v.Held == 3 && v.HeldWhy != "" && v.Usable == 3 })
	if _, err := source.Release("nobody"); err == nil {
		t.Error("released a service that is not watched")
	}
	if n, err := source.Release("orders"); n != 1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	expect(t, out)
}

func TestSource_HoldEndsByItself(t *testing.T) {
	s := newScript(t)
	_, out := run(t, s, func(c *consul.Config) { c.Shield.Hold = 50 * time.Millisecond })
	expect(t, out, 81, 82, 83)
	s.now(say(11))
	expect(t, out)
}

func TestSource_FirstSendDoesNotWaitForEver(t *testing.T) {
	s := newScript(t)
	s.now(func(w http.ResponseWriter, _ uint64) { http.Error(w, "no", 500) })
	_, out := run(t, s, func(c *consul.Config) { c.FirstWait = 50 * time.Millisecond })
	sent := <-out
	if len(sent) != 1 || sent[0].Key != orders || !sent[0].Stale || len(sent[0].Instances) != 0 {
		t.Errorf("sent %+v", sent)
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*consul.Config)
	}{
		{"no port", "write host:port", func(c *consul.Config) { c.Address = "consul" }},
		{"scheme", "unknown scheme", func(c *consul.Config) { c.Address = "ftp://consul:1" }},
		{"half a certificate", "needs both", func(c *consul.Config) { c.CertFile = "x" }},
		{"no CA", "TLS", func(c *consul.Config) { c.CAFile = "/nonexistent" }},
		{"no token file", "token file", func(c *consul.Config) { c.TokenFile = "/nonexistent" }},
		{"too many", "allowed are 1 to 140", func(c *consul.Config) { c.MaxBlocking = 200 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := consul.Default()
			test.change(&c)
			if _, err := consul.New(c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
