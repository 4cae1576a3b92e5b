package integration

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// provider runs the example's identity provider, and gives its URL.
func provider(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "food-delivery")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/food-delivery").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program, "-base", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	found := ""
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		if name, address, _ := strings.Cut(lines.Text(), " "); name == "idp-1" {
			found = strings.TrimSpace(address)
		}
	}
	if found == "" {
		t.Fatal("the example named no identity provider")
	}
	return found
}

// browser keeps cookies as a browser on this host does, and follows no redirect by itself.
type browser struct {
	t       *testing.T
	cookies map[string]string
}

func (b *browser) do(method, target, form string, headers ...string) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("accept", "text/html,*/*")
	if form != "" {
		r.Header.Set("content-type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 || c.Value == "deleted" {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return resp
}

func TestLogin_ABrowserLogsInAndTheServiceSeesWho(t *testing.T) {
	idp, service := provider(t), &echoHeaders{}
	secret := written(t, "food-web", "an-example-is-no-secret\n")
	g := gateway.Start(t, map[string]string{"policy.yaml": fmt.Sprintf(`
apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: "https://idp.food.example", audiences: [food-api], jwks: {url: %[1]s/jwks.json}}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: idp}
spec: {endpoints: ["%[2]s"]}
---
apiVersion: sluice/v1
kind: Service
metadata: {name: echo}
spec: {endpoints: ["%[3]s"]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: web}
spec:
  login:
    service: idp
    authorizationEndpoint: %[1]s/authorize
    tokenEndpoint: %[1]s/oauth2/token
    client: food-web
    secret: {file: %[4]s}
    url: http://127.0.0.1:$PORT
  authenticate: {jwt: idp, overridable: true}
  rules:
    - {name: shop, match: /shop/*, to: echo}
    - {name: order, match: /order, authorize: {permissions: [place_orders]}, to: echo}
    - {name: open, match: /open, login: off, authenticate: none, to: echo}
`, idp, strings.TrimPrefix(idp, "http://"), gateway.Backend(t, service), secret)}, gateway.WithAgent(&gateway.Agent{}))

	login := func(user string) *browser {
		b := &browser{t, map[string]string{}}
		var resp *http.Response
		gateway.Eventually(t, "the secrets are there", func() bool {
			b.cookies = map[string]string{}
			resp = b.do("GET", g.URL+"/shop/pizza?size=2", "")
			return resp.StatusCode != http.StatusServiceUnavailable
		})
		at, err := resp.Location()
		if err != nil || resp.StatusCode != http.StatusFound || !strings.HasPrefix(at.String(), idp+"/authorize?") {
			t.Fatalf("%d to %v (%v)", resp.StatusCode, at, err)
		}
		if status := b.do("GET", at.String(), "").StatusCode; status != 200 {
			t.Fatalf("the provider's page: %d", status)
		}
		resp = b.do("POST", idp+"/authorize", at.RawQuery+"&user="+user)
		back, err := resp.Location()
		if err != nil || !strings.HasPrefix(back.String(), g.URL+"/oauth2/callback?code=") {
			t.Fatalf("%d to %v (%v)", resp.StatusCode, back, err)
		}
		resp = b.do("GET", back.String(), "")
		if at := resp.Header.Get("location"); resp.StatusCode != http.StatusFound || at != g.URL+"/shop/pizza?size=2" {
			t.Fatalf("back from the provider: %d to %q", resp.StatusCode, at)
		}
		if again := (&browser{t, map[string]string{}}).do("GET", back.String(), ""); again.StatusCode != http.StatusUnauthorized {
			t.Errorf("another browser came back with the same code: %d", again.StatusCode)
		}
		return b
	}
	alice, bob := login("alice"), login("bob")
	for _, c := range []struct {
		name   string
		who    *browser
		path   string
		status int
		user   string
	}{
		{"alice looks", alice, "/shop/pizza", 200, "alice"}, {"alice orders", alice, "/order", 200, "alice"},
		{"bob looks", bob, "/shop/pizza", 200, "bob"}, {"bob orders", bob, "/order", 403, ""},
		{"anybody", &browser{t, map[string]string{}}, "/open", 200, ""},
	} {
		service.seen.Store(nil)
		if status := c.who.do("GET", g.URL+c.path, "", "x-sluice-user", "mallory").StatusCode; status != c.status {
			t.Errorf("%s: %d, want %d", c.name, status, c.status)
		}
		if seen := service.seen.Load(); seen != nil && seen.Get("x-sluice-user") != c.user {
			t.Errorf("%s: the service saw %q", c.name, seen.Get("x-sluice-user"))
		}
	}

	// Programs are told 401 instead of a page, and may bring a token of their own.
	if status, _, h := g.Get("/shop/pizza", "accept", "application/json"); status != 401 || h.Get("content-type") != "application/problem+json" {
		t.Errorf("a program without a token: %d as %q", status, h.Get("content-type"))
	}
	token := post(t, idp+"/token?user=alice")
	if status, _, _ := g.Get("/order", bearer(token)...); status != 200 {
		t.Errorf("a program with a token: %d", status)
	}
	if status, _, _ := g.Get("/order", bearer("forged")...); status != 401 {
		t.Errorf("a program with a forged token: %d", status)
	}

	// A cookie that was changed, or taken from another, is none.
	for name := range alice.cookies {
		forged := &browser{t, map[string]string{}}
		for n, v := range alice.cookies {
			forged.cookies[n] = v
		}
		if forged.cookies[name] = bob.cookies[name]; forged.cookies[name] == alice.cookies[name] {
			continue
		}
		if regexp.MustCompile(`^(OauthHMAC|BearerToken|OauthExpires)`).MatchString(name) {
			if status := forged.do("GET", g.URL+"/order", "").StatusCode; status != http.StatusFound {
				t.Errorf("alice's cookies with bob's %s: %d", name, status)
			}
		}
	}
	alice.do("GET", g.URL+"/oauth2/sign-out", "")
	if status := alice.do("GET", g.URL+"/order", "").StatusCode; status != http.StatusFound {
		t.Errorf("after signing out: %d", status)
	}
}

func post(t *testing.T, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(u.String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan()
	return lines.Text()
}
