package control

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// many is a table of as many parts and bytes as 100,000 API keys.
type many struct {
	mu    sync.Mutex
	parts [][]byte
}

func newMany() *many {
	m := &many{}
	for i := range 1024 {
		m.parts = append(m.parts, bytes.Repeat([]byte{byte(i)}, 16<<10))
	}
	return m
}

func (*many) Await(context.Context) error { return nil }

func (m *many) Parts(model.Table) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts
}

func (*many) Changed() <-chan struct{} { return nil }

// change replaces one part, as a change of one key does.
func (m *many) change(i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := append([][]byte{}, m.parts...)
	next[i%len(next)] = append([]byte(strconv.Itoa(i)), next[i%len(next)]...)[:16<<10]
	m.parts = next
}

// BenchmarkTables is what a gateway costs beside 100,000 keys: a change of one key, and a change of policies, also
// without them.
func BenchmarkTables(b *testing.B) {
	tables, ctx := newMany(), b.Context()
	c := New(Config{
		Features: all.Features(), Store: store.NewMemory(store.Options{}), Publisher: &nowhere{}, Tables: tables, Log: slog.New(slog.DiscardHandler),
	})
	apply := func(body string) {
		objects := []policy.Object{
			object(b, "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: 8080}]}\n"),
			object(b, "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: r}\nspec: {match: /a, authenticate: {apiKey: x-api-key}, direct: {body: "+body+"}}\n"),
		}
		if _, err := c.Apply(ctx, Request{Set: objects}); err != nil {
			b.Fatal(err)
		}
	}
	apply("first")
	b.Run("key", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			tables.change(i)
			c.publishTables()
		}
	})
	policies := func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			apply("text" + strconv.Itoa(i))
		}
	}
	b.Run("policy", policies)
	c.Tables = nil
	b.Run("policy-without", policies)
}
