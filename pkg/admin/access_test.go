package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
)

// guarded is a site with tokens and an audit log.
type guarded struct {
	*site
	tokens map[string]string
	audit  string
}

func newGuarded(t testing.TB, change ...func(*admin.Config)) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{tokens: map[string]string{}, audit: filepath.Join(dir, "audit")}
	file := filepath.Join(dir, "tokens.json")
	for name, roles := range map[string]access.Roles{
		"read": {access.Read}, "apply": {access.Apply}, "secrets": {access.Secrets}, "both": {access.Apply, access.Secrets}, "expired": {access.Apply},
	} {
		token, digest := access.NewToken()
		entry := access.Token{Name: name, Roles: roles, SHA256: digest, Created: time.Now()}
		if name == "expired" {
			entry.Expires = time.Now()
		}
		if err := access.EditTokens(file, func(list []access.Token) ([]access.Token, error) { return append(list, entry), nil }); err != nil {
			t.Fatal(err)
		}
		g.tokens[name] = token
	}
	g.tokens["wrong"], _ = access.NewToken()
	g.tokens["short"] = g.tokens["apply"][:20]
	list, err := access.OpenTokens(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	log, err := auditlog.Open(auditlog.Config{Path: g.audit, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // some are broken on purpose
	own := func(c *admin.Config) { c.Access, c.Audit = access.New(access.Config{Tokens: list}), log }
	g.site = newSite(t, append([]func(*admin.Config){own}, change...)...)
	return g
}

// as is a client with a token.
func (g *guarded) as(t testing.TB, who string) *admin.Client {
	t.Helper()
	client, err := admin.Dial(admin.ClientConfig{Server: g.http.URL, Token: g.tokens[who]})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ask sends a request with a token, "" for none, and what else is said of it.
func (g *guarded) ask(t testing.TB, method, path, who, body string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, g.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("content-type", "application/json")
	if who != "" {
		r.Header.Set("authorization", "Bearer "+g.tokens[who])
	}
	for _, c := range change {
		c(r)
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// lines are what the audit log has, without what differs from run to run.
func (g *guarded) lines(t testing.TB) []auditlog.Entry {
	t.Helper()
	text, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auditlog.Verify([]string{g.audit}, auditlog.Known{}); err != nil {
		t.Error(err)
	}
	var out []auditlog.Entry
	for line := range bytes.Lines(text) {
		var e auditlog.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.From, "127.0.0.1:") {
			t.Errorf("from %q", e.From)
		}
		e.From, e.Time, e.Prev = "", time.Time{}, ""
		out = append(out, e)
	}
	return out
}

// operationsByRole is the whole API, and the least role of each part.
var operationsByRole = []struct {
	method, path string
	role         access.Role
}{
	{"GET", "/livez", access.Open}, {"GET", "/readyz", access.Open}, {"GET", "/readyz?verbose", access.Read},
	{"GET", "/", access.Read}, {"GET", "/style.css", access.Read}, {"GET", "/openapi.json", access.Read}, {"GET", "/metrics", access.Read},
	{"GET", "/v1/objects", access.Read}, {"HEAD", "/v1/objects", access.Read}, {"GET", "/v1/revisions", access.Read}, {"GET", "/v1/envoys", access.Read},
	{"GET", "/v1/why/Route/x", access.Read}, {"GET", "/v1/catalog", access.Read}, {"GET", "/v1/export", access.Read},
	{"POST", "/v1/plan", access.Read}, {"POST", "/v1/explain", access.Read},
	{"POST", "/v1/apply", access.Apply}, {"POST", "/v1/rollback", access.Apply}, {"POST", "/v1/import", access.Apply},
	{"POST", "/v1/catalog/release", access.Apply},
	{"GET", "/v1/keys", access.Secrets}, {"GET", "/v1/keys/x", access.Secrets}, {"POST", "/v1/keys", access.Secrets}, {"POST", "/v1/keys/rotate", access.Secrets},
	{"POST", "/v1/keys/disable", access.Secrets}, {"POST", "/v1/keys/enable", access.Secrets}, {"POST", "/v1/keys/delete", access.Secrets},
	{"GET", "/v1/revocations", access.Secrets}, {"POST", "/v1/revocations", access.Secrets}, {"POST", "/v1/revocations/undo", access.Secrets},
	{"GET", "/v1/none", access.Read}, {"DELETE", "/v1/objects", access.Read}, {"OPTIONS", "/v1/apply", access.Read}, {"GET", "/v1/apply", access.Read},
	{"GET", "//v1/objects", access.Read}, {"GET", "/v1/../v1/objects", access.Read}, {"POST", "//v1/apply", access.Apply},
}

func TestWhoMayDoWhat(t *testing.T) {
	g := newGuarded(t)
	for _, o := range operationsByRole {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			for _, c := range []struct {
				who   string
				may   []access.Role
				other int
			}{
				{"", nil, 401}, {"wrong", nil, 401}, {"short", nil, 401}, {"expired", nil, 401},
				{"read", []access.Role{access.Read}, 403}, {"secrets", []access.Role{access.Read, access.Secrets}, 403},
				{"apply", []access.Role{access.Read, access.Apply}, 403}, {"both", []access.Role{access.Read, access.Apply, access.Secrets}, 403},
			} {
				status, body := g.ask(t, o.method, o.path, c.who, `{"to":99}`)
				may := o.role == access.Open
				for _, role := range c.may {
					may = may || role == o.role
				}
				denied := status == 401 || status == 403 || status == 429
				if may == denied || denied && status != c.other && !(c.other == 401 && status == 429) {
					t.Errorf("%q: %d %s", c.who, status, body)
				}
				for _, token := range g.tokens {
					if strings.Contains(body, token) {
						t.Errorf("%q: a token is told", c.who)
					}
				}
			}
		})
	}
	text, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range g.tokens {
		if strings.Contains(string(text), token[4:]) {
			t.Errorf("the token %s stands in the audit log", name)
		}
	}
	if h, err := g.as(t, "read").History(context.Background(), 0); err != nil || len(h.Revisions) != 0 {
		t.Errorf("something was changed: %+v, %v", h, err)
	}
}

func TestMetricsForEverybody(t *testing.T) {
	g := newGuarded(t, func(c *admin.Config) { c.OpenMetrics = true })
	if status, _ := g.ask(t, "GET", "/metrics", "", ""); status != 200 {
		t.Errorf("metrics: %d", status)
	}
	if status, _ := g.ask(t, "GET", "/v1/objects", "", ""); status != 401 {
		t.Errorf("objects: %d", status)
	}
}

// TestRequestsOfWebPages: what a browser can be made to send gets nowhere, with or without a token or a trusted address.
func TestRequestsOfWebPages(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	change := `{"set":[],"message":"x"}`
	for _, c := range []struct {
		name         string
		method, path string
		body         string
		change       []func(*http.Request)
		want         int
	}{
		{"a form", "POST", "/v1/apply", "a=b", []func(*http.Request){set("content-type", "application/x-www-form-urlencoded")}, 415},
		{"a form with parts", "POST", "/v1/apply", "--x--", []func(*http.Request){set("content-type", "multipart/form-data; boundary=x")}, 415},
		{"JSON as text", "POST", "/v1/apply", change, []func(*http.Request){set("content-type", "text/plain")}, 415},
		{"JSON as text that says it is JSON", "POST", "/v1/apply", change, []func(*http.Request){set("content-type", "text/plain; application/json")}, 415},
		{"JSON as nothing", "POST", "/v1/apply", change, []func(*http.Request){set("content-type", "")}, 415},
		{"another origin", "POST", "/v1/apply", change, []func(*http.Request){set("origin", "https://evil.example")}, 403},
		{"no origin to speak of", "POST", "/v1/apply", change, []func(*http.Request){set("origin", "null")}, 403},
		{"our origin by another scheme", "GET", "/v1/objects", "", []func(*http.Request){func(r *http.Request) { r.Header.Set("origin", "https://"+r.Host) }}, 403},
		{"another site", "GET", "/v1/objects", "", []func(*http.Request){set("sec-fetch-site", "cross-site")}, 403},
		{"another host of our site", "GET", "/v1/objects", "", []func(*http.Request){set("sec-fetch-site", "same-site")}, 403},
		{"a preflight", "OPTIONS", "/v1/apply", "", []func(*http.Request){set("origin", "https://evil.example"), set("access-control-request-method", "POST")}, 403},
		{"a name that was bound to us", "GET", "/v1/objects", "", []func(*http.Request){host("evil.example:18080")}, 421},
		{"a name that was bound to us, and its origin", "POST", "/v1/apply", change, []func(*http.Request){host("evil.example"), set("origin", "http://evil.example"), set("sec-fetch-site", "same-origin")}, 421},
		{"such a name, what is open", "GET", "/livez", "", []func(*http.Request){host("evil.example")}, 421},
	} {
		t.Run(c.name, func(t *testing.T) {
			open, g := newSite(t), newGuarded(t)
			trusted := &guarded{site: open}
			if status, body := trusted.ask(t, c.method, c.path, "", c.body, c.change...); status != c.want {
				t.Errorf("by loopback: %d %s", status, body)
			}
			if status, body := g.ask(t, c.method, c.path, "apply", c.body, c.change...); status != c.want {
				t.Errorf("with a token: %d %s", status, body)
			}
			if status, body := g.ask(t, c.method, c.path, "", c.body, c.change...); status != c.want && status != 401 {
				t.Errorf("without one: %d %s", status, body)
			}
			for _, s := range []*site{open, g.site} {
				if history, err := s.store.History(context.Background(), 0); err != nil || len(history) != 0 {
					t.Errorf("something was changed: %+v, %v", history, err)
				}
			}
		})
	}
}

func TestNoAnswerLetsAnotherSiteRead(t *testing.T) {
	g := newGuarded(t)
	for _, who := range []string{"", "read"} {
		r, err := http.NewRequest("GET", g.http.URL+"/v1/objects", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("authorization", "Bearer "+g.tokens[who])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("%q: %s", who, name)
			}
		}
		if got := resp.Header.Get("www-authenticate"); (got != "") != (who == "") {
			t.Errorf("%q: www-authenticate %q", who, got)
		}
	}
}

func TestTheAPIDescribesWhoMay(t *testing.T) {
	text, err := json.Marshal(admin.OpenAPI("1"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths      map[string]map[string]struct{ Security []map[string][]string }
		Components struct{ SecuritySchemes map[string]map[string]string }
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, method string
		want         []map[string][]string
	}{
		{"/livez", "get", []map[string][]string{}},
		{"/metrics", "get", []map[string][]string{{"token": {"read"}}, {"certificate": {"read"}}}},
		{"/v1/plan", "post", []map[string][]string{{"token": {"read"}}, {"certificate": {"read"}}}},
		{"/v1/apply", "post", []map[string][]string{{"token": {"apply"}}, {"certificate": {"apply"}}}},
	} {
		if d := cmp.Diff(c.want, doc.Paths[c.path][c.method].Security); d != "" {
			t.Errorf("%s: %s", c.path, d)
		}
	}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			if o.Security == nil {
				t.Errorf("%s %s says nothing of who may", method, path)
			}
		}
	}
	if s := doc.Components.SecuritySchemes; s["token"]["scheme"] != "bearer" || s["certificate"]["type"] != "mutualTLS" {
		t.Errorf("%+v", s)
	}
}

func TestATokenIsNotSentInTheClear(t *testing.T) {
	token, _ := access.NewToken()
	for server, wants := range map[string]bool{
		"http://10.0.0.1:1": false, "sluice.example:1": false, "http://127.0.0.1.evil.example:1": false,
		"http://127.0.0.1:1": true, "localhost:1": true, "http://[::1]:1": true, "https://10.0.0.1:1": true, "unix:///x": true,
	} {
		if _, err := admin.Dial(admin.ClientConfig{Server: server, Token: token}); (err == nil) != wants {
			t.Errorf("%s: %v", server, err)
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s got a token", r.URL) }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer here.Close()
	client, err := admin.Dial(admin.ClientConfig{Server: here.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Envoys(context.Background()); err == nil || !strings.Contains(err.Error(), "is no sluice") {
		t.Errorf("got %v", err)
	}
}
