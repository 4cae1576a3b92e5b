package consulkv

import (
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	agent "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client asks an agent, by connections that end with the test.
func client(t testing.TB, a *agent.Agent) *api.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient(&api.Config{Address: a.Address, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func config(t testing.TB, a *agent.Agent) Config {
	c := Default()
	c.Client = client(t, a)
	c.BackoffMax = time.Second
	c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return c
}

func mustOpen(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustCommit(t testing.TB, s *Store, c store.Change) store.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestStore(t *testing.T) {
	// Hundreds of stores come and go; the agent sees a while later that their blocking queries have ended.
	a := agent.Start(t, agent.Options{Settings: map[string]any{"limits": map[string]any{"http_max_conns_per_client": -1}}})
	shared := client(t, a)
	storetest.Run(t, storetest.Opener{Durable: true, Open: func(place string, o store.Options) (store.Store, error) {
		c := Default()
		c.Client, c.Options, c.Prefix = shared, o, strings.TrimPrefix(place, "/")+"/"
		return Open(t.Context(), c)
	}})
}

// large is a change by an object that needs several chunks, even packed.
func large(name string, seed int) store.Change {
	o := storetest.Object(name, seed)
	noise := make([]byte, 512<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(noise)
	o.Text += "# " + hex.EncodeToString(noise) + "\n"
	return store.Change{Set: []policy.Object{o}}
}

func TestReplicas_FollowEachOther(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	one, two := mustOpen(t, config(t, a)), mustOpen(t, config(t, a))
	heads := two.Watch(t.Context())
	mustCommit(t, one, store.Change{Set: []policy.Object{storetest.Object("a", 1), storetest.Object("b", 1)}})
	awaitHead(t, heads, 1)
	big := large("big", 1)
	big.Base = 1
	mustCommit(t, two, big)
	awaitHead(t, one.Watch(t.Context()), 2)
	same(t, one, two)

	// a retry at the other replica is the same revision, also before the first has arrived there
	change := store.Change{Base: 2, Set: []policy.Object{storetest.Object("a", 2)}, RequestID: "r1"}
	first := mustCommit(t, one, change)
	if again := mustCommit(t, two, change); again.Digest != first.Digest || again.Number != 3 {
		t.Errorf("the retry is revision %d", again.Number)
	}
	mustCommit(t, one, store.Change{Base: 3, Set: []policy.Object{storetest.Object("a", 3)}})
	mustCommit(t, two, store.Change{Base: 4, Set: []policy.Object{storetest.Object("a", 4)}}) // on what it may not have seen
	_, err := one.Commit(t.Context(), store.Change{Base: 4, Set: []policy.Object{storetest.Object("a", 5)}})
	if conflict, ok := errors.AsType[*store.ConflictError](err); !ok || conflict.Head != 5 {
		t.Errorf("a change on revision 4 at 5: %v", err)
	}
	three := mustOpen(t, config(t, a))
	same(t, one, three)
}

func TestReplicas_RestoreIsSeen(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	one, two := mustOpen(t, config(t, a)), mustOpen(t, config(t, a))
	for n := range uint64(5) {
		mustCommit(t, one, store.Change{Base: n, Set: []policy.Object{storetest.Object("a", int(n))}})
	}
	other := store.NewMemory(store.Options{})
	if _, err := other.Commit(t.Context(), large("b", 2)); err != nil {
		t.Fatal(err)
	}
	archive, err := other.Archive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Restore(t.Context(), archive, true); err != nil {
		t.Fatal(err)
	}
	if err := two.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, one, two)
	if n, err := one.sweep(t.Context()); err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	keys, err := one.kv.keys(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, historyKey) && !strings.HasPrefix(key, historyKey+one.at.head.Generation) {
			t.Errorf("%s is left of the history that was replaced", key)
		}
	}
	same(t, one, mustOpen(t, config(t, a)))
}

// same compares everything that two replicas hold.
func same(t *testing.T, a, b *Store) {
	t.Helper()
	if err := errors.Join(a.Refresh(t.Context()), b.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	if x, y := exported(t, a), exported(t, b); x != y {
		t.Errorf("replicas differ:\n%.2000s\n%.2000s", x, y)
	}
}

func exported(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	if err := store.Export(t.Context(), s, &b, store.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func awaitHead(t *testing.T, heads <-chan uint64, want uint64) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case got, ok := <-heads:
			if !ok {
				t.Fatal("the watch ended")
			}
			if got >= want {
				return
			}
		case <-deadline:
			t.Fatalf("head %d was not announced", want)
		}
	}
}

func TestSweep_LeavesWhatIsNamed(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.Keep = 3
	one, two := mustOpen(t, c), mustOpen(t, c)
	for n := range uint64(8) {
		change := large("big", int(n%3))
		change.Base = n
		change.Set = append(change.Set, storetest.Object("small", int(n)))
		mustCommit(t, one, change)
	}
	// what a writer that failed has left
	orphan := store.NewEntry(storetest.Object("orphan", 1))
	if _, err := c.Client.KV().Put(&api.KVPair{Key: c.Prefix + objectKey(orphan.Digest), Value: []byte("x")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.KV().Put(&api.KVPair{Key: c.Prefix + "notes", Value: []byte("of somebody")}, nil); err != nil {
		t.Fatal(err)
	}
	n, err := two.sweep(t.Context())
	if err != nil || n == 0 {
		t.Fatalf("swept %d, %v", n, err)
	}
	if again, err := one.sweep(t.Context()); err != nil || again != 0 {
		t.Errorf("swept %d more, %v", again, err)
	}
	if pair, _, err := c.Client.KV().Get(c.Prefix+"notes", nil); err != nil || pair == nil {
		t.Errorf("a key of somebody else: %v, %v", pair, err)
	}
	same(t, one, mustOpen(t, c))
	mustCommit(t, one, store.Change{Base: 8, Set: []policy.Object{storetest.Object("small", 1)}}) // one that was swept comes back
	same(t, two, mustOpen(t, c))
}

// TestSweep_WhileWriting has one replica sweep all the time while another commits: nothing that a commit names may go.
func TestSweep_WhileWriting(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.Keep = 2
	one, two := mustOpen(t, c), mustOpen(t, c)
	var done atomic.Bool
	swept := make(chan error, 1)
	go func() {
		for !done.Load() {
			if _, err := two.sweep(t.Context()); err != nil {
				swept <- err
				return
			}
		}
		swept <- nil
	}()
	for n := range uint64(40) { // a and b come and go, so that what is swept is written again
		mustCommit(t, one, store.Change{Base: n, Set: []policy.Object{storetest.Object("a", int(n%2)), storetest.Object("b", int(n))}})
	}
	done.Store(true)
	if err := <-swept; err != nil {
		t.Error(err)
	}
	same(t, one, mustOpen(t, c))
}

func TestSweep_LockHoldsOnlySweeps(t *testing.T) {
	a := agent.Start(t, agent.Options{})
	c := config(t, a)
	c.Keep = 1
	one := mustOpen(t, c)
	release, err := one.lock(t.Context())
	if err != nil || release == nil {
		t.Fatal(err)
	}
	two := mustOpen(t, c)
	for n := range uint64(3) {
		mustCommit(t, two, store.Change{Base: n, Set: []policy.Object{storetest.Object("a", int(n))}})
	}
	if n, err := two.sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("swept %d although another has the lock, %v", n, err)
	}
	release()
	agent.Until(t, 10*time.Second, "the lock is free", func() bool {
		n, err := two.sweep(t.Context())
		return err == nil && n > 0
	})
}
