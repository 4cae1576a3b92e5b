package control

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// table is one part of each table.
type table struct {
	mu      sync.Mutex
	part    string
	changed chan struct{}
}

func (*table) Await(context.Context) error { return nil }

func (t *table) Parts(model.Table) [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return [][]byte{[]byte(t.part)}
}

func (t *table) Changed() <-chan struct{} { return t.changed }

func (t *table) set(part string) {
	t.mu.Lock()
	t.part = part
	t.mu.Unlock()
	t.changed <- struct{}{}
}

// last remembers what was published last.
type last struct {
	nowhere
	parts chan string
}

func (l *last) Publish(_ string, s *snapshot.Snapshot) {
	l.parts <- string(s.Table(feature.DataType).Body(feature.PartName("authenticate/key", 0)))
}

// slow is a proof that takes as long as the test wants.
type slow struct{ begun, end chan struct{} }

func (s *slow) Prove(context.Context, *snapshot.Snapshot) ([]proof.Fault, error) {
	s.begun <- struct{}{}
	<-s.end
	return nil, nil
}

// TestTables_WaitForNoChangeOfPoliciesAndAreNotUndoneByOne: what is revoked while a change is being proven is refused at
// once, and stays refused when that change is published.
func TestTables_WaitForNoChangeOfPoliciesAndAreNotUndoneByOne(t *testing.T) {
	tables, to, prover := &table{part: "one", changed: make(chan struct{})}, &last{parts: make(chan string, 100)}, &slow{make(chan struct{}), make(chan struct{})}
	c := New(Config{
		Features: all.Features(), Store: store.NewMemory(store.Options{}), Publisher: to, Prover: prover, Tables: tables, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.FollowTables(ctx) })
	defer running.Wait()
	defer cancel()
	apply := func(port string) <-chan error {
		done := make(chan error, 1)
		objects := []policy.Object{
			object(t, "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: "+port+"}]}\n"),
			object(t, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: r}\nspec: {match: /a, authenticate: {apiKey: x-api-key}, direct: {body: a}}\n"),
		}
		go func() {
			_, err := c.Apply(ctx, Request{Set: objects})
			done <- err
		}()
		return done
	}
	want := func(part string) {
		t.Helper()
		select {
		case got := <-to.parts:
			if got != part {
				t.Fatalf("published %q, want %q", got, part)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%q is not published", part)
		}
	}
	first := apply("8080")
	<-prover.begun
	prover.end <- struct{}{}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	want("one")
	second := apply("8081")
	<-prover.begun
	tables.set("two")
	want("two")
	prover.end <- struct{}{}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	want("two")
}
