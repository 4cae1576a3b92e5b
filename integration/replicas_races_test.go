package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/consulkv"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// openReplica opens the store that an agent keeps; replicas of one agent are replicas of one site.
func openReplica(t *testing.T, a *agents.Agent, change ...func(*consulkv.Config)) *consulkv.Store {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := api.NewClient(&api.Config{Address: a.Address, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	c := consulkv.Default()
	c.Client, c.BackoffMax = client, 2*time.Second
	for _, f := range change {
		f(&c)
	}
	s, err := consulkv.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// races is what several writers did at two replicas: every change that was acknowledged, by its revision.
type races struct {
	replicas []*consulkv.Store
	objects  int
	next     atomic.Int64 // names the request
	refused  atomic.Int64

	mu    sync.Mutex
	acked map[uint64]raced
}

// raced is a change: the versions that it gave to objects, 0 for deleted.
type raced struct {
	base     uint64
	request  string
	versions map[string]int
}

// write makes one change on the head as this writer sees it, and tries again as a client does until it knows what
// became of it.
func (x *races) write(ctx context.Context, r *rand.Rand) error {
	s := x.replicas[r.IntN(len(x.replicas))]
	head, _, err := s.Head(ctx)
	if err != nil {
		return err
	}
	n := int(x.next.Add(1))
	c := raced{base: head.Number, request: fmt.Sprint("request-", n), versions: map[string]int{"counter": n}}
	for range r.IntN(3) {
		c.versions[fmt.Sprint("o", r.IntN(x.objects))] = n * r.IntN(2)
	}
	change := store.Change{Base: c.base, RequestID: c.request}
	for name, version := range c.versions {
		if o := storetest.Object(name, version); version == 0 {
			change.Delete = append(change.Delete, o.Ref)
		} else {
			change.Set = append(change.Set, o)
		}
	}
	for {
		rev, err := s.Commit(ctx, change)
		switch {
		case err == nil:
			return x.acknowledged(rev, c)
		case errors.As(err, new(*store.ConflictError)):
			x.refused.Add(1)
			return nil
		case !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, consulkv.ErrUnknown):
			return err
		}
		s = x.replicas[r.IntN(len(x.replicas))] // a retry may come to another replica
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (x *races) acknowledged(rev store.Revision, c raced) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, twice := x.acked[rev.Number]; twice {
		return fmt.Errorf("revision %d was acknowledged to %s and %s", rev.Number, other.request, c.request)
	}
	if rev.RequestID != c.request || rev.Parent != c.base {
		return fmt.Errorf("%s on %d was answered by %s on %d", c.request, c.base, rev.RequestID, rev.Parent)
	}
	x.acked[rev.Number] = c
	return nil
}

// run has writers write until so many changes were acknowledged.
func (x *races) run(t *testing.T, writers, amount int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SLUICE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SLUICE_SEED=%d", seed)
	var running sync.WaitGroup
	failed := make(chan error, writers)
	for i := range writers {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for int(x.next.Load()) < amount {
				if err := x.write(t.Context(), r); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	running.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	t.Logf("%d operations: %d committed, %d refused", x.next.Load(), len(x.acked), x.refused.Load())
}

// check holds every replica against the model: the acknowledged changes, one after another.
func (x *races) check(t *testing.T) {
	t.Helper()
	model := map[policy.Ref]policy.Object{}
	for n := uint64(1); n <= uint64(len(x.acked)); n++ {
		c, ok := x.acked[n]
		if !ok || c.base != n-1 {
			t.Fatalf("revision %d of %d: acknowledged %v, on %d", n, len(x.acked), ok, c.base)
		}
		for name, version := range c.versions {
			o := storetest.Object(name, version)
			if delete(model, o.Ref); version != 0 {
				model[o.Ref] = o
			}
		}
		if n%uint64(max(len(x.acked)/20, 1)) == 0 {
			x.at(t, n, model)
		}
	}
	for i, s := range x.replicas {
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		history, err := s.History(t.Context(), 0)
		if err != nil || len(history) != len(x.acked) {
			t.Fatalf("replica %d has %d revisions, %d were acknowledged: %v", i, len(history), len(x.acked), err)
		}
		for _, rev := range history {
			if rev.RequestID != x.acked[rev.Number].request {
				t.Errorf("revision %d is %s, acknowledged to %s", rev.Number, rev.RequestID, x.acked[rev.Number].request)
			}
		}
	}
	x.at(t, uint64(len(x.acked)), model)
}

// at compares the objects of a revision, at every replica.
func (x *races) at(t *testing.T, n uint64, model map[policy.Ref]policy.Object) {
	t.Helper()
	for i, s := range x.replicas {
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, objects, err := s.At(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		got := map[policy.Ref]policy.Object{}
		for _, o := range objects {
			got[o.Ref] = o
		}
		if !maps.EqualFunc(model, got, func(a, b policy.Object) bool { return a.Digest() == b.Digest() }) {
			t.Fatalf("replica %d, revision %d (-want +got):\n%s", i, n, cmp.Diff(model, got))
		}
	}
}

// TestReplicas_Races has two replicas commit as fast as they can.
func TestReplicas_Races(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	amount := Amount(10_000)
	keep := func(c *consulkv.Config) { c.Keep = amount + 1 }
	x := &races{objects: 50, acked: map[uint64]raced{}}
	x.replicas = []*consulkv.Store{openReplica(t, a, keep), openReplica(t, a, keep)}
	x.run(t, 4, amount)
	x.replicas = append(x.replicas, openReplica(t, a, keep))
	x.check(t)
}

// TestReplicas_AgentKilledDuringCommits kills the agent at random moments; it keeps what it has acknowledged, and so
// must they.
func TestReplicas_AgentKilledDuringCommits(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	patient := func(c *consulkv.Config) { c.Keep, c.Patience = 100_000, 2*time.Second }
	x := &races{objects: 50, acked: map[uint64]raced{}}
	x.replicas = []*consulkv.Store{openReplica(t, a, patient), openReplica(t, a, patient)}
	kills, each := Amount(20), 40
	var writing sync.WaitGroup
	writing.Go(func() { x.run(t, 4, (kills+1)*each) })
	for n := 1; n <= kills; n++ {
		gateway.Eventually(t, "commits go on", func() bool { return int(x.next.Load()) >= n*each })
		a.Kill()
		a.Launch()
		a.AwaitLeader()
	}
	writing.Wait()
	x.check(t)
}
