package integration

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// issuer is an identity provider that signs real tokens.
type issuer struct {
	*httptest.Server
	mu     sync.Mutex
	kid    string
	key    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	broken atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.rotate(t, "one")
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		if i.broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(i.jwks())
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/jwks.json"})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(t *testing.T, kid string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kid, i.key, i.ec = kid, key, ec
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (i *issuer) jwks() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	return map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": i.kid, "use": "sig", "alg": "RS256", "n": b64(i.key.N.Bytes()), "e": b64(big.NewInt(int64(i.key.E)).Bytes())},
		{"kty": "EC", "kid": i.kid + "-ec", "crv": "P-256", "x": b64(i.ec.X.FillBytes(make([]byte, 32))), "y": b64(i.ec.Y.FillBytes(make([]byte, 32)))},
	}}
}

// claims are those of a good token, with changes; a nil value takes one away.
func (i *issuer) claims(changes ...any) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "https://idp.test", "aud": "food-api", "sub": "alice", "plan": "gold", "permissions": []string{"place_orders"},
		"scope": "read write", "roles": []string{"cook"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"tenant": "acme", "realm": map[string]any{"roles": []string{"chef"}},
	}
	for n := 0; n+1 < len(changes); n += 2 {
		if changes[n+1] == nil {
			delete(c, changes[n].(string))
			continue
		}
		c[changes[n].(string)] = changes[n+1]
	}
	return c
}

// token is a good one, with changes of its claims.
func (i *issuer) token(t *testing.T, changes ...any) string {
	return i.sign(t, jwt.SigningMethodRS256, map[string]any{"kid": i.kid}, i.claims(changes...), i.key)
}

func (i *issuer) sign(t *testing.T, m jwt.SigningMethod, header map[string]any, claims jwt.Claims, key any) string {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	for name, v := range header {
		token.Header[name] = v
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handmade signs any header and payload with the issuer's own key.
func (i *issuer) handmade(t *testing.T, header, payload string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	sig, err := jwt.SigningMethodRS256.Sign(text, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func (i *issuer) payload(t *testing.T, changes ...any) string {
	b, err := json.Marshal(i.claims(changes...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// echoHeaders is a service that says which identity it saw, and counts.
type echoHeaders struct {
	reached atomic.Int64
	seen    atomic.Pointer[http.Header]
}

func (e *echoHeaders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.reached.Add(1)
	h := r.Header.Clone()
	e.seen.Store(&h)
	fmt.Fprintf(w, "user=%s plan=%s permissions=%s", r.Header.Get("x-sluice-user"), r.Header.Get("x-sluice-plan"), r.Header.Get("x-sluice-permissions"))
}

// decider is who decides on the routes of authPolicies that either could decide on.
type decider string

const (
	byAgent decider = "agent"
	byEnvoy decider = "native"
)

// eachPath runs a test through the agent and natively.
func eachPath(t *testing.T, run func(t *testing.T, by decider)) {
	for _, by := range []decider{byAgent, byEnvoy} {
		t.Run(string(by), func(t *testing.T) { run(t, by) })
	}
}

// settings are those of authenticate that choose the path.
func (p decider) settings() string {
	if p == byEnvoy {
		return "revocation: false, decide: native"
	}
	return "decide: agent"
}

// either is settings for the routes that only the agent can decide on.
func (p decider) either() string {
	if p == byEnvoy {
		return "revocation: false"
	}
	return "revocation: true"
}

// authPolicies are decided on by the agent.
func authPolicies(idp *issuer, service string) map[string]string {
	return authPoliciesBy(byAgent, idp, service)
}

func authPoliciesBy(by decider, idp *issuer, service string) map[string]string {
	return map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec:
  issuer: https://idp.test
  audiences: [food-api, other-api]
  jwks: {url: %s/jwks.json}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: discovered}
spec:
  issuer: %s
  audiences: [food-api]
  discovery: %s
  algorithms: [ES256]
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
  authenticate: {jwt: idp, overridable: true, %s}
  rules:
    - {name: known, match: /known/*, to: echo}
    - {name: permission, match: /permission, authorize: {permissions: [place_orders]}, to: echo}
    - {name: both, match: /both, authorize: {permissions: [place_orders, refund]}, to: echo}
    - {name: any, match: /any, authorize: {permissions: {anyOf: [refund, place_orders]}}, to: echo}
    - {name: scope, match: /scope, authorize: {scopes: [write]}, to: echo}
    - {name: role, match: /role, authorize: {roles: [cook]}, to: echo}
    - {name: claim, match: /claim, authorize: {claims: {tenant: acme, realm.roles: chef}}, to: echo}
    - {name: post, match: /post, authorize: {permissions: [place_orders], methods: [POST]}, to: echo}
    - {name: shadow, match: /shadow, authorize: {permissions: [refund], mode: shadow}, to: echo}
    - {name: cookie, match: /cookie, authenticate: {jwt: idp, from: {cookie: session}, %s}, to: echo}
    - {name: query, match: /query, authenticate: {jwt: idp, from: {query: token}, %s}, to: echo}
    - {name: header, match: /header, authenticate: {jwt: idp, from: {header: x-token}, %s}, to: echo}
    - {name: either, match: /either, authenticate: {jwt: [idp, discovered], %s}, to: echo}
    - {name: public, match: /public/*, authenticate: none, to: echo}
    - {name: fixed, match: /fixed, direct: {body: fixed}}
`, idp.URL, idp.URL, idp.URL, service, by.settings(), by.either(), by.either(), by.settings(), by.settings())}
}

func bearer(token string) []string { return []string{"authorization", "Bearer " + token} }

func TestAuth_CredentialAndRequirementDecideTheStatus(t *testing.T) {
	eachPath(t, credentialAndRequirementDecideTheStatus)
}

func credentialAndRequirementDecideTheStatus(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	good := idp.token(t)
	bare := idp.token(t, "permissions", nil, "scope", nil, "roles", nil, "tenant", nil, "realm", nil)
	expired, early := idp.token(t, "exp", time.Now().Add(-2*time.Minute).Unix()), idp.token(t, "nbf", time.Now().Add(2*time.Minute).Unix())
	es := idp.sign(t, jwt.SigningMethodES256, map[string]any{"kid": idp.kid + "-ec"}, idp.claims("iss", idp.URL), idp.ec)
	paths := []string{"/known/x", "/permission", "/both", "/any", "/scope", "/role", "/claim", "/post", "/shadow", "/either", "/public/x", "/fixed"}
	for _, c := range []struct {
		name    string
		headers []string
		want    string // a status for each path
	}{
		{"none", nil, "401 401 401 401 401 401 401 401 401 401 200 401"},
		{"valid", bearer(good), "200 200 403 200 200 200 200 403 200 200 200 200"},
		{"without permissions", bearer(bare), "200 403 403 403 403 403 403 403 200 200 200 200"},
		{"expired", bearer(expired), "401 401 401 401 401 401 401 401 401 401 200 401"},
		{"not yet", bearer(early), "401 401 401 401 401 401 401 401 401 401 200 401"},
		{"another issuer's", bearer(es), "401 401 401 401 401 401 401 401 401 200 200 401"},
		{"garbage", bearer("garbage"), "401 401 401 401 401 401 401 401 401 401 200 401"},
		{"basic", []string{"authorization", "Basic YTpi"}, "401 401 401 401 401 401 401 401 401 401 200 401"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, want := range strings.Fields(c.want) {
				status, body, headers := g.Get(paths[i], c.headers...)
				if fmt.Sprint(status) != want {
					t.Errorf("%s: %d, want %s: %s", paths[i], status, want, body)
				}
				if status >= 400 && headers.Get("content-type") != "application/problem+json" {
					t.Errorf("%s: %d as %q", paths[i], status, headers.Get("content-type"))
				}
				if status == 401 && !strings.HasPrefix(headers.Get("www-authenticate"), "Bearer ") {
					t.Errorf("%s: no challenge", paths[i])
				}
			}
		})
	}
	if status, body, _ := g.Do("POST", "/post", nil, bearer(good)...); status != 200 {
		t.Errorf("POST /post: %d %s", status, body)
	}
	if _, body, _ := g.Get("/permission", bearer(good)...); body != `user=alice plan=gold permissions=["place_orders"]` {
		t.Errorf("the service saw %q", body)
	}
	for _, c := range []struct {
		path, name, value string
		want              int
	}{
		{"/cookie", "cookie", "a=b; session=" + good, 200}, {"/cookie", "cookie", "session=" + good + "; session=" + good, 401},
		{"/cookie", "authorization", "Bearer " + good, 401}, {"/query?token=" + good, "x-a", "b", 200},
		{"/query?token=" + good + "&token=" + good, "x-a", "b", 401}, {"/query", "authorization", "Bearer " + good, 401},
		{"/header", "x-token", good, 200}, {"/header", "x-token", "Bearer " + good, 401},
	} {
		if status, body, _ := g.Get(c.path, c.name, c.value); status != c.want {
			t.Errorf("%.20s with %s: %d, want %d: %s", c.path, c.name, status, c.want, body)
		}
	}
}

// forged are tokens that no one may pass with, by what is wrong with them.
func forged(t *testing.T, idp *issuer) map[string]string {
	good, kid := idp.token(t), idp.kid
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(&idp.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(m jwt.SigningMethod, h map[string]any, key any) string {
		return idp.sign(t, m, h, idp.claims(), key)
	}
	rs := func(h map[string]any) string { return sign(jwt.SigningMethodRS256, h, idp.key) }
	head := func(h string) string { return idp.handmade(t, h, idp.payload(t)) }
	body := func(b string) string { return idp.handmade(t, `{"alg":"RS256","kid":"`+kid+`"}`, b) }
	out := map[string]string{
		"none":                          sign(jwt.SigningMethodNone, map[string]any{"kid": kid}, jwt.UnsafeAllowNoneSignatureType),
		"none, in capitals":             b64([]byte(`{"alg":"NONE","kid":"`+kid+`"}`)) + "." + parts[1] + ".",
		"none, mixed":                   b64([]byte(`{"alg":"nOnE"}`)) + "." + parts[1] + ".",
		"no algorithm":                  head(`{"kid":"` + kid + `"}`),
		"algorithm of another type":     head(`{"alg":["RS256"],"kid":"` + kid + `"}`),
		"hmac, public key as PEM":       sign(jwt.SigningMethodHS256, map[string]any{"kid": kid}, text),
		"hmac, public key as DER":       sign(jwt.SigningMethodHS256, map[string]any{"kid": kid}, public),
		"hmac, modulus":                 sign(jwt.SigningMethodHS512, map[string]any{"kid": kid}, idp.key.N.Bytes()),
		"hmac, empty":                   sign(jwt.SigningMethodHS256, map[string]any{"kid": kid}, []byte("")),
		"another's key":                 sign(jwt.SigningMethodRS256, map[string]any{"kid": kid}, other),
		"another algorithm of the key":  sign(jwt.SigningMethodRS512, map[string]any{"kid": kid}, idp.key),
		"PSS with a key for PKCS1":      sign(jwt.SigningMethodPS256, map[string]any{"kid": kid}, idp.key),
		"EC with the RSA key's id":      sign(jwt.SigningMethodES256, map[string]any{"kid": kid}, idp.ec),
		"RSA with the EC key's id":      rs(map[string]any{"kid": kid + "-ec"}),
		"unknown key":                   rs(map[string]any{"kid": "two"}),
		"no key named":                  rs(nil),
		"empty key":                     rs(map[string]any{"kid": ""}),
		"key by number":                 rs(map[string]any{"kid": 1}),
		"key is null":                   rs(map[string]any{"kid": nil}),
		"key is a list":                 rs(map[string]any{"kid": []string{kid}}),
		"key is a path":                 rs(map[string]any{"kid": "../../../../dev/null"}),
		"key is SQL":                    rs(map[string]any{"kid": "x' UNION SELECT 'a"}),
		"key with a zero byte":          rs(map[string]any{"kid": kid + "\x00"}),
		"key in capitals":               rs(map[string]any{"kid": strings.ToUpper(kid)}),
		"key too long":                  rs(map[string]any{"kid": strings.Repeat("k", 129)}),
		"jku":                           rs(map[string]any{"kid": kid, "jku": idp.URL + "/jwks.json"}),
		"jwk":                           rs(map[string]any{"kid": kid, "jwk": map[string]any{"kty": "RSA"}}),
		"x5u":                           rs(map[string]any{"kid": kid, "x5u": idp.URL}),
		"x5c":                           rs(map[string]any{"kid": kid, "x5c": []string{"MII"}}),
		"crit":                          rs(map[string]any{"kid": kid, "crit": []string{"exp"}}),
		"zip":                           rs(map[string]any{"kid": kid, "zip": "DEF"}),
		"b64":                           rs(map[string]any{"kid": kid, "b64": false}),
		"an id token's type":            rs(map[string]any{"kid": kid, "typ": "logout+jwt"}),
		"two algorithms":                head(`{"alg":"none","alg":"RS256","kid":"` + kid + `"}`),
		"header is a list":              head(`["RS256"]`),
		"header is null":                head(`null`),
		"two subjects":                  body(strings.Replace(idp.payload(t), `{`, `{"sub":"admin",`, 1)),
		"two issuers":                   body(strings.Replace(idp.payload(t), `{`, `{"iss":"https://idp.test",`, 1)),
		"more after the payload":        body(idp.payload(t) + `{}`),
		"payload is a list":             body(`[]`),
		"payload nested deep":           body(`{"iss":"https://idp.test","a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`),
		"payload changed":               parts[0] + "." + b64([]byte(idp.payload(t, "sub", "admin"))) + "." + parts[2],
		"signature cut":                 good[:len(good)-8],
		"signature empty":               parts[0] + "." + parts[1] + ".",
		"signature padded":              good + "==",
		"signature's last bits changed": good[:len(good)-1] + next(good[len(good)-1]),
		"two parts":                     parts[0] + "." + parts[1],
		"five parts":                    good + ".a.b",
		"standard base64":               base64.StdEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + parts[1] + "." + parts[2],
		"a space inside":                parts[0] + ". " + parts[1] + "." + parts[2],
		"another issuer":                idp.token(t, "iss", "https://evil.test"),
		"issuer with a slash":           idp.token(t, "iss", "https://idp.test/"),
		"issuer in capitals":            idp.token(t, "iss", "HTTPS://IDP.TEST"),
		"no issuer":                     idp.token(t, "iss", nil),
		"issuer is a list":              idp.token(t, "iss", []string{"https://idp.test"}),
		"another audience":              idp.token(t, "aud", "bank-api"),
		"part of an audience":           idp.token(t, "aud", "food"),
		"no audience":                   idp.token(t, "aud", nil),
		"audience by number":            idp.token(t, "aud", 7),
		"no expiry":                     idp.token(t, "exp", nil),
		"expiry as text":                idp.token(t, "exp", "9999999999"),
		"expiry zero":                   idp.token(t, "exp", 0),
		"expired just beyond the skew":  idp.token(t, "exp", time.Now().Add(-70*time.Second).Unix()),
		"not before, later":             idp.token(t, "nbf", time.Now().Add(90*time.Second).Unix()),
		"made in the future":            idp.token(t, "iat", time.Now().Add(time.Hour).Unix()),
		"nobody":                        idp.token(t, "sub", nil),
		"an empty user":                 idp.token(t, "sub", ""),
		"a user that is an object":      idp.token(t, "sub", map[string]any{"a": 1}),
		"a user too long":               idp.token(t, "sub", strings.Repeat("u", 300)),
		"9 KB":                          idp.token(t, "pad", strings.Repeat("x", 9<<10)),
		"two tokens in one header":      good + "," + good,
		"two tokens, Bearer":            good + ", Bearer " + good,
	}
	return out
}

// next is another character whose bits differ from c's in the last place only.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestAuth_NobodyPassesWithAForgedOrBrokenToken(t *testing.T) {
	eachPath(t, nobodyPassesWithAForgedOrBrokenToken)
}

func nobodyPassesWithAForgedOrBrokenToken(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	all := forged(t, idp)
	if len(all) < 60 {
		t.Errorf("only %d forged tokens", len(all))
	}
	if status, body, _ := g.Get("/known/x", bearer(idp.token(t))...); status != 200 {
		t.Fatalf("a good token: %d %s", status, body)
	}
	service.reached.Store(0)
	for name, token := range all {
		for _, path := range []string{"/known/x", "/permission"} {
			if status, body, _ := g.Get(path, bearer(token)...); status != 401 {
				t.Errorf("%s on %s: %d %s", name, path, status, body)
			}
		}
	}
	good := idp.token(t)
	for name, headers := range map[string]string{
		"two headers":             "Authorization: Bearer " + good + "\r\nAuthorization: Bearer " + good + "\r\n",
		"two headers, one forged": "Authorization: Bearer x\r\nAuthorization: Bearer " + good + "\r\n",
		"two headers, one basic":  "Authorization: Basic YTpi\r\nauthorization: Bearer " + good + "\r\n",
		"no scheme":               "Authorization: " + good + "\r\n",
		"an empty header":         "Authorization:\r\n",
		"scheme only":             "Authorization: Bearer \r\n",
		"1 MB":                    "Authorization: Bearer " + strings.Repeat("a", 1<<20) + "\r\n",
		"folded":                  "Authorization: Bearer\r\n " + good + "x\r\n",
		"proxy":                   "Proxy-Authorization: Bearer " + good + "\r\n",
	} {
		if status := rawStatus(t, g, "GET /known/x HTTP/1.1\r\nHost: a\r\n"+headers+"Connection: close\r\n\r\n"); status < 400 || status >= 500 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if n := service.reached.Load(); n != 0 {
		t.Errorf("the service was reached %d times", n)
	}
}

// rawStatus sends bytes as they are and gives the status of the answer, 400 when there is none.
func rawStatus(t *testing.T, g *gateway.Gateway, request string) int {
	t.Helper()
	if resp := rawAnswer(t, g, request); resp != nil {
		return resp.StatusCode
	}
	return http.StatusBadRequest
}

// rawAnswer sends bytes as they are and gives the head of the answer, nil when there is none.
func rawAnswer(t *testing.T, g *gateway.Gateway, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(gateway.Patience))
	_, _ = conn.Write([]byte(request)) // what is refused halfway may not be taken in whole
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	return resp // its body is not read: closing it would wait for one that an answer to HEAD does not have
}

// secretSpellings are ways to write a path that a service might take for /known/secret.
func secretSpellings() []string {
	out := []string{}
	for _, slash := range []string{"/", "//", "///", "/./", "/x/../", "/%2e/", "/x/%2e%2e/", "/%2E/", "/.//", "%2f", "%2F", "%5c", "%5C", "\\", "/;/", "/;a=b/", "/%3b/", "/%20/../", "/%00/../"} {
		for _, form := range []string{"known%ssecret", "%sknown/secret", "known/secret%s", "known%ssecret?x=/public/y", "known%ssecret#/public", "public/..%sknown/secret", "public/%%2e%%2e%sknown/secret"} {
			out = append(out, "/"+fmt.Sprintf(form, slash))
		}
	}
	for _, p := range []string{"/Known/secret", "/KNOWN/secret", "/%6bnown/secret", "/k%6Eown/secret", "/known%c0%afsecret", "/known/secret%00", "/known/secret/..;/", "http://a/known/secret", "//a/known/secret", "/known/secret;jsessionid=1", "/public/../known/secret", "/public%2f..%2fknown/secret", "/public/..%2fknown/secret", "/public\\..\\known\\secret", "*", "known/secret"} {
		out = append(out, p)
	}
	return out
}

func TestAuth_NoSpellingOfAPathReachesTheServiceUnknown(t *testing.T) {
	eachPath(t, noSpellingOfAPathReachesTheServiceUnknown)
}

func noSpellingOfAPathReachesTheServiceUnknown(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	policies := strings.Replace(authPoliciesBy(by, idp, gateway.Backend(t, service))["policy.yaml"],
		"    - {name: public, match: /public/*, authenticate: none, to: echo}\n",
		"    - {name: public, match: /public/*, authenticate: none, direct: {body: public}}\n", 1)
	g := gateway.Start(t, map[string]string{"policy.yaml": policies}, gateway.WithAgent(&gateway.Agent{}))
	all := secretSpellings()
	if len(all) < 100 {
		t.Errorf("only %d spellings", len(all))
	}
	for _, path := range all {
		for _, method := range []string{"GET", "POST"} {
			rawStatus(t, g, method+" "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if service.reached.Swap(0) != 0 {
				t.Errorf("%s %s reached the service without identity", method, path)
			}
		}
	}
}

func TestAuth_IdentityHeadersOfClientsNeverReachTheService(t *testing.T) {
	eachPath(t, identityHeadersOfClientsNeverReachTheService)
}

func identityHeadersOfClientsNeverReachTheService(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	bare := idp.token(t, "plan", nil, "permissions", nil)
	for _, name := range []string{"x-sluice-user", "X-Sluice-User", "X-SLUICE-USER", "x-sluice-plan", "x-sluice-permissions", "x-sluice-scopes", "x-sluice-roles",
		"x-sluice-issuer", "x-sluice-anything", "x_sluice_user", "x-sluice_user", "X_SLUICE_USER"} {
		for _, path := range []string{"/public/x", "/known/x"} {
			for _, more := range []string{"", "Connection: " + name + "\r\n"} {
				service.seen.Store(nil)
				rawStatus(t, g, "GET "+path+" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+bare+"\r\n"+name+": forged\r\n"+name+": forged2\r\n"+more+"\r\n")
				seen := service.seen.Load()
				if seen == nil {
					continue // refused: fine
				}
				for header, values := range *seen {
					if strings.Contains(strings.Join(values, ","), "forged") {
						t.Errorf("%s on %s reached the service as %s: %s", name, path, header, values)
					}
				}
				if got := seen.Get("x-sluice-user"); path == "/known/x" && got != "alice" {
					t.Errorf("with %s: the service saw user %q", name, got)
				}
			}
		}
	}
}

func TestAuth_ADeadAgentIsNoWayRoundAndAStartedOneServes(t *testing.T) {
	idp, service, a := newIssuer(t), &echoHeaders{}, &gateway.Agent{}
	g := gateway.Start(t, authPolicies(idp, gateway.Backend(t, service)), gateway.WithAgent(a))
	good := idp.token(t)
	if status, body, _ := g.Get("/known/x", bearer(good)...); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for round := range 3 {
		a.Stop()
		service.reached.Store(0)
		for _, headers := range [][]string{nil, bearer(good), bearer("x")} {
			if status, body, h := g.Get("/known/x", headers...); status != 503 || h.Get("content-type") != "application/problem+json" {
				t.Errorf("round %d, no agent: %d %s %s", round, status, h.Get("content-type"), body)
			}
		}
		if n := service.reached.Load(); n != 0 {
			t.Errorf("round %d: the service was reached %d times", round, n)
		}
		if status, _, _ := g.Get("/public/x"); status != 200 {
			t.Errorf("round %d: what needs no agent answers %d", round, status)
		}
		a.Start()
		gateway.Eventually(t, "a good token passes again", func() bool { status, _, _ := g.Get("/known/x", bearer(good)...); return status == 200 })
		if status, _, _ := g.Get("/known/x"); status != 401 {
			t.Errorf("round %d, no token: %d", round, status)
		}
	}
}

func TestAuth_GoesOnWithoutIssuerAndControlPlane(t *testing.T) {
	eachPath(t, goesOnWithoutIssuerAndControlPlane)
}

func goesOnWithoutIssuerAndControlPlane(t *testing.T, by decider) {
	idp, service, a := newIssuer(t), &echoHeaders{}, &gateway.Agent{}
	g := gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(a))
	good := idp.token(t)
	check := func(when string) {
		t.Helper()
		gateway.Eventually(t, when+": a good token passes", func() bool { status, _, _ := g.Get("/permission", bearer(good)...); return status == 200 })
		if status, _, _ := g.Get("/permission", bearer(good[:len(good)-9])...); status != 401 {
			t.Errorf("%s, a cut token: %d", when, status)
		}
		if status, _, _ := g.Get("/both", bearer(good)...); status != 403 {
			t.Errorf("%s, without the permission: %d", when, status)
		}
	}
	check("at first")
	idp.broken.Store(true)
	check("the issuer answers 500")
	idp.Close()
	check("the issuer is down")
	g.StopXDS()
	a.Stop()
	a.Start()
	check("the control plane is down, the agent restarted")
}

func TestAuth_ARotatedKeyTouchesNoRoute(t *testing.T) { eachPath(t, aRotatedKeyTouchesNoRoute) }

func aRotatedKeyTouchesNoRoute(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, authPoliciesBy(by, idp, gateway.Backend(t, service)), gateway.WithAgent(&gateway.Agent{}))
	old := idp.token(t)
	if status, body, _ := g.Get("/known/x", bearer(old)...); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	table := g.Controller.Serving().Tables["edge"]
	idp.rotate(t, "two")
	fresh := idp.token(t)
	gateway.Eventually(t, "the new key is known", func() bool { status, _, _ := g.Get("/known/x", bearer(fresh)...); return status == 200 })
	if status, _, _ := g.Get("/known/x", bearer(old)...); status != 401 {
		t.Errorf("a token of the key that is gone, which had passed before: %d", status)
	}
	if now := g.Controller.Serving().Tables["edge"]; now != table {
		t.Errorf("the routing table became %s", now)
	}
}

// Some features give a route several forms in Envoy: each must ask the agent.
func TestAuth_HoldsBesideEveryOtherFeature(t *testing.T) { eachPath(t, holdsBesideEveryOtherFeature) }

func holdsBesideEveryOtherFeature(t *testing.T, by decider) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: $PORT}], authenticate: {jwt: idp, %s}}
---
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: https://idp.test, audiences: [food-api], jwks: {url: %s/jwks.json}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: ["%s"], timeout: 2s, retry: {on: [connectFailure, 5xx], retries: 1}}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: api}
spec:
  rules:
    - {name: socket, match: /socket, upgrade: {websocket: true}, to: echo}
    - {name: cors, match: /cors, cors: {origins: ["https://a.example"]}, to: echo}
    - {name: rewrite, match: /rewrite/*, rewrite: {path: /other}, to: echo}
    - {name: redirect, match: /redirect, redirect: {path: /elsewhere}}
    - {name: mirror, match: /mirror, mirror: {service: echo}, to: echo}
    - {name: header, match: {path: /header, headers: {x-canary: "1"}}, to: echo}
    - {name: plain, match: /header, to: echo}
`, by.settings(), idp.URL, gateway.Backend(t, service))}, gateway.WithAgent(&gateway.Agent{}))
	for _, path := range []string{"/socket", "/cors", "/rewrite/x", "/redirect", "/mirror", "/header"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
			for _, more := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
				"Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n", "x-canary: 1\r\n"} {
				status := rawStatus(t, g, method+" "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"+more+"\r\n")
				if reached := service.reached.Swap(0); reached != 0 || status < 400 && method != "OPTIONS" {
					t.Errorf("%s %s with %q: %d, the service was reached %d times", method, path, more, status, reached)
				}
			}
		}
	}
	for path, want := range map[string]int{"/socket": 200, "/cors": 200, "/rewrite/x": 200, "/redirect": 302, "/mirror": 200, "/header": 200} {
		if status, body, _ := g.Get(path, bearer(idp.token(t))...); status != want {
			t.Errorf("%s with a good token: %d %s", path, status, body)
		}
	}
}
