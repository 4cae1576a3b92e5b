package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

func newController(t *testing.T, s store.Store) *Controller {
	t.Helper()
	server := xds.New(xds.Config{})
	t.Cleanup(server.Close)
	return New(Config{Features: all.Features(), Store: s, Publisher: server, Log: slog.New(slog.DiscardHandler)})
}

func apply(t *testing.T, c *Controller, r Request) *Result {
	t.Helper()
	result, err := c.Apply(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func refs(changes []Change) []string {
	var out []string
	for _, ch := range changes {
		sign := "~"
		switch {
		case ch.Before == nil:
			sign = "+"
		case ch.After == nil:
			sign = "-"
		}
		out = append(out, sign+ch.Ref.String())
	}
	return out
}

func TestApply_TheSameTwiceMakesNoRevision(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	first := apply(t, c, Request{Set: site(t, 2), Source: "a"})
	again := apply(t, c, Request{Set: site(t, 2), Source: "a"})
	if !first.Changed || again.Changed || again.Build.Revision.Number != first.Build.Revision.Number {
		t.Errorf("changed %v then %v, revisions %d and %d", first.Changed, again.Changed, first.Build.Revision.Number, again.Build.Revision.Number)
	}
	for name, s := range first.Build.Snapshots {
		if s.Digest() != again.Build.Snapshots[name].Digest() {
			t.Errorf("gateway %s was published twice with different bytes", name)
		}
	}
}

func TestApply_ProblemsStoreNothingAndKeepWhatServes(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 1)})
	before := c.Serving()
	_, err := c.Apply(context.Background(), Request{Set: []policy.Object{
		object(t, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: bad}\nspec: {match: /x, to: nowhere}\n"),
		object(t, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: worse}\nspec: {mtch: /x, to: svc-0}\n"),
	}})
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) != 2 {
		t.Fatalf("error %v", err)
	}
	if c.Serving() != before {
		t.Error("something else is served")
	}
	if head, _, _ := c.Store.Head(context.Background()); head.Number != 1 {
		t.Errorf("the store is at revision %d", head.Number)
	}
}

func TestApply_PruneDeletesOnlyWhatItsSourceBrought(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 2), Source: "a"})
	apply(t, c, Request{Set: []policy.Object{object(t, "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: p}\nspec: {timeout: 1s}\n")}, Source: "b"})
	r := Request{Set: site(t, 1), Source: "a", Prune: true}
	plan, err := c.Plan(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-Route/route-1", "-Service/svc-1"}
	if diff := cmp.Diff(want, refs(plan.Changes)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if head, _, _ := c.Store.Head(context.Background()); head.Number != 2 {
		t.Errorf("the plan made revision %d", head.Number)
	}
	if diff := cmp.Diff(want, refs(apply(t, c, r).Changes)); diff != "" {
		t.Errorf("apply (-want +got):\n%s", diff)
	}
}

func TestApply_RefusesToLoseMoreThanAFifth(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 10), Source: "a"})
	r := Request{Set: site(t, 7), Source: "a", Prune: true}
	if _, err := c.Apply(context.Background(), r); !errors.Is(err, ErrRemovals) {
		t.Errorf("error %v", err)
	}
	r.AllowRemovals = true
	apply(t, c, r)
}

func TestApply_AnotherHeadIsAConflict(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 1)})
	base := uint64(0)
	_, err := c.Apply(context.Background(), Request{Set: site(t, 2), Base: &base})
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Head != 1 {
		t.Errorf("error %v", err)
	}
}

func TestApply_ARequestIsCarriedOutOnce(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 1), RequestID: "one"})
	apply(t, c, Request{Set: []policy.Object{route(t, 0, "9s")}})
	if again := apply(t, c, Request{Set: site(t, 1), RequestID: "one"}); again.Changed || again.Build.Revision.Number != 2 {
		t.Errorf("changed %v, revision %d", again.Changed, again.Build.Revision.Number)
	}
}

func TestApply_TwoObjectsOfOneNameAreAProblem(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	_, err := c.Apply(context.Background(), Request{Set: append(site(t, 1), route(t, 0, "3s"))})
	if err == nil || !strings.Contains(err.Error(), "already defined") {
		t.Errorf("error %v", err)
	}
}

func TestDelete_OfWhatIsNotThereIsAnError(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	apply(t, c, Request{Set: site(t, 1)})
	_, err := c.Apply(context.Background(), Request{Delete: []policy.Ref{{Kind: "Route", Name: "nope"}}})
	if !errors.Is(err, ErrUnknownObject) {
		t.Errorf("error %v", err)
	}
	_, err = c.Apply(context.Background(), Request{Delete: []policy.Ref{{Kind: "Service", Name: "svc-0"}}})
	if err == nil || !strings.Contains(err.Error(), `there is no Service "svc-0"`) {
		t.Errorf("deleting what is in use: %v", err)
	}
}

func TestRollback_RestoresObjectsWithTheirSources(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	first := apply(t, c, Request{Set: site(t, 2), Source: "a"})
	apply(t, c, Request{Set: []policy.Object{route(t, 0, "9s")}, Source: "b"})
	apply(t, c, Request{Delete: []policy.Ref{{Kind: "Route", Name: "route-1"}}})
	back, err := c.Rollback(context.Background(), 1, Request{Who: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if back.Build.Revision.Number != 4 || back.Build.Revision.RollbackOf != 1 || back.Build.Revision.Digest != first.Build.Revision.Digest {
		t.Errorf("revision %+v", back.Build.Revision)
	}
	if back.Build.Tables["edge"] != first.Build.Tables["edge"] {
		t.Error("the table is another one")
	}
}

func TestRun_PublishesWhatIsStored(t *testing.T) {
	s := store.NewMemory(store.Options{})
	apply(t, newController(t, s), Request{Set: site(t, 3)})
	c := newController(t, s)
	if c.Ready() == nil {
		t.Error("ready before the store was read")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for c.Ready() != nil {
		select {
		case err := <-done:
			t.Fatalf("run ended: %v", err)
		default:
		}
	}
	if got := c.Serving().Revision.Number; got != 1 {
		t.Errorf("serving revision %d", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRun_KeepsQuietAboutWhatDoesNotCompile(t *testing.T) {
	s := store.NewMemory(store.Options{})
	bad := object(t, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: bad}\nspec: {match: /x, to: nowhere}\n")
	if _, err := s.Commit(context.Background(), store.Change{Set: []policy.Object{bad}}); err != nil {
		t.Fatal(err)
	}
	c := newController(t, s)
	if err := c.sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "does not compile") || c.Serving() != nil {
		t.Errorf("ready: %v, serving %v", err, c.Serving())
	}
}

func TestBuild_TheOrderOfObjectsMeansNothing(t *testing.T) {
	forward := site(t, 30)
	backward := make([]policy.Object, len(forward))
	for i, o := range forward {
		backward[len(forward)-1-i] = o
	}
	var digests []string
	for _, objects := range [][]policy.Object{forward, backward, forward} {
		c := newController(t, store.NewMemory(store.Options{}))
		digests = append(digests, apply(t, c, Request{Set: objects}).Build.Snapshots["edge"].Digest())
	}
	if digests[0] != digests[1] || digests[1] != digests[2] {
		t.Errorf("digests %v", digests)
	}
}

func TestWhy_NamesWhatBecameOfAnObject(t *testing.T) {
	c := newController(t, store.NewMemory(store.Options{}))
	unused := object(t, "apiVersion: sluice/v1\nkind: Service\nmetadata: {name: idle}\nspec: {endpoints: [127.0.0.1:1]}\n")
	apply(t, c, Request{Set: append(site(t, 2), unused)})
	for ref, want := range map[string]string{
		"Route/route-1": "[route-1/route-1]", "Service/svc-0": "[svc-0]", "Gateway/edge": "[edge/http]", "Service/idle": "[]",
	} {
		kind, name, _ := strings.Cut(ref, "/")
		j, err := c.Why(context.Background(), policy.Ref{Kind: kind, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(j.Compiled); got != want || (j.Unused == "") == (want == "[]") {
			t.Errorf("%s became %s, unused %q", ref, got, j.Unused)
		}
	}
	if _, err := c.Why(context.Background(), policy.Ref{Kind: "Route", Name: "x"}); !errors.Is(err, ErrUnknownObject) {
		t.Errorf("error %v", err)
	}
}
