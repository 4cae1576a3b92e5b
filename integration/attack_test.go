package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/feature"
)

// moreSpellings are spellings of paths below /admin beside those of spellings: absolute forms, overlong UTF-8, full-width and
// other look-alikes, encodings within encodings, and what ends or splits a path somewhere.
func moreSpellings() []string {
	var out []string
	for _, dot := range []string{"%c0%ae", "%e0%80%ae", "%f0%80%80%ae", "%252e", "%25252e", "%u002e", "%uff0e", "%ef%bc%8e", ".%00", "%00.", ".%09", ".%20", ".;", "%2e%3b", "\xc0\xae", "%%32%65", "%2%65"} {
		out = append(out, "/public/"+dot+dot+"/admin/secret", "/public/"+dot+"."+"/admin", "/"+dot+"/admin/secret", "/public/."+dot+"%2fadmin")
	}
	for _, slash := range []string{"%c0%af", "%e0%80%af", "%c1%9c", "%252f", "%25252f", "%255c", "%u2215", "%u2216", "%ef%bc%8f", "%ef%bc%bc", "%e2%88%95", "\\/", "/\\", "%09/", "/%09", "%0a/", "%0d%0a/", "/%0d%0a", "\xc0\xaf", "%%32%66"} {
		out = append(out, "/public/.."+slash+"admin/secret", "/public"+slash+".."+slash+"admin", slash+"admin/secret", "/admin"+slash+"secret", "/public/"+slash+"../../admin/x")
	}
	for _, end := range []string{"%00", "%00.html", "%0a", "%0d%0a", "%20", "%09", "?", "??", "#", "#/public", "%23", "%3f", ";", ";.js", "%3b.css", ".json", "..", "/..", "/.", "/..;/", "~", "%7e", "*", "&", ":8080", "@public", "%", "%2", "%zz"} {
		out = append(out, "/admin"+end, "/admin/secret"+end, "/admin/"+end+"/secret", "/public/../admin"+end)
	}
	for _, p := range []string{"/admin/secret", "/public/../admin/secret", "//admin/secret", "/%61dmin/secret", "/public/%2e%2e/admin", "", "/admin;a=b/secret"} {
		for _, scheme := range []string{"http://", "https://", "HTTP://", "http:///", "http://user:password@", "ftp://"} {
			out = append(out, scheme+"$HOST"+p)
		}
	}
	return append(out, "admin/secret", "*", "//$HOST/admin/secret", "http:admin/secret", "$HOST/admin/secret", "/../../../../admin/secret", "/admin/../admin/../admin/secret", "/./././admin/secret", "////admin////secret")
}

// some are all of them under SLUICE_SOAK, else a tenth that the seed chooses, but never fewer than 300.
func some(t *testing.T, all []string) []string {
	n := max(Amount(len(all)), 300)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d of %d spellings, seed %d", n, len(all), seed)
	r := rand.New(rand.NewPCG(seed, 1))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// guard is a service that notes what reaches it.
type guard struct{ uri, user atomic.Pointer[string] }

func (s *guard) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	uri, user := r.RequestURI, r.Header.Get("x-sluice-user")
	s.uri.Store(&uri)
	s.user.Store(&user)
}

const attacked = `
---
apiVersion: sluice/v1
kind: Route
metadata: {name: plain}
spec:
  hosts: [plain.test]
  rules:
    - {name: admin, match: /admin/*, authenticate: {jwt: idp}, to: secret}
    - {name: rest, match: /*, to: wide}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: prefix}
spec:
  hosts: [prefix.test]
  rules:
    - {name: admin, match: /admin/*, authenticate: {jwt: idp}, rewrite: {path: /internal/*}, to: secret}
    - {name: rest, match: /*, rewrite: {path: /v1/*}, to: wide}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: template}
spec:
  hosts: [template.test]
  rules:
    - {name: admin, match: ["/admin/{id}", /admin, "/admin/{id}/*"], authenticate: {jwt: idp}, rewrite: {path: /internal}, to: secret}
    - {name: public, match: "/public/{id}", rewrite: {path: "/{id}"}, to: wide}
    - {name: rest, match: /*, to: wide}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: host}
spec:
  hosts: [host.test]
  rules:
    - {name: admin, match: /admin/*, authenticate: {jwt: idp}, authorize: {cel: "request.path.startsWith('/admin')"}, rewrite: {host: internal.test}, to: secret}
    - {name: rest, match: /*, rewrite: {host: wide.test}, to: wide}
`

func attackedPolicies(t *testing.T, idp *issuer, secret, wide http.Handler) map[string]string {
	return map[string]string{"policy.yaml": edge() + service("secret", gateway.Backend(t, secret), "") + service("wide", gateway.Backend(t, wide), "") +
		"apiVersion: sluice/v1\nkind: Issuer\nmetadata: {name: idp}\nspec: {issuer: \"https://idp.test\", audiences: [food-api], jwks: {url: " + idp.URL + "/jwks.json}}" + attacked}
}

// No spelling of a path reaches the protected service without an identity, and none reaches another service in a form
// that it would take for the protected path.
func TestAttack_NoSpellingReachesTheProtectedService(t *testing.T) {
	idp, secret, wide := newIssuer(t), &guard{}, &guard{}
	g := gateway.Start(t, attackedPolicies(t, idp, secret, wide), gateway.WithAgent(&gateway.Agent{}))
	credentials := []string{"", "Authorization: Bearer garbage\r\n", "Authorization: Bearer " + idp.token(t, "exp", time.Now().Add(-time.Hour).Unix()) + "\r\n", "X-Sluice-User: root\r\n"}
	for _, host := range []string{"plain.test", "prefix.test", "template.test", "host.test"} {
		t.Run(host, func(t *testing.T) {
			refused, passed := 0, 0
			for n, spelling := range some(t, append(spellings(), moreSpellings()...)) {
				target := strings.ReplaceAll(spelling, "$HOST", host)
				for range 3 { // a redirect leads to the plain spelling
					secret.uri.Store(nil)
					wide.uri.Store(nil)
					status, location := attack(t, g, target, host, credentials[n%len(credentials)])
					if uri := secret.uri.Load(); uri != nil {
						t.Errorf("%q reached the protected service as %s (%d)", target, *uri, status)
					}
					if uri := wide.uri.Load(); uri != nil {
						if passed++; host != "template.test" && protected(*uri) {
							t.Errorf("%q reached another service as %s", target, *uri)
						}
					} else {
						refused++
					}
					if target = location; target == "" {
						break
					}
				}
			}
			if refused < 100 || passed == 0 {
				t.Errorf("%d refused, %d passed: the test tests nothing", refused, passed)
			}
			secret.uri.Store(nil)
			if attack(t, g, "/admin/secret", host, "Authorization: Bearer "+idp.token(t)+"\r\n"); secret.uri.Load() == nil || *secret.user.Load() != "alice" {
				t.Error("with a good token the protected service is not reached")
			}
		})
	}
}

func protected(uri string) bool {
	m := means(uri)
	return m == "/admin" || strings.HasPrefix(m, "/admin/")
}

// attack sends one request as it is and gives the answer's status, 400 where there is none, and where it leads.
func attack(t *testing.T, g *gateway.Gateway, target, host, headers string) (status int, location string) {
	t.Helper()
	resp := rawAnswer(t, g, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n"+headers+"Connection: close\r\n\r\n")
	if resp == nil {
		return http.StatusBadRequest, ""
	}
	location = resp.Header.Get("location")
	if u, err := url.Parse(location); err == nil && u.Host != "" && u.Host != host {
		t.Errorf("%q leads to %s", target, location)
	}
	return resp.StatusCode, location
}

// spelled are ways to send a header that some server takes for the one of that name. %s is the value.
func spelled(name string) []string {
	under := strings.ReplaceAll(name, "-", "_")
	mixed := strings.ToUpper(name[:4]) + name[4:]
	out := []string{}
	for _, n := range []string{name, http.CanonicalHeaderKey(name), strings.ToUpper(name), mixed, under, strings.ToUpper(under), strings.Replace(name, "-", "_", 1),
		strings.Replace(name, "-", "\u2010", 1), strings.Replace(name, "-", "\x00-", 1), strings.Replace(name, "-", "", 1), name + "\x00", name + ";", "\"" + name + "\"", name + "%00"} {
		out = append(out, n+": %s\r\n", n+":%s\r\n", n+": %s\r\n"+n+": %[1]s\r\n", n+": %s\r\nConnection: "+n+"\r\n", n+": %s\r\nTE: trailers\r\n")
	}
	return append(out, " "+name+": %s\r\n", name+" : %s\r\n", name+"\t: %s\r\n", "x-a: b\r\n "+name+": %s\r\n", "x-a: b\n"+name+": %s\r\n", "x-a: b\r"+name+": %s\r\n",
		name+":\r\n %s\r\n", "x-a: b\r\n\t"+name+": %s\r\n", "Connection: "+name+", close\r\n"+name+": %s\r\n", "x-a: b\x00\r\n"+name+": %s\r\n", "Keep-Alive: "+name+"\r\n"+name+": %s\r\n")
}

// No header by which services see who is calling can be sent by a client, in whatever spelling and whoever it is.
func TestAttack_NoIdentityHeaderOfAClientReachesAService(t *testing.T) {
	idp, service := newIssuer(t), &echoHeaders{}
	g := gateway.Start(t, map[string]string{"policy.yaml": authPolicies(idp, gateway.Backend(t, service))["policy.yaml"] + `    - {name: native, match: /native, authenticate: none, authorize: {sources: [127.0.0.1]}, to: echo}
    - {name: tried, match: /tried, authorize: {cel: identity.claims.missing == 'x', mode: shadow}, to: echo}
`}, gateway.WithAgent(&gateway.Agent{}))
	full, bare := "Authorization: Bearer "+idp.token(t)+"\r\n", "Authorization: Bearer "+idp.token(t, "plan", nil, "permissions", nil, "scope", nil, "roles", nil)+"\r\n"
	passed, refused := 0, 0
	for name := range (&feature.Identity{}).Headers() {
		for _, form := range spelled(name) {
			for _, c := range []struct{ path, credential, user string }{
				{"/public/x", "", ""}, {"/public/x", full, ""}, {"/native", "", ""}, {"/known/x", full, "alice"}, {"/known/x", bare, "alice"}, {"/tried", bare, "alice"}, {"/known/x", "", "nobody"}, {"/permission", bare, "nobody"},
			} {
				service.seen.Store(nil)
				rawStatus(t, g, "GET "+c.path+" HTTP/1.1\r\nHost: a\r\n"+c.credential+fmt.Sprintf(form, "forged")+"\r\n")
				seen := service.seen.Load()
				if seen == nil {
					refused++
					continue
				}
				passed++
				if c.user == "nobody" || seen.Get("x-sluice-user") != c.user || identity(*seen, "forged") {
					t.Errorf("%q on %s reached the service as %v", form, c.path, *seen)
				}
			}
		}
	}
	if passed < 100 || refused < 100 {
		t.Errorf("%d passed, %d refused: the test tests nothing", passed, refused)
	}
}

// identity tells whether any header that a service might take for one of ours has this value.
func identity(h http.Header, value string) bool {
	for name, values := range h {
		plain := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if strings.HasPrefix(plain, "x-sluice") && strings.Contains(strings.Join(values, ","), value) {
			return true
		}
	}
	return false
}

// An HTTP/2 client sends headers in other bytes, and trailers.
func TestAttack_NoIdentityOfAnHTTP2ClientReachesAService(t *testing.T) {
	idp := newIssuer(t)
	var seen, trailer atomic.Pointer[http.Header]
	backend := gateway.Backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen.Store(&r.Header)
		trailer.Store(&r.Trailer)
	}))
	g := gateway.Start(t, authPolicies(idp, backend), gateway.WithAgent(&gateway.Agent{}))
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Timeout: gateway.Patience, Transport: &http.Transport{Protocols: protocols}}
	for name := range (&feature.Identity{}).Headers() {
		for _, c := range []struct{ path, user string }{{"/public/x", ""}, {"/known/x", "alice"}} {
			r, err := http.NewRequest(http.MethodPost, g.URL+c.path, io.MultiReader(strings.NewReader("body"))) // of unknown length, so that trailers can follow
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(name, "forged")
			r.Header.Set("authorization", "Bearer "+idp.token(t))
			r.Trailer = http.Header{http.CanonicalHeaderKey(name): {"forged"}}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
				t.Fatalf("%s: %s %d", c.path, resp.Proto, resp.StatusCode)
			}
			if identity(*seen.Load(), "forged") || identity(*trailer.Load(), "forged") || seen.Load().Get("x-sluice-user") != c.user {
				t.Errorf("%s on %s reached the service as %v, trailers %v", name, c.path, *seen.Load(), *trailer.Load())
			}
		}
	}
}
