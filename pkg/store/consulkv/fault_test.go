package consulkv

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// deaf asks Consul, and does not hear the answers to transactions that write when it is told so.
type deaf struct {
	http.RoundTripper
	left   atomic.Int64 // answers not to be heard
	before func()       // runs once when one was not
}

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	writes := false
	if r.URL.Path == "/v1/txn" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		writes = strings.Contains(string(body), `"cas"`)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	resp, err := d.RoundTripper.RoundTrip(r)
	if err == nil && writes && d.left.Add(-1) >= 0 {
		resp.Body.Close()
		if d.before != nil {
			d.before()
		}
		return nil, errors.New("the connection broke")
	}
	return resp, err
}

func deafConfig(t *testing.T, a *agent.Agent) (Config, *deaf) {
	c := config(t, a)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &deaf{RoundTripper: transport}
	made, err := api.NewClient(&api.Config{Address: a.Address, HttpClient: &http.Client{Transport: d}})
	if err != nil {
		t.Fatal(err)
	}
	c.Client = made
	return c, d
}

func TestCommit_AnswerLost(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c, d := deafConfig(t, a)
	one, two := mustOpen(t, c), mustOpen(t, config(t, a))
	mustCommit(t, one, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
	for n := range uint64(5) { // one lost answer, and the change happened once
		d.left.Store(int64(n%3) + 1)
		if rev := mustCommit(t, one, store.Change{Base: n + 1, Set: []policy.Object{storetest.Object("a", int(n)+2)}}); rev.Number != n+2 {
			t.Fatalf("revision %d, want %d", rev.Number, n+2)
		}
	}
	same(t, one, two)

	// another replica commits before the first asks again: its change stands in the history all the same
	d.before = func() {
		d.before = nil
		if err := two.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := two.Commit(t.Context(), store.Change{Base: 7, Set: []policy.Object{storetest.Object("b", 1)}}); err != nil {
			t.Error(err)
		}
	}
	d.left.Store(1)
	if rev := mustCommit(t, one, store.Change{Base: 6, Set: []policy.Object{storetest.Object("c", 1)}}); rev.Number != 7 {
		t.Errorf("revision %d, want 7", rev.Number)
	}
	same(t, one, two)
	if history, err := one.History(t.Context(), 0); err != nil || len(history) != 8 {
		t.Errorf("%d revisions, %v", len(history), err)
	}

	// nothing is ever heard: the caller is told so, and finds out by the request ID
	c.Patience = 300 * time.Millisecond
	three := mustOpen(t, c)
	d.left.Store(1_000_000)
	change := store.Change{Base: 8, Set: []policy.Object{storetest.Object("d", 1)}, RequestID: "r"}
	if _, err := three.Commit(t.Context(), change); err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("without any answer: %v", err)
	}
	d.left.Store(0)
	if rev := mustCommit(t, three, change); rev.Number != 9 {
		t.Errorf("revision %d, want 9", rev.Number)
	}
	same(t, three, two)
}

func TestReplica_AgentAway(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.Patience = 2 * time.Second
	s := mustOpen(t, c)
	mustCommit(t, s, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
	a.Kill()
	if _, err := s.Commit(t.Context(), store.Change{Base: 1, Set: []policy.Object{storetest.Object("a", 2)}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit without an agent: %v", err)
	}
	if head, objects, err := s.Head(t.Context()); head.Number != 1 || len(objects) != 1 || err != nil {
		t.Errorf("head %d, %d objects, %v", head.Number, len(objects), err)
	}
	agent.Until(t, 10*time.Second, "the replica says that it follows nothing", func() bool { return errors.Is(s.Err(), store.ErrUnavailable) })
	waiting, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := Open(waiting, c); !errors.Is(err, ErrUnreachable) {
		t.Errorf("open without an agent: %v", err)
	}
	a.Launch()
	a.AwaitLeader()
	agent.Until(t, 10*time.Second, "the replica follows again", func() bool { return s.Err() == nil })
	mustCommit(t, s, store.Change{Base: 1, Set: []policy.Object{storetest.Object("a", 2)}})
	same(t, s, mustOpen(t, c))
}

func TestReplica_NoLeader(t *testing.T) {
	agents := agent.Cluster(t, agent.Options{})
	c := config(t, agents[0])
	s := mustOpen(t, c)
	mustCommit(t, s, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
	for _, a := range agents[1:] {
		a.Signal(syscall.SIGSTOP)
	}
	if _, err := s.Commit(t.Context(), store.Change{Base: 1, Set: []policy.Object{storetest.Object("a", 2)}, RequestID: "r"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit without a leader: %v", err)
	}
	if head, _, err := s.Head(t.Context()); head.Number != 1 || err != nil {
		t.Errorf("head %d, %v", head.Number, err)
	}
	for _, a := range agents[1:] {
		a.Signal(syscall.SIGCONT)
	}
	agents[0].AwaitLeader()
	change := store.Change{Base: 1, Set: []policy.Object{storetest.Object("a", 2)}, RequestID: "r"}
	agent.Until(t, time.Minute, "the change is committed, once", func() bool {
		rev, err := s.Commit(t.Context(), change)
		return err == nil && rev.Number == 2
	})
	same(t, s, mustOpen(t, config(t, agents[1])))
}

func TestOpen_Denied(t *testing.T) {
	a := agent.Start(t, agent.Options{ACL: true, TLS: true})
	file := filepath.Join(t.TempDir(), "token")
	token := func(rules string) string {
		t.Helper()
		policy, _, err := a.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "p" + time.Now().Format("150405.000000")[7:], Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		made, _, err := a.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return made.SecretID
	}
	write := func(secret string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token(`key_prefix "other/" { policy = "write" }`))
	d := consul.Default()
	d.Address, d.CAFile, d.TokenFile = "https://"+a.HTTPS, a.CAFile, file
	client, secret, err := consul.Dial(d)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, a)
	c.Client, c.Token = client, secret
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrDenied) {
		t.Errorf("open with a token for another prefix: %v", err)
	}
	write(token(`key_prefix "sluice/" { policy = "read" }`) + "\n") // another size, for file systems with coarse times
	s := mustOpen(t, c)
	if _, err := s.Commit(t.Context(), store.Change{Set: []policy.Object{storetest.Object("a", 1)}}); !errors.Is(err, ErrDenied) {
		t.Errorf("commit with a token that only reads: %v", err)
	}
	write(token(`key_prefix "sluice/" { policy = "write" } session_prefix "" { policy = "write" }`))
	mustCommit(t, s, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
	if _, err := s.sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
}

// TestReplica_ValueLost takes away or alters each value that a commit wrote: a replica says so and keeps its last head, and goes
// on when the value is back.
func TestReplica_ValueLost(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.BackoffMax = 200 * time.Millisecond
	for _, fault := range []struct {
		name  string
		value []byte // nil takes the key away
		want  error
	}{
		{"missing", nil, store.ErrDamaged},
		{"garbage", []byte("garbage"), store.ErrDamaged},
		{"of another key", seal("objects/x", 0, []byte("{}")), store.ErrDamaged},
		{"empty", []byte{}, store.ErrDamaged},
		{"of a newer version", append([]byte(magic), 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, '{', '}'), ErrNewerFormat},
	} {
		t.Run(fault.name, func(t *testing.T) {
			c := c
			c.Prefix = "sluice/" + strings.ReplaceAll(fault.name, " ", "-") + "/"
			writer := mustOpen(t, c)
			mustCommit(t, writer, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
			s := mustOpen(t, c)
			before, err := s.kv.keys(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			s.Close() // so that it does not read before the fault
			big := large("big", 1)
			big.Base = 1
			mustCommit(t, writer, big)
			after, err := writer.kv.keys(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			fresh := slices.DeleteFunc(after, func(key string) bool { return slices.Contains(before, key) })
			for _, key := range append(fresh, headKey) {
				testLost(t, c, key, fault.value, fault.want)
			}
		})
	}
}

func testLost(t *testing.T, c Config, key string, value []byte, want error) {
	t.Helper()
	kv := c.Client.KV()
	good, _, err := kv.Get(c.Prefix+key, nil)
	if err != nil || good == nil {
		t.Fatalf("%s: %v", key, err)
	}
	running := mustOpen(t, c)
	defer running.Close()
	if value == nil {
		_, err = kv.Delete(c.Prefix+key, nil)
	} else {
		_, err = kv.Put(&api.KVPair{Key: c.Prefix + key, Value: value}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if missingHead := key == headKey && value == nil; !missingHead {
		if _, err := Open(t.Context(), c); !errors.Is(err, want) {
			t.Errorf("%s: open says %v", key, err)
		}
	}
	if key == headKey {
		agent.Until(t, 10*time.Second, "the running replica says so", func() bool { return errors.Is(running.Err(), want) })
		if _, err := running.Commit(t.Context(), store.Change{Base: 2, Set: []policy.Object{storetest.Object("a", 9)}}); !errors.Is(err, want) {
			t.Errorf("a commit on a head that is lost: %v", err)
		}
	}
	if head, objects, err := running.Head(t.Context()); head.Number != 2 || len(objects) != 2 || err != nil {
		t.Errorf("%s: head %d, %d objects, %v", key, head.Number, len(objects), err)
	}
	if _, err := kv.Put(&api.KVPair{Key: c.Prefix + key, Value: good.Value}, nil); err != nil {
		t.Fatal(err)
	}
	agent.Until(t, 10*time.Second, "the running replica goes on", func() bool { return running.Err() == nil })
	mustOpen(t, c).Close()
}

// TestRestore_Heals puts an archive in the place of a store that cannot be read.
func TestRestore_Heals(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	s := mustOpen(t, c)
	mustCommit(t, s, store.Change{Set: []policy.Object{storetest.Object("a", 1)}})
	archive, err := s.Archive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.KV().Put(&api.KVPair{Key: c.Prefix + headKey, Value: []byte("garbage")}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), archive, true); err != nil {
		t.Fatal(err)
	}
	same(t, s, mustOpen(t, c))
}
