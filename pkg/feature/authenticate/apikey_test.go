package authenticate

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

// tables are what an agent has of keys and revocations.
func tables(t testing.TB, keys []apikey.Entry, revoked ...revocation.Revocation) func(name string) any {
	t.Helper()
	out := map[string]any{}
	for i := range apikey.Shards {
		out[feature.PartName(keyData, i)] = apikey.Table{}
	}
	for i := range keys {
		out[feature.PartName(keyData, keys[i].Hash.Shard())].(apikey.Table)[keys[i].Hash] = &keys[i]
	}
	parts := make([][]revocation.Entry, revocation.Shards)
	for _, r := range revoked {
		i := revocation.Shard(r.Kind, r.Value)
		parts[i] = append(parts[i], r.Entry())
	}
	for i, part := range parts {
		body, err := revocation.Pack(part)
		if err != nil {
			t.Fatal(err)
		}
		if out[feature.PartName(revocationData, i)], err = revocation.Unpack(body); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) any { return out[name] }
}

// issued is a key and what agents know it by.
func issued(id, owner string) (string, apikey.Entry) {
	text, hash := apikey.Generate()
	return text, apikey.Entry{Hash: hash, ID: id, Owner: owner, Plan: "gold", Scopes: []string{"read"}, Permissions: []string{"place_orders"}}
}

func TestAPIKey_IsFoundInOnePlaceOnly(t *testing.T) {
	good, entry := issued("k1", "acme")
	other, otherEntry := issued("k2", "other")
	old, expired := issued("k3", "acme")
	expired.Until = 1
	unknown, _ := issued("k4", "acme")
	data := tables(t, []apikey.Entry{entry, otherEntry, expired})
	inHeader := &APIKey{Header: "X-API-Key"}
	inBoth := &APIKey{Header: "x-api-key", Query: "api_key", AllowQuery: true}
	for _, c := range []struct {
		name   string
		method *APIKey
		header string
		path   string
		reason string // "" for allowed
	}{
		{"good", inHeader, good, "/", ""},
		{"none", inHeader, "", "/", "missing"},
		{"not a key", inHeader, "secret", "/", "malformed"},
		{"a typo", inHeader, good[:20] + "a" + good[21:], "/", "malformed"},
		{"unknown", inHeader, unknown, "/", "unknown"},
		{"expired", inHeader, old, "/", "expired"},
		{"two in the header", inHeader, good + "," + other, "/", "several"},
		{"the same twice", inHeader, good + "," + good, "/", "several"},
		{"in the query where that is not allowed", inHeader, "", "/?api_key=" + good, "missing"},
		{"in the query", inBoth, "", "/?a=b&api_key=" + good, ""},
		{"escaped in the query", inBoth, "", "/?api%5Fkey=" + good, ""},
		{"twice in the query", inBoth, "", "/?api_key=" + good + "&api_key=" + good, "several"},
		{"in both", inBoth, good, "/?api_key=" + good, "several"},
		{"in the header and something in the query", inBoth, good, "/?api_key=x", "several"},
		{"an empty one in the query", inBoth, good, "/?api_key=", ""},
		{"of an owner that is taken", &APIKey{Header: "x-api-key", Owners: []string{"acme"}}, good, "/", ""},
		{"of another owner", &APIKey{Header: "x-api-key", Owners: []string{"acme"}}, other, "/", "owner"},
		{"a megabyte", inHeader, strings.Repeat("slk_", 1<<18), "/", "malformed"},
		{"a megabyte in the query", inBoth, "", "/?api_key=" + strings.Repeat("slk_", 1<<18), "missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &feature.Request{Path: c.path, Headers: map[string]string{}, Now: time.Now(), Data: data}
			if c.header != "" {
				r.Headers["x-api-key"] = c.header
			}
			id := &feature.Identity{}
			d := (&Spec{AnyOf: []Way{{APIKey: c.method}}, Revoked: revocationData}).Check(t.Context(), r, id)
			if d.Reason != c.reason || d.Allowed() != (c.reason == "") || !d.Allowed() && d.Status != 401 {
				t.Fatalf("%d %q, want %q", d.Status, d.Reason, c.reason)
			}
			if strings.Contains(d.Detail+d.Challenge, "slk_") {
				t.Errorf("the answer tells the key: %s", d.Detail)
			}
			if !d.Allowed() {
				return
			}
			want := &feature.Identity{User: "acme", Plan: "gold", Issuer: "api-key", Key: "k1", Scopes: []string{"read"}, Permissions: []string{"place_orders"}}
			if diff := cmp.Diff(want, id); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"x-api-key"}, d.RemoveHeaders); diff != "" {
				t.Error("the service sees the key", diff)
			}
		})
	}
}

func TestAPIKey_IsUndecidedWithoutTheTable(t *testing.T) {
	text, entry := issued("k1", "acme")
	s := &Spec{AnyOf: []Way{{APIKey: &APIKey{Header: "x-api-key"}}}, Revoked: revocationData}
	have := tables(t, []apikey.Entry{entry})
	for _, c := range []struct {
		name, without, reason string
	}{
		{"without keys", keyData, "no_keys"},
		{"without revocations", revocationData, "no_revocations"},
	} {
		r := &feature.Request{Headers: map[string]string{"x-api-key": text}, Now: time.Now(), Data: func(name string) any {
			if strings.HasPrefix(name, c.without) {
				return nil
			}
			return have(name)
		}}
		if d := s.Check(t.Context(), r, &feature.Identity{}); d.Status != 503 || d.Reason != c.reason {
			t.Errorf("%s: %d %s", c.name, d.Status, d.Reason)
		}
	}
}

func TestRevoked_TokensAndKeysAreRefusedAlsoWhereTheyAreRemembered(t *testing.T) {
	set, token := signed(t)
	text, entry := issued("k1", "acme")
	issuer := newIssuer().(*Issuer)
	issuer.Issuer, issuer.Audiences = "i", []string{"a"}
	bearer := Way{JWT: &Tokens{Issuers: []NamedIssuer{issuer.named("i")}}}
	key := Way{APIKey: &APIKey{Header: "x-api-key"}}
	both := Way{JWT: bearer.JWT, APIKey: key.APIKey}
	now := time.Now()
	subject := func(user string) revocation.Revocation {
		return revocation.Revocation{Kind: revocation.Subject, Value: user, At: now}
	}
	for _, c := range []struct {
		name    string
		way     Way
		revoked []revocation.Revocation
		status  int
	}{
		{"nothing", both, nil, 0},
		{"the token's user", bearer, []revocation.Revocation{subject("alice")}, 401},
		{"another user", bearer, []revocation.Revocation{subject("bob")}, 0},
		{"the key", key, []revocation.Revocation{{Kind: revocation.Key, Value: "k1", At: now}}, 401},
		{"the key's owner", key, []revocation.Revocation{subject("acme")}, 401},
		{"the key beside a token", both, []revocation.Revocation{{Kind: revocation.Key, Value: "k1", At: now}}, 401},
		{"the owner of the key beside a token", both, []revocation.Revocation{subject("acme")}, 401},
		{"the user for another issuer", bearer, []revocation.Revocation{{Kind: revocation.Subject, Value: "alice", Issuer: "other", At: now}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept := tables(t, []apikey.Entry{entry}, c.revoked...)
			r := &feature.Request{Now: now, Headers: map[string]string{"authorization": "Bearer " + token, "x-api-key": text}, Data: func(name string) any {
				if strings.HasPrefix(name, issuerData) {
					return set
				}
				return kept(name)
			}}
			s := &Spec{AnyOf: []Way{c.way}, Revoked: revocationData}
			for range 2 { // the second time the token is remembered
				if d := s.Check(t.Context(), r, &feature.Identity{}); d.Status != c.status {
					t.Errorf("%d %s", d.Status, d.Reason)
				}
			}
			s.Revoked = ""
			if d := s.Check(t.Context(), r, &feature.Identity{}); !d.Allowed() {
				t.Error("it is refused where revocations are not asked for")
			}
		})
	}
}

func FuzzAPIKey(f *testing.F) {
	_, entry := issued("k1", "acme")
	data := tables(f, []apikey.Entry{entry})
	f.Add("slk_", "/?api_key=slk_")
	f.Add(",", "/?api_key=%zz")
	s := &Spec{AnyOf: []Way{{APIKey: &APIKey{Header: "x-api-key", Query: "api_key", AllowQuery: true}}}, Revoked: revocationData}
	f.Fuzz(func(t *testing.T, header, path string) {
		r := &feature.Request{Path: path, Headers: map[string]string{"x-api-key": header}, Now: time.Now(), Data: data}
		if d := s.Check(t.Context(), r, &feature.Identity{}); d.Allowed() || d.Status != 401 {
			t.Errorf("%q %q: %d", header, path, d.Status)
		}
	})
}

func BenchmarkAPIKey(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var entries []apikey.Entry
			var texts []string
			for i := range n {
				text, entry := issued("k"+strconv.Itoa(i), "acme")
				entries, texts = append(entries, entry), append(texts, text)
			}
			s := &Spec{AnyOf: []Way{{APIKey: &APIKey{Header: "x-api-key"}}}, Revoked: revocationData}
			r := &feature.Request{Headers: map[string]string{}, Now: time.Now(), Data: tables(b, entries)}
			i := 0
			for b.Loop() {
				r.Headers["x-api-key"] = texts[i%n]
				if d := s.Check(b.Context(), r, &feature.Identity{}); !d.Allowed() {
					b.Fatal(d)
				}
				i += 7919
			}
		})
	}
}
