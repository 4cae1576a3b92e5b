package authorize

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

func alice() *feature.Identity {
	return &feature.Identity{
		User: "alice", Plan: "gold", Issuer: "https://idp.test", Permissions: []string{"place_orders"}, Scopes: []string{"read", "write"}, Roles: []string{"cook"},
		Claims: map[string]any{"tenant": "acme", "level": 3.0, "big": 1e6, "admin": true, "groups": []any{"a", "b"}, "realm": map[string]any{"x": "y"}},
	}
}

func request() *feature.Request {
	return &feature.Request{
		Method: "GET", Host: "api.food.example", Path: "/users/alice%20b/orders?limit=10&a=1&a=2", Client: netip.MustParseAddr("203.0.113.7"),
		Headers: map[string]string{"x-tenant": "acme"}, Now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
}

func specOf(t testing.TB, expression string) *Spec {
	t.Helper()
	text, err := json.Marshal(expression)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, `{"path":"/users/{id}/*","all":[{"cel":[`+string(text)+`]}]}`)
}

func TestCEL_DecidesOnRequestAndIdentity(t *testing.T) {
	for _, c := range []struct{ expression, reason string }{
		{"identity.user == 'alice'", ""}, {"identity.user == 'bob'", reasonCEL},
		{"identity.plan == 'gold' && identity.issuer == 'https://idp.test'", ""},
		{"'place_orders' in identity.permissions", ""}, {"'refund' in identity.permissions", reasonCEL},
		{"['read', 'write'].all(s, s in identity.scopes)", ""}, {"identity.roles.exists(r, r.startsWith('co'))", ""},
		{"identity.claims.tenant == request.headers['x-tenant']", ""}, {"identity.claims.level >= 3", ""}, {"identity.claims.level > 3", reasonCEL},
		{"identity.claims.big == 1000000", ""}, {"identity.claims.admin == true", ""}, {"identity.claims.admin == 'true'", reasonCEL},
		{"identity.claims.realm.x == 'y'", ""}, {"'b' in identity.claims.groups", ""}, {"identity.claims['tenant'] == 'acme'", ""},
		{"identity.claims.missing == 'x'", reasonCELError}, {"!(identity.claims.missing == 'x')", reasonCELError},
		{"identity.claims.missing != 'x'", reasonCELError}, {"has(identity.claims.missing) && identity.claims.missing == 'x'", reasonCEL},
		{"identity.claims.missing == 'x' || identity.user == 'alice'", ""}, {"identity.claims.tenant > 3", reasonCELError},
		{"identity.claims.tenant.x == 'y'", reasonCELError}, {"request.headers['x-missing'] == ''", reasonCELError},
		{"!('x-missing' in request.headers)", ""}, {"request.method == 'GET' && request.host.endsWith('.food.example')", ""},
		{"request.path == '/users/alice%20b/orders'", ""}, {"request.params.id == 'alice b'", ""}, {"request.params['id'] == 'alice'", reasonCEL},
		{"request.query.limit == ['10']", ""}, {"request.query['a'] == ['1']", reasonCEL}, {"request.query.a.all(v, int(v) < 3)", ""},
		{"int(request.query.limit[0]) <= 100", ""}, {"int(request.host) == 1", reasonCELError}, {"'b' in request.query", reasonCEL},
		{"cidr('203.0.113.0/24').containsIP(request.clientAddress)", ""}, {"request.clientAddress == ip('203.0.113.8')", reasonCEL},
		{"request.time < timestamp('2027-01-01T00:00:00Z') && request.time.getHours() == 12", ""}, {"request.path.matches('^/users/[^/]+/orders$')", ""},
		{"request.time.getHours('Europe/Berlin') == 13", ""}, {"1 / (size(identity.user) - 5) == 1", reasonCELError},
	} {
		t.Run(c.expression, func(t *testing.T) {
			d := specOf(t, c.expression).Check(t.Context(), request(), alice())
			if d.Reason != c.reason || d.Allowed() != (c.reason == "") || !d.Allowed() && d.Status != 403 {
				t.Errorf("%+v, want %q", d, c.reason)
			}
		})
	}
}

func TestCEL_WhatCannotBeToldDenies(t *testing.T) {
	many, long := alice(), alice()
	many.Permissions = strings.Split(strings.Repeat("abcdefgh ", 100_000), " ")
	long.Claims = map[string]any{"text": strings.Repeat("a", 1<<20)}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	with := func(change func(r *feature.Request)) *feature.Request { r := request(); change(r); return r }
	for _, c := range []struct {
		name, expression string
		ctx              context.Context
		r                *feature.Request
		id               *feature.Identity
		status           int
		reason           string
	}{
		{"too many to look at", "identity.permissions.all(p, p.startsWith('/'+p) || true)", t.Context(), request(), many, 503, reasonCELLimit},
		{"too long to look at", "identity.claims.text.matches('^[a-z]+b$')", t.Context(), request(), long, 503, reasonCELLimit},
		{"out of time", "identity.permissions.all(p, p != '')", ended, request(), many, 503, reasonCELLimit},
		{"a query that may be read in two ways", "request.query.a == ['1']", t.Context(), with(func(r *feature.Request) { r.Path = "/?a=1;b=2" }), alice(), 403, reasonCELError},
		{"a broken escape", "request.params.id != ''", t.Context(), with(func(r *feature.Request) { r.Path = "/users/%zz" }), alice(), 403, reasonCELError},
		{"no such part of the path", "request.params.id != ''", t.Context(), with(func(r *feature.Request) { r.Path = "/users" }), alice(), 403, reasonCELError},
		{"no address", "!cidr('10.0.0.0/8').containsIP(request.clientAddress)", t.Context(), with(func(r *feature.Request) { r.Client = netip.Addr{} }), alice(), 403, reasonCELError},
		{"nobody", "identity.user != 'bob'", t.Context(), request(), &feature.Identity{}, 401, "missing"},
		{"an identity without claims", "identity.claims.tenant != 'x'", t.Context(), request(), &feature.Identity{User: "a"}, 403, reasonCELError},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := specOf(t, c.expression).Check(c.ctx, c.r, c.id); d.Status != c.status || d.Reason != c.reason {
				t.Errorf("%+v, want %d %s", d, c.status, c.reason)
			}
		})
	}
}

func TestCEL_OfTheRequestAloneNeedsNobody(t *testing.T) {
	s := specOf(t, "request.headers['x-tenant'] == 'acme'")
	if d := s.Check(t.Context(), request(), &feature.Identity{}); !d.Allowed() || s.All[0].needsIdentity() {
		t.Errorf("%+v", d)
	}
}

func TestCEL_IsSafeForConcurrentUse(t *testing.T) {
	s := specOf(t, "identity.permissions.exists(p, p == identity.user) && request.path.matches('^/')")
	var all sync.WaitGroup
	for _, user := range []string{"place_orders", "alice", "place_orders", "bob"} {
		all.Go(func() {
			id := alice()
			id.User = user
			for range 200 {
				if d := s.Check(context.Background(), request(), id); d.Allowed() != (user == "place_orders") {
					t.Errorf("%s: %+v", user, d)
				}
			}
		})
	}
	all.Wait()
}

// FuzzCEL: whatever is written, and whatever is asked, the compiler and the check come to an end, and only true passes.
func FuzzCEL(f *testing.F) {
	for _, s := range []string{
		"identity.user == 'a'", "request.params.id == request.query['a'][0]", "identity.claims.a.b[0] > 1", "has(identity.claims.x) ? true : false",
		"[1,2].all(x, x in [1])", "request.path.matches('(a+)+$')", "'\\", "((((((", "a.b(c, d, e)", "\xff", "cidr('::/0').containsIP(ip('1.2.3.4'))", "b'\\xff' == b''",
	} {
		f.Add(s, "/users/1?a=b", "acme")
	}
	f.Fuzz(func(t *testing.T, expression, path, word string) {
		e, faults := compile(expression)
		if len(faults) > 0 {
			for _, one := range faults {
				if one.line < 1 || one.column < 1 || one.message == "" {
					t.Errorf("%q: %+v", expression, one)
				}
			}
			return
		}
		r := request()
		r.Path, r.Headers = path, map[string]string{"x": word}
		id := alice()
		id.Claims = map[string]any{"a": word, "b": map[string]any{word: 1.0}}
		in := &input{request: r, identity: id, pattern: "/users/{id}"}
		if d := e.check(context.Background(), in); d.Status != 0 && d.Status != 403 && d.Status != 503 {
			t.Errorf("%q: %+v", expression, d)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again Expression
		if err := json.Unmarshal(text, &again); err != nil {
			t.Errorf("%q does not compile again: %v", expression, err)
		}
	})
}
