package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/model"
)

func TestAuthNative_NeedsNoAgent(t *testing.T) {
	idp, service, a := newIssuer(t), &echoHeaders{}, &gateway.Agent{}
	g := gateway.Start(t, authPoliciesBy(byEnvoy, idp, gateway.Backend(t, service)), gateway.WithAgent(a))
	a.Stop()
	good := idp.token(t)
	for path, want := range map[string]int{"/known/x": 200, "/permission": 200, "/both": 403, "/public/x": 200, "/cookie": 503} {
		if status, body, _ := g.Get(path, append(bearer(good), "cookie", "session="+good)...); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
	if status, _, _ := g.Get("/known/x", bearer(good[:len(good)-9])...); status != 401 {
		t.Errorf("a cut token: %d", status)
	}
	for name, want := range map[string]model.Decider{"api/known": model.Native, "api/cookie": model.Agent, "api/public": ""} {
		if got := g.Controller.Serving().Config.Deciders()[name]; got != want {
			t.Errorf("%s: %q decides, want %q", name, got, want)
		}
	}
}

// shownBy is what callers see of an answer, but for its request's id.
func shownBy(g *gateway.Gateway, path string, headers ...string) []string {
	status, body, h := g.Get(path, headers...)
	var problem map[string]any
	if json.Unmarshal([]byte(body), &problem) == nil {
		if id, ok := problem["requestId"].(string); !ok || id == "" {
			body = "no request id in " + body
		} else {
			body = fmt.Sprint(problem["type"], problem["title"], problem["status"], problem["detail"], len(problem))
		}
	}
	return []string{fmt.Sprint(status), h.Get("content-type"), h.Get("www-authenticate"), h.Get("cache-control"), body}
}

func TestAuthNative_AnswersAsTheAgentDoes(t *testing.T) {
	idp := newIssuer(t)
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"user", "plan", "issuer", "permissions", "scopes", "roles"} {
			fmt.Fprintf(w, "%s=%q ", name, r.Header.Values("x-sluice-"+name))
		}
		fmt.Fprintf(w, "token=%t", r.Header.Get("authorization") != "")
	})
	gateways := map[decider]*gateway.Gateway{}
	for _, by := range []decider{byAgent, byEnvoy} {
		gateways[by] = gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	}
	tokens := map[string][]string{
		"none": nil, "basic": {"authorization", "Basic YTpi"}, "good": bearer(idp.token(t)), "lower case": {"authorization", "bearer " + idp.token(t)},
		"expired": bearer(idp.token(t, "exp", 1000)), "early": bearer(idp.token(t, "nbf", 9999999999)), "audience": bearer(idp.token(t, "aud", "other")),
		"issuer": bearer(idp.token(t, "iss", "https://other.test")), "garbage": bearer("garbage"), "cut": bearer(idp.token(t)[:300]),
		"umlauts": bearer(idp.token(t, "sub", "Zoë, 100%", "plan", "größer")), "numbers": bearer(idp.token(t, "plan", 2.5)),
		"a break in the user":     bearer(idp.token(t, "sub", "a\r\nx-evil: 1")),
		"a break in the plan":     bearer(idp.token(t, "plan", "a\nb")),
		"a break in a list":       bearer(idp.token(t, "permissions", []string{"a\r\nx-evil: 1", "<b>"})),
		"no lists":                bearer(idp.token(t, "permissions", nil, "scope", nil, "roles", nil, "plan", nil)),
		"empty lists":             bearer(idp.token(t, "permissions", []string{}, "scope", "")),
		"words in place of lists": bearer(idp.token(t, "permissions", "place_orders refund", "scope", []string{"write"})),
		"a lone permission":       bearer(idp.token(t, "permissions", "place_orders")),
		"nearly the permission":   bearer(idp.token(t, "permissions", "place_orders_not not_place_orders")),
		"another claim":           bearer(idp.token(t, "tenant", "acme2")),
		"a list of claims":        bearer(idp.token(t, "tenant", []string{"other", "acme"})),
		"a name with a dot":       bearer(idp.token(t, "realm.roles", []string{"waiter"})),
		"null for a name":         bearer(idp.token(t, "realm.roles", "chef", "realm", 5)),
	}
	for name, headers := range tokens {
		for _, path := range []string{"/known/x", "/permission", "/both", "/any", "/scope", "/role", "/claim", "/shadow", "/header", "/either", "/fixed"} {
			agents, envoys := shownBy(gateways[byAgent], path, headers...), shownBy(gateways[byEnvoy], path, headers...)
			if agents[0] == "401" && agents[2] != "" && agents[0] == envoys[0] && strings.HasPrefix(name, "a break") || name == "cut" {
				agents, envoys = agents[:2], envoys[:2] // refused by a rule that Envoy does not tell from others
			}
			if diff := cmp.Diff(agents, envoys); diff != "" {
				t.Errorf("%s on %s (-agent +envoy):\n%s", name, path, diff)
			}
		}
	}
}

func TestAuthNative_WithoutKeysNobodyPassesAndTheyNeedNoRoute(t *testing.T) {
	idp, service := newIssuer(t), &echoHeaders{}
	idp.broken.Store(true)
	g := gateway.Start(t, authPoliciesBy(byEnvoy, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	good := idp.token(t)
	if status, body, h := g.Get("/known/x", bearer(good)...); status != 503 || h.Get("retry-after") == "" || h.Get("content-type") != "application/problem+json" {
		t.Errorf("no keys: %d %s", status, body)
	}
	if n := service.reached.Load(); n != 0 {
		t.Errorf("the service was reached %d times", n)
	}
	table := g.Controller.Serving().Tables["edge"]
	idp.broken.Store(false)
	gateway.Eventually(t, "the keys are there", func() bool { status, _, _ := g.Get("/known/x", bearer(good)...); return status == 200 })
	if now := g.Controller.Serving().Tables["edge"]; now != table {
		t.Errorf("the routing table became %s", now)
	}
}

// What routes ask of tokens is there before they ask for it, and for as long as they do.
func TestAuthNative_ChangesRefuseNobodyMeanwhile(t *testing.T) {
	idp, service := newIssuer(t), &echoHeaders{}
	files := func(round int) map[string]string {
		f := authPoliciesBy(byEnvoy, idp, gateway.Backend(t, service))
		f["policy.yaml"] = strings.Replace(f["policy.yaml"], "audiences: [food-api, other-api]", fmt.Sprintf("audiences: [food-api, round-%d]", round), 1)
		return f
	}
	g := gateway.Start(t, files(0), gateway.WithAgent(&gateway.Agent{}))
	good := idp.token(t)
	stop, done := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if status, body, _ := g.Get("/known/x", bearer(good)...); status != 200 {
				t.Errorf("%d %s", status, body)
				return
			}
			asked.Add(1)
		}
	}()
	for round := range 10 {
		if err := g.Apply(files(round + 1)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
	if asked.Load() < 10 {
		t.Errorf("only %d requests were made meanwhile", asked.Load())
	}
}
