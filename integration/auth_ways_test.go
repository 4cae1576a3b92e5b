package integration

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// introspection is an issuer that is asked about each token.
type introspection struct {
	*httptest.Server
	asked atomic.Int64
	hangs atomic.Bool
	ended atomic.Bool // the token "opaque" has been revoked
}

func newIntrospection(t *testing.T) *introspection {
	i := &introspection{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		token := r.FormValue("token") // read first: only then a client that goes away is noticed
		if i.hangs.Load() {
			<-r.Context().Done()
			return
		}
		if user, password, _ := r.BasicAuth(); user != "gateway" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if token != "opaque" || i.ended.Load() {
			_, _ = w.Write([]byte(`{"active":false}`))
			return
		}
		fmt.Fprintf(w, `{"active":true,"sub":"alice","permissions":["place_orders"],"exp":%d}`, time.Now().Add(time.Hour).Unix())
	}))
	t.Cleanup(i.Close)
	return i
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func basicly(user, password string) []string {
	return []string{"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func TestAuth_OpaqueTokensPasswordsAndAnyOf(t *testing.T) {
	asked, idp, service := newIntrospection(t), newIssuer(t), &echoHeaders{}
	hash, err := bcrypt.GenerateFromPassword([]byte("wonderland"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := written(t, "users", "alice:"+string(hash)+"\n")
	policy := fmt.Sprintf(`
apiVersion: sluice/v1
kind: Issuer
metadata: {name: opaque}
spec:
  issuer: https://opaque.test
  introspection: {url: %s, client: gateway, secret: {file: %s}, timeout: 500ms, cache: 1s}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.test", audiences: [food-api], jwks: {url: %s/jwks.json}}
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
  rules:
    - {name: opaque, match: /opaque, authenticate: {jwt: opaque}, authorize: {permissions: [place_orders]}, to: echo}
    - {name: tokens, match: /tokens, authenticate: {jwt: [idp, opaque]}, to: echo}
    - {name: password, match: /password, authenticate: {basic: {file: %s}}, to: echo}
    - {name: any, match: /any, authenticate: {anyOf: [{jwt: idp}, {basic: {file: %s}}]}, to: echo}
    - {name: both, match: /both, authenticate: {jwt: opaque, from: {header: x-token}, basic: {file: %s}}, to: echo}
`, asked.URL, written(t, "secret", "s3cret\n"), idp.URL, gateway.Backend(t, service), users, users, users)
	g := gateway.Start(t, map[string]string{"policy.yaml": policy}, gateway.WithAgent(&gateway.Agent{}))
	signed := idp.token(t)
	for _, c := range []struct {
		name    string
		headers []string
		want    map[string]int
	}{
		{"none", nil, map[string]int{"/opaque": 401, "/tokens": 401, "/password": 401, "/any": 401, "/both": 401}},
		{"opaque", bearer("opaque"), map[string]int{"/opaque": 200, "/tokens": 200, "/password": 401, "/any": 401, "/both": 401}},
		{"signed", bearer(signed), map[string]int{"/opaque": 401, "/tokens": 200, "/password": 401, "/any": 200, "/both": 401}},
		{"not active", bearer("other"), map[string]int{"/opaque": 401, "/tokens": 401, "/any": 401}},
		{"password", basicly("alice", "wonderland"), map[string]int{"/opaque": 401, "/password": 200, "/any": 200, "/both": 401}},
		{"wrong password", basicly("alice", "wonder"), map[string]int{"/password": 401, "/any": 401}},
		{"both", append(basicly("alice", "wonderland"), "x-token", "opaque"), map[string]int{"/opaque": 401, "/password": 200, "/both": 200}},
		{"one of both wrong", append(basicly("alice", "wonderland"), "x-token", "other"), map[string]int{"/both": 401}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for path, want := range c.want {
				status, body, headers := g.Get(path, c.headers...)
				if status != want {
					t.Errorf("%s: %d, want %d: %s", path, status, want, body)
				}
				if status == 401 && headers.Get("www-authenticate") == "" {
					t.Errorf("%s: no challenge", path)
				}
			}
		})
	}
	if _, body, _ := g.Get("/any", basicly("alice", "wonderland")...); service.seen.Load().Get("authorization") != "" {
		t.Error("the service saw the password")
	} else if body != "user=alice plan= permissions=" {
		t.Errorf("the service saw %q", body)
	}
	// A token that ends at its issuer passes no longer than the answer is believed; one that hangs lets nothing pass.
	asked.ended.Store(true)
	gateway.Eventually(t, "the ended token is refused", func() bool { status, _, _ := g.Get("/opaque", bearer("opaque")...); return status == 401 })
	asked.hangs.Store(true)
	if status, _, _ := g.Get("/opaque", bearer("hanging")...); status != 503 {
		t.Errorf("the issuer hangs: %d", status)
	}
	if status, _, _ := g.Get("/tokens", bearer(signed)...); status != 200 {
		t.Errorf("another issuer's token, while one hangs: %d", status)
	}
	asked.hangs.Store(false)
	asked.ended.Store(false)
	gateway.Eventually(t, "the issuer is back", func() bool { status, _, _ := g.Get("/opaque", bearer("opaque")...); return status == 200 })
}
