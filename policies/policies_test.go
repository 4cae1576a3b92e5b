// Package policies tests the starter policies beside it.
package policies

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

// users are policies that use a starter policy, as its comment says.
func users() map[string]string {
	const edge = "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\n"
	const service = "---\napiVersion: sluice/v1\nkind: Service\nmetadata: {name: backend}\nspec: {endpoints: [\"127.0.0.1:9001\"]}\n"
	const route = "---\napiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\n"
	return map[string]string{
		"baseline.yaml": edge + "spec: {listeners: [{name: http, port: 8080}], use: [baseline]}\n" + service +
			route + "spec: {match: /*, to: backend}\n",
		"resilient-service.yaml": edge + "spec: {listeners: [{name: http, port: 8080}]}\n" +
			route + "spec: {match: /*, to: resilient}\n",
		"public-api.yaml": edge + "spec: {listeners: [{name: http, port: 8080}]}\n" + service +
			route + "spec: {hosts: [api.example.com], use: [public-api], rules: [{match: GET /things, to: backend}]}\n",
		"signed-in-api.yaml": edge + "spec: {listeners: [{name: http, port: 8080}]}\n" + service + route + "spec:\n  use: [signed-in-api]\n  rules:\n" +
			"    - {match: GET /things, to: backend}\n    - {match: POST /things, authorize: {permissions: [write_things]}, to: backend}\n",
		"partner-api.yaml": edge + "spec: {listeners: [{name: http, port: 8080}]}\n" + service +
			route + "spec: {use: [partner-api], rules: [{match: POST /deliveries, to: backend}]}\n",
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStarterPoliciesPassTheRealEnvoy(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	using := users()
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			user, ok := using[file]
			if !ok {
				t.Fatalf("no test uses %s: add it to users", file)
			}
			c := featuretest.Translate(t, all.Features(), map[string]string{file: read(t, file), "user.yaml": user})
			if text := c.Problems.Render(); text != "" {
				t.Fatalf("problems:\n%s", text)
			}
			featuretest.Prove(t, c.Snapshots)
		})
		delete(using, file)
	}
	for file := range using {
		t.Errorf("%s is not there", file)
	}
}

// route is a Route api with one rule that takes everything, its spec continued by what is given.
func route(spec string) string {
	return "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  match: /*\n" + spec
}

func service(name, address string) string {
	return "apiVersion: sluice/v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {endpoints: [\"" + address + "\"]}\n"
}

func TestBaseline(t *testing.T) {
	talkative := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("server", "backend/1.2.3")
		w.Header().Set("x-powered-by", "secrets")
		w.Header().Set("content-type", "text/plain")
		_, _ = w.Write([]byte(strings.Repeat("words ", 1000)))
	}))
	g := gateway.Start(t, map[string]string{
		"gateway.yaml":  "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: http, port: $PORT}], use: [baseline]}\n",
		"baseline.yaml": read(t, "baseline.yaml"),
		"service.yaml":  service("backend", talkative),
		"route.yaml":    route("  to: backend\n"),
	})
	status, _, headers := g.Get("/page", "accept-encoding", "gzip")
	if status != http.StatusOK || headers.Get("content-encoding") != "gzip" {
		t.Errorf("GET /page: %d, content-encoding %q; want 200 and gzip", status, headers.Get("content-encoding"))
	}
	for name, want := range map[string]string{
		"x-content-type-options": "nosniff", "x-frame-options": "DENY", "server": "", "x-powered-by": "",
		"referrer-policy": "strict-origin-when-cross-origin",
	} {
		if got := headers.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if status, _, _ := g.Do(http.MethodPost, "/page", strings.NewReader(strings.Repeat("x", 2<<20))); status != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB: %d, want 413", status)
	}
	if status, _, _ := g.Get("/page", "x-long", strings.Repeat("x", 40<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("40 KiB of headers: %d, want 431", status)
	}
	if status, _, _ := g.Get("/page;a=b"); status != http.StatusBadRequest {
		t.Errorf("a path with a semicolon: %d, want 400", status)
	}
}

func TestResilientService(t *testing.T) {
	sick := gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return // it says that it is well, so that only retries and ejection can help
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	text := read(t, "resilient-service.yaml")
	for old, address := range map[string]string{"127.0.0.1:9001": sick, "127.0.0.1:9002": gateway.Echo(t, "b"), "127.0.0.1:9003": gateway.Echo(t, "c")} {
		text = strings.Replace(text, old, address, 1)
	}
	g := gateway.Start(t, map[string]string{"service.yaml": text, "route.yaml": route("  to: resilient\n")})
	for range 60 {
		if status, _, _ := g.Get("/"); status != http.StatusOK {
			t.Fatalf("GET /: %d, want 200 although one of three instances fails", status)
		}
	}
	gateway.Eventually(t, "the instance that fails is ejected", func() bool {
		status, _, _ := g.Get("/")
		return status == http.StatusOK && strings.Contains(g.Admin("/clusters"), sick+"::health_flags::/failed_outlier_check")
	})
}

func TestPublicAPI(t *testing.T) {
	g := gateway.Start(t, map[string]string{
		"public-api.yaml": read(t, "public-api.yaml"),
		"service.yaml":    service("backend", gateway.Echo(t, "a")),
		"route.yaml": "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  use: [public-api]\n  rules:\n" +
			"    - {name: read, match: GET /things, to: backend}\n",
	})
	status, _, headers := g.Get("/things", "origin", "https://shop.example.com")
	if got := headers.Get("access-control-allow-origin"); status != http.StatusOK || got != "https://shop.example.com" {
		t.Errorf("GET: %d, access-control-allow-origin %q", status, got)
	}
	if got := headers.Get("cache-control"); got != "no-store" {
		t.Errorf("cache-control: %q, want no-store", got)
	}
	preflight := func(origin string) (int, http.Header) {
		status, _, headers := g.Do(http.MethodOptions, "/things", nil, "origin", origin, "access-control-request-method", "GET")
		return status, headers
	}
	if status, headers := preflight("https://app.example.com"); status >= 300 || headers.Get("access-control-allow-methods") != "GET" {
		t.Errorf("preflight: %d, access-control-allow-methods %q", status, headers.Get("access-control-allow-methods"))
	}
	if _, headers := preflight("https://evil.example"); headers.Get("access-control-allow-origin") != "" {
		t.Errorf("a foreign origin's preflight was allowed")
	}
	status, body, _ := g.Do(http.MethodDelete, "/things", nil)
	var problem struct{ Status int }
	if err := json.Unmarshal([]byte(body), &problem); err != nil || status != http.StatusMethodNotAllowed || problem.Status != status {
		t.Errorf("DELETE: %d %q (%v), want 405 and a problem", status, body, err)
	}
}

func TestPartnerAPI(t *testing.T) {
	g := gateway.Start(t, map[string]string{
		"partner-api.yaml": read(t, "partner-api.yaml"),
		"service.yaml":     service("backend", gateway.Echo(t, "a")),
		"route.yaml":       route("  use: [partner-api]\n  to: backend\n"),
	}, gateway.WithAgent(&gateway.Agent{}))
	made := func(scope string) string {
		_, text, err := g.Callers.CreateKey(t.Context(), apikey.Key{Owner: "acme", Scopes: []string{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		name, key string
		want      int
	}{{"for partners", made("partner"), http.StatusOK}, {"for something else", made("else"), http.StatusForbidden}, {"none", "", http.StatusUnauthorized}} {
		gateway.Eventually(t, fmt.Sprintf("a key, %s, is answered %d", c.name, c.want), func() bool {
			status, _, _ := g.Get("/", "x-api-key", c.key)
			return status == c.want
		})
	}
}

func TestSignedInAPI(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := fmt.Sprintf(`{"keys": [{"kty": "RSA", "kid": "a", "alg": "RS256", "n": "%s", "e": "AQAB"}]}`, base64.RawURLEncoding.EncodeToString(private.N.Bytes()))
	g := gateway.Start(t, map[string]string{
		"signed-in-api.yaml": strings.Replace(read(t, "signed-in-api.yaml"), "discovery: https://idp.example.com ", "jwks: {inline: '"+public+"'} ", 1),
		"service.yaml":       service("backend", gateway.Echo(t, "a")),
		"route.yaml": "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: api}\nspec:\n  use: [signed-in-api]\n  rules:\n" +
			"    - {name: read, match: GET /things, to: backend}\n    - {name: admin, match: GET /admin, authorize: {permissions: [admin]}, to: backend}\n",
	}, gateway.WithAgent(&gateway.Agent{}))
	token := func(claims jwt.MapClaims) string {
		claims["iss"], claims["exp"] = "https://idp.example.com", time.Now().Add(time.Hour).Unix()
		unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
		unsigned.Header["kid"] = "a"
		text, err := unsigned.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	user, admin := token(jwt.MapClaims{"sub": "ann", "aud": "api.example.com"}), token(jwt.MapClaims{"sub": "ann", "aud": "api.example.com", "permissions": []string{"admin"}})
	for _, c := range []struct {
		name, path, token string
		want              int
	}{
		{"nobody", "/things", "", http.StatusUnauthorized}, {"somebody", "/things", user, http.StatusOK},
		{"somebody of another API", "/things", token(jwt.MapClaims{"sub": "ann", "aud": "other"}), http.StatusUnauthorized},
		{"who may not", "/admin", user, http.StatusForbidden}, {"who may", "/admin", admin, http.StatusOK},
	} {
		gateway.Eventually(t, fmt.Sprintf("%s is answered %d", c.name, c.want), func() bool {
			status, _, _ := g.Get(c.path, "authorization", "Bearer "+c.token)
			return status == c.want
		})
	}
}
