package control

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// nowhere is a Publisher without Envoys.
type nowhere struct{ published int }

func (n *nowhere) Publish(string, *snapshot.Snapshot)                            { n.published++ }
func (n *nowhere) Withdraw(string)                                               {}
func (n *nowhere) Wait(context.Context, string, string) []xds.EnvoyStatus        { return nil }
func (n *nowhere) Envoys() []xds.EnvoyStatus                                     { return nil }
func (n *nowhere) Resource(_, _, _, _ string) (s xds.ResourceStatus, known bool) { return s, false }
func object(t testing.TB, text string) policy.Object {
	t.Helper()
	var p policy.Problems
	objects, _ := policy.Split("policy.yaml", text, "test", &p)
	if p.Failed() || len(objects) != 1 {
		t.Fatal(p.Render())
	}
	return objects[0]
}

const edge = "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: 8080}]}\n"

// site is a Gateway and n Routes, each to a Service of its own.
func site(t testing.TB, n int) []policy.Object {
	objects := []policy.Object{object(t, edge)}
	for i := range n {
		objects = append(objects, route(t, i, "2s"), object(t, fmt.Sprintf(`apiVersion: sluice/v1
kind: Service
metadata: {name: svc-%d}
spec: {endpoints: [127.0.0.1:%d]}
`, i, 10000+i)))
	}
	return objects
}

func route(t testing.TB, i int, timeout string) policy.Object {
	return object(t, fmt.Sprintf(`apiVersion: sluice/v1
kind: Route
metadata: {name: route-%d}
spec:
  match: GET /team%d/svc%d/api/{id}
  to: svc-%d
  timeout: %s
`, i, i%20, i, i, timeout))
}

func BenchmarkApply_OneRouteOf(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := New(Config{Features: all.Features(), Store: store.NewMemory(store.Options{}), Publisher: &nowhere{}, Log: slog.New(slog.DiscardHandler)})
			if _, err := c.Apply(context.Background(), Request{Set: site(b, n)}); err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i++
				if _, err := c.Apply(context.Background(), Request{Set: []policy.Object{route(b, n/2, fmt.Sprintf("%dms", i))}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
