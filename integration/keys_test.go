package integration

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

func keyPolicies(idp *issuer, service string) map[string]string {
	return map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: https://idp.test, audiences: [food-api], jwks: {url: %s/jwks.json}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: ["%s"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  authenticate: {apiKey: {}, overridable: true}
  rules:
    - {name: key, match: /key, to: echo}
    - {name: owner, match: /owner, authenticate: {apiKey: {owners: [acme]}}, to: echo}
    - {name: permission, match: /permission, authorize: {permissions: [place_orders]}, to: echo}
    - {name: scope, match: /scope, authorize: {scopes: [write]}, to: echo}
    - {name: query, match: /query, authenticate: {apiKey: {query: api_key, allowQuery: true}}, to: echo}
    - {name: both, match: /both, authenticate: {jwt: idp, apiKey: x-api-key}, to: echo}
    - {name: either, match: /either, authenticate: {anyOf: [{jwt: idp}, {apiKey: x-api-key}]}, to: echo}
    - {name: forward, match: /forward, authenticate: {apiKey: {header: x-partner, forward: true}}, to: echo}
    - {name: token, match: /token, authenticate: {jwt: idp}, to: echo}
    - {name: careless, match: /careless, authenticate: {jwt: idp, revocation: false}, to: echo}
    - {name: public, match: /public, authenticate: none, to: echo}
`, idp.URL, service)}
}

// sees is a service that remembers the last request.
type sees struct{ last atomic.Pointer[http.Request] }

func (s *sees) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.last.Store(r.Clone(r.Context()))
	fmt.Fprintf(w, "user=%s plan=%s issuer=%s", r.Header.Get("x-sluice-user"), r.Header.Get("x-sluice-plan"), r.Header.Get("x-sluice-issuer"))
}

func createKey(t *testing.T, g *gateway.Gateway, k apikey.Key) (id, text string) {
	t.Helper()
	made, text, err := g.Callers.CreateKey(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return made.ID, text
}

// answers waits until a path answers a status, and says how long that took.
func answers(t *testing.T, g *gateway.Gateway, path string, want int, headers ...string) time.Duration {
	t.Helper()
	start := time.Now()
	gateway.Eventually(t, fmt.Sprintf("%s answers %d", path, want), func() bool {
		status, _, _ := g.Get(path, headers...)
		return status == want
	})
	return time.Since(start)
}

func TestKeys_CredentialAndRequirementDecideTheStatus(t *testing.T) {
	idp, service := newIssuer(t), &sees{}
	g := gateway.Start(t, keyPolicies(idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	past := time.Now().Add(300 * time.Millisecond)
	_, full := createKey(t, g, apikey.Key{Owner: "acme", Plan: "gold", Permissions: []string{"place_orders"}, Scopes: []string{"write"}})
	_, bare := createKey(t, g, apikey.Key{Owner: "other"})
	_, expired := createKey(t, g, apikey.Key{Owner: "acme", Expires: &past})
	off, disabled := createKey(t, g, apikey.Key{Owner: "acme"})
	if _, err := g.Callers.SetDisabled(t.Context(), off, true); err != nil {
		t.Fatal(err)
	}
	foreign, _ := apikey.Generate()
	answers(t, g, "/key", 200, "x-api-key", full)
	answers(t, g, "/key", 200, "x-api-key", bare)
	answers(t, g, "/key", 401, "x-api-key", disabled)
	answers(t, g, "/key", 401, "x-api-key", expired)
	token := idp.token(t)
	paths := []string{"/key", "/owner", "/permission", "/scope", "/query", "/both", "/either", "/forward", "/token", "/public"}
	for _, c := range []struct {
		name    string
		headers []string
		want    string // a status for each path
	}{
		{"none", nil, "401 401 401 401 401 401 401 401 401 200"},
		{"all that is asked", []string{"x-api-key", full}, "200 200 200 200 200 401 200 401 401 200"},
		{"nothing that is asked", []string{"x-api-key", bare}, "200 401 403 403 200 401 200 401 401 200"},
		{"with a token", []string{"x-api-key", full, "authorization", "Bearer " + token}, "200 200 200 200 200 200 200 401 200 200"},
		{"with a forged token", []string{"x-api-key", full, "authorization", "Bearer " + token[:len(token)-9]}, "200 200 200 200 200 401 200 401 401 200"},
		{"a token alone", bearer(token), "401 401 401 401 401 401 200 401 200 200"},
		{"in another header", []string{"x-partner", full}, "401 401 401 401 401 401 401 200 401 200"},
		{"as a bearer token", bearer(full), "401 401 401 401 401 401 401 401 401 200"},
		{"disabled", []string{"x-api-key", disabled}, "401 401 401 401 401 401 401 401 401 200"},
		{"expired", []string{"x-api-key", expired}, "401 401 401 401 401 401 401 401 401 200"},
		{"of nobody", []string{"x-api-key", foreign}, "401 401 401 401 401 401 401 401 401 200"},
		{"mistyped", []string{"x-api-key", full[:30] + "0" + full[31:]}, "401 401 401 401 401 401 401 401 401 200"},
		{"in capitals", []string{"x-api-key", strings.ToUpper(full)}, "401 401 401 401 401 401 401 401 401 200"},
		{"the hash of one", []string{"x-api-key", hashOf(t, full)}, "401 401 401 401 401 401 401 401 401 200"},
		{"a megabyte", []string{"x-api-key", strings.Repeat("slk_", 1<<18)}, "431 431 431 431 431 431 431 431 431 431"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, want := range strings.Fields(c.want) {
				status, body, headers := g.Get(paths[i], c.headers...)
				if fmt.Sprint(status) != want {
					t.Errorf("%s: %d, want %s: %s", paths[i], status, want, body)
				}
				if status == 401 && headers.Get("www-authenticate") == "" {
					t.Errorf("%s: no challenge", paths[i])
				}
				if strings.Contains(body, full) {
					t.Errorf("%s: the answer tells the key", paths[i])
				}
			}
		})
	}
	for _, c := range []struct {
		name, path string
		headers    []string
		want       int
	}{
		{"in the query", "/query?a=b&api_key=" + full, nil, 200},
		{"in the query, twice", "/query?api_key=" + full + "&api_key=" + full, nil, 401},
		{"in the query and the header", "/query?api_key=" + full, []string{"x-api-key", full}, 401},
		{"in the query where nobody allowed it", "/key?api_key=" + full, nil, 401},
	} {
		if status, body, _ := g.Get(c.path, c.headers...); status != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, status, c.want, body)
		}
	}
	for _, second := range []string{bare, full} {
		r, err := http.NewRequest("GET", g.URL+"/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["X-Api-Key"] = []string{full, second}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("two headers: %d", resp.StatusCode)
		}
	}
	if strings.Contains(g.Log.String(), full) {
		t.Error("the log has a key")
	}
}

func hashOf(t *testing.T, text string) string {
	t.Helper()
	hash, err := apikey.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

func TestKeys_ServicesSeeTheOwnerAndNotTheKey(t *testing.T) {
	idp, service := newIssuer(t), &sees{}
	g := gateway.Start(t, keyPolicies(idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	id, text := createKey(t, g, apikey.Key{Owner: "acme", Plan: "gold"})
	answers(t, g, "/key", 200, "x-api-key", text)
	forged := []string{"x-sluice-user", "admin", "X-Sluice-Plan", "platinum", "x-sluice-issuer", "evil"}
	for _, c := range []struct {
		name, path string
		headers    []string
		query      string
		left       bool
	}{
		{"header", "/key?a=b", []string{"x-api-key", text}, "a=b", false},
		{"query", "/query?a=b&api_key=" + text + "&c=d", nil, "a=b&c=d", false},
		{"only the query", "/query?api_key=" + text, nil, "", false},
		{"a key that was not needed", "/either", []string{"x-api-key", text, "authorization", "Bearer " + idp.token(t)}, "", false},
		{"forwarded", "/forward", []string{"x-partner", text}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, _ := g.Get(c.path, append(c.headers, forged...)...)
			if status != 200 || strings.Contains(body, "admin") || strings.Contains(body, "platinum") || strings.Contains(body, "evil") {
				t.Fatalf("%d %s", status, body)
			}
			if c.name != "a key that was not needed" && body != "user=acme plan=gold issuer=api-key" {
				t.Errorf("the service saw %q", body)
			}
			r := service.last.Load()
			seen := fmt.Sprint(r.Header, r.URL)
			if strings.Contains(seen, text) != c.left {
				t.Errorf("the service saw the key, or did not: %s", seen)
			}
			if r.URL.RawQuery != c.query {
				t.Errorf("the query became %q, want %q", r.URL.RawQuery, c.query)
			}
		})
	}
	gateway.Eventually(t, "when the key was used last is known", func() bool {
		k, err := g.Callers.Key(t.Context(), id)
		return err == nil && k.LastUsed != nil
	})
}

func TestKeys_RotationFailsNoRequestAndDisablingIsInForceSoon(t *testing.T) {
	g := gateway.Start(t, keyPolicies(newIssuer(t), gateway.Echo(t, "echo")), gateway.WithAgent(&gateway.Agent{}))
	id, text := createKey(t, g, apikey.Key{Owner: "acme"})
	answers(t, g, "/key", 200, "x-api-key", text)
	var current atomic.Pointer[string]
	current.Store(&text)
	var failed, asked atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				asked.Add(1)
				if status, body, _ := g.Get("/key", "x-api-key", *current.Load()); status != 200 {
					failed.Add(1)
					t.Logf("%d %s", status, body)
				}
			}
		})
	}
	for range Amount(50) {
		_, next, err := g.Callers.RotateKey(t.Context(), id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		answers(t, g, "/key", 200, "x-api-key", next) // its owner changes over when it works
		current.Store(&next)
		before := asked.Load()
		gateway.Eventually(t, "all clients have changed over", func() bool { return asked.Load() > before+8 })
	}
	close(done)
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if _, err := g.Callers.SetDisabled(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	t.Logf("disabled in %s", answers(t, g, "/key", 401, "x-api-key", *current.Load()))
	if _, err := g.Callers.SetDisabled(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	t.Logf("enabled in %s", answers(t, g, "/key", 200, "x-api-key", *current.Load()))
	if _, err := g.Callers.DeleteKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	t.Logf("deleted in %s", answers(t, g, "/key", 401, "x-api-key", *current.Load()))
}

func TestRevoke_TokensAndKeysAreRefusedSoonAndAcceptedAgain(t *testing.T) {
	idp := newIssuer(t)
	g := gateway.Start(t, keyPolicies(idp, gateway.Echo(t, "echo")), gateway.WithAgent(&gateway.Agent{}))
	id, text := createKey(t, g, apikey.Key{Owner: "acme"})
	hourAgo := time.Now().Add(-time.Hour).Unix()
	token := idp.token(t, "jti", "one", "iat", hourAgo)
	other, silent := idp.token(t, "jti", "two", "sub", "bob", "iat", hourAgo), idp.token(t, "iat", nil)
	later := idp.token(t, "iat", time.Now().Add(30*time.Second).Unix())
	answers(t, g, "/key", 200, "x-api-key", text)
	for _, one := range []string{token, other, silent, later} {
		answers(t, g, "/token", 200, bearer(one)...)
	}
	for _, c := range []struct {
		name    string
		revoked revocation.Revocation
		path    string
		refused []string
		passes  map[string][]string
	}{
		{"a subject", revocation.Revocation{Kind: revocation.Subject, Value: "alice"}, "/token", bearer(token),
			map[string][]string{"another user": bearer(other), "a new login": bearer(later)}},
		{"a subject, whose token says no time", revocation.Revocation{Kind: revocation.Subject, Value: "alice"}, "/token", bearer(silent), nil},
		{"a subject, and new logins", revocation.Revocation{Kind: revocation.Subject, Value: "alice", All: true}, "/token", bearer(later), nil},
		{"a subject of the issuer", revocation.Revocation{Kind: revocation.Subject, Value: "alice", Issuer: "https://idp.test"}, "/token", bearer(token), nil},
		{"a token", revocation.Revocation{Kind: revocation.Token, Value: "one"}, "/token", bearer(token), map[string][]string{"another": bearer(other)}},
		{"a key", revocation.Revocation{Kind: revocation.Key, Value: id}, "/key", []string{"x-api-key", text}, nil},
		{"a key's owner", revocation.Revocation{Kind: revocation.Subject, Value: "acme"}, "/key", []string{"x-api-key", text}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			made, err := g.Callers.Revoke(t.Context(), c.revoked)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("in force in %s", answers(t, g, c.path, 401, c.refused...))
			for name, headers := range c.passes {
				if status, body, _ := g.Get(c.path, headers...); status != 200 {
					t.Errorf("%s: %d %s", name, status, body)
				}
			}
			if c.path == "/token" {
				if status, body, _ := g.Get("/careless", c.refused...); status != 200 {
					t.Errorf("revocation: false: %d %s", status, body)
				}
			}
			if _, err := g.Callers.Undo(t.Context(), made.ID); err != nil {
				t.Fatal(err)
			}
			answers(t, g, c.path, 200, c.refused...)
		})
	}
}

func TestKeys_AnAgentThatRestartsWithoutTheControlPlaneKnowsThem(t *testing.T) {
	idp, a := newIssuer(t), &gateway.Agent{}
	g := gateway.Start(t, keyPolicies(idp, gateway.Echo(t, "echo")), gateway.WithAgent(a))
	_, good := createKey(t, g, apikey.Key{Owner: "acme"})
	off, disabled := createKey(t, g, apikey.Key{Owner: "acme"})
	id, revoked := createKey(t, g, apikey.Key{Owner: "other"})
	token := idp.token(t, "jti", "one")
	for _, text := range []string{good, disabled, revoked} {
		answers(t, g, "/key", 200, "x-api-key", text)
	}
	answers(t, g, "/token", 200, bearer(token)...)
	if _, err := g.Callers.SetDisabled(t.Context(), off, true); err != nil {
		t.Fatal(err)
	}
	for _, r := range []revocation.Revocation{{Kind: revocation.Key, Value: id}, {Kind: revocation.Token, Value: "one"}} {
		if _, err := g.Callers.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		answers(t, g, "/key", 200, "x-api-key", good)
		for name, c := range map[string][]string{"disabled": {"/key", "x-api-key", disabled}, "revoked": {"/key", "x-api-key", revoked}, "token": append([]string{"/token"}, bearer(token)...)} {
			if status, body, _ := g.Get(c[0], c[1:]...); status != 401 {
				t.Errorf("%s, %s: %d %s", when, name, status, body)
			}
		}
	}
	answers(t, g, "/key", 401, "x-api-key", disabled)
	answers(t, g, "/key", 401, "x-api-key", revoked)
	answers(t, g, "/token", 401, bearer(token)...)
	g.StopXDS()
	check("without the control plane")
	a.Stop()
	a.Start()
	check("and after a restart of the agent")
	kept, err := os.ReadFile(a.File)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{good, disabled, revoked} {
		if strings.Contains(string(kept), text) || strings.Contains(string(kept), text[4:]) {
			t.Error("the agent's disk has a key")
		}
	}
	a.Stop()
	if err := os.Remove(a.File); err != nil {
		t.Fatal(err)
	}
	a.Start()
	for _, text := range []string{good, disabled} {
		if status, body, _ := g.Get("/key", "x-api-key", text); status != 503 {
			t.Errorf("an agent that knows nothing: %d %s", status, body)
		}
	}
}
