package authorize

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// decoded is a block as an agent has it.
func decoded(t testing.TB, body string) *Spec {
	t.Helper()
	s := &Spec{}
	if err := json.Unmarshal([]byte(body), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func BenchmarkCheck(b *testing.B) {
	r := &feature.Request{
		Method: "GET", Host: "api.food.example", Path: "/users/alice/orders?limit=10", Now: time.Now(), Client: netip.MustParseAddr("203.0.113.7"),
		Headers: map[string]string{"x-tenant": "acme", "accept": "*/*"},
	}
	id := &feature.Identity{User: "alice", Plan: "gold", Permissions: []string{"a", "b", "place_orders"}, Claims: map[string]any{"tenant": "acme", "level": 3.0}}
	for _, c := range []struct{ name, body string }{
		{"permissions", `{"all":[{"permissions":["place_orders"]}]}`},
		{"path", `{"all":[{"cel":["request.path == '/users/' + identity.user + '/orders'"]}]}`},
		{"params", `{"path":"/users/{id}/orders","all":[{"cel":["request.params.id == identity.user"]}]}`},
		{"four-terms", `{"all":[{"cel":["identity.plan == 'gold' && 'place_orders' in identity.permissions && has(identity.claims.tenant) && identity.claims.tenant == request.headers['x-tenant']"]}]}`},
		{"query", `{"all":[{"cel":["request.query['limit'] == ['10']"]}]}`},
		{"regex", `{"all":[{"cel":["request.path.matches('^/users/[a-z]+/orders$')"]}]}`},
		{"address", `{"all":[{"cel":["cidr('203.0.113.0/24').containsIP(request.clientAddress)"]}]}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := decoded(b, c.body)
			b.ReportAllocs()
			for b.Loop() {
				if d := s.Check(b.Context(), r, id); !d.Allowed() {
					b.Fatal(d)
				}
			}
		})
	}
	b.Run("the-most-that-is-allowed", func(b *testing.B) {
		s := decoded(b, `{"all":[{"cel":["identity.permissions.exists(p, request.path.startsWith('/' + p + '/never'))"]}]}`)
		many := &feature.Identity{User: "alice", Permissions: strings.Split(strings.Repeat("abcdefghijklmnopqrstuvwxyz,", 10_000), ",")}
		b.ReportAllocs()
		for b.Loop() {
			if d := s.Check(b.Context(), r, many); d.Reason != reasonCELLimit {
				b.Fatal(d)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			decoded(b, `{"all":[{"cel":["request.path == '/users/' + identity.user + '/orders'"]}]}`)
		}
	})
}
