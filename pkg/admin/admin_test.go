package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	jsonschema "github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/diff"
	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// fleet is a Publisher whose Envoys are as the test says.
type fleet struct {
	*xds.Server
	envoys []xds.EnvoyStatus
}

func (f *fleet) Publish(gateway string, s *snapshot.Snapshot)                  { f.Server.Publish(gateway, s) }
func (f *fleet) Wait(context.Context, string, string) (list []xds.EnvoyStatus) { return f.envoys }
func (f *fleet) Envoys() []xds.EnvoyStatus                                     { return f.envoys }

// site is a server on real parts, without Envoys unless the test adds some.
type site struct {
	*admin.Server
	controller *control.Controller
	fleet      *fleet
	store      store.Store
	http       *httptest.Server
	client     *admin.Client
}

func newSite(t testing.TB, change ...func(*admin.Config)) *site {
	t.Helper()
	s := &site{fleet: &fleet{Server: xds.New(xds.Config{})}, store: store.NewMemory(store.Options{})}
	log := slog.New(slog.DiscardHandler)
	key, err := vault.ParseKey([]byte(vault.NewKeyText()))
	if err != nil {
		t.Fatal(err)
	}
	safe := vault.New(s.store, key)
	s.controller = control.New(control.Config{Features: all.Features(), Store: s.store, StoreSecrets: safe, Publisher: s.fleet, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.controller.Run(ctx) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.controller.Collectors()...)
	c := admin.Config{
		Controller: s.controller, Store: s.store, Vault: safe, Envoys: s.fleet.Envoys, Features: all.Features(), Metrics: registry, Log: log, Version: "1.2.3",
	}
	for _, f := range change {
		f(&c)
	}
	s.Server = admin.New(c)
	s.http = httptest.NewServer(s.Server)
	t.Cleanup(func() {
		s.http.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if s.client, err = admin.NewClient(s.http.URL); err != nil {
		t.Fatal(err)
	}
	return s
}

const policies = `apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: 8080}]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: hello}
spec: {match: GET /hello, direct: {status: 200, body: hello}}
`

func objects(t testing.TB, text string) []policy.Object {
	t.Helper()
	var p policy.Problems
	list, _ := policy.Split("policies.yaml", text, "test", &p)
	if p.Failed() {
		t.Fatal(p.Render())
	}
	return list
}

func (s *site) apply(t testing.TB, text string) *admin.ApplyResult {
	t.Helper()
	result, err := s.client.Apply(context.Background(), admin.ApplyRequest{Request: control.Request{Set: objects(t, text), Source: "test", Who: "tester"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestAChangeFromPlanToRollback(t *testing.T) {
	s, ctx := newSite(t), context.Background()
	plan, err := s.client.Plan(ctx, control.Request{Set: objects(t, policies), Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Base != 0 || !plan.Changed || len(plan.Changes) != 2 || plan.Changes[0].Action != diff.Add || len(plan.Changes[0].Lines) == 0 || plan.Proof.State != control.Unproven {
		t.Errorf("plan %+v", plan)
	}
	if first := s.apply(t, policies); first.Revision.Number != 1 || !first.Changed || first.Delivery != admin.NotWaited || first.Revision.Who != "tester" {
		t.Errorf("first apply %+v", first)
	}
	if again := s.apply(t, policies); again.Changed || again.Revision.Number != 1 {
		t.Errorf("second apply %+v", again)
	}
	s.apply(t, strings.Replace(policies, "body: hello", "body: bye", 1))
	back, err := s.client.Rollback(ctx, admin.RollbackRequest{To: 1, WaitRequest: admin.WaitRequest{Wait: policy.Duration(time.Second)}})
	if err != nil || back.Revision.Number != 3 || back.Revision.RollbackOf != 1 || back.Delivery != admin.NoEnvoys {
		t.Errorf("rollback %+v, %v", back, err)
	}
	found, err := s.client.Objects(ctx, admin.ObjectFilter{Kind: "Route", Name: "hello", Revision: 2})
	if err != nil || len(found.Objects) != 1 || !strings.Contains(found.Objects[0].Text, "bye") {
		t.Errorf("revision 2 has %+v, %v", found, err)
	}
	h, err := s.client.History(ctx, 2)
	if err != nil || len(h.Revisions) != 2 || h.Revisions[0].Number != 3 || h.Serving != 3 {
		t.Errorf("history %+v, %v", h, err)
	}
	said, err := s.client.Explain(ctx, explain.Request{Method: "GET", URL: "http://x/hello"})
	if err != nil || said.Rule != "hello/hello" {
		t.Errorf("explain %+v, %v", said, err)
	}
	journey, err := s.client.Why(ctx, policy.Ref{Kind: "Route", Name: "hello"})
	if err != nil || journey.Serving != 3 {
		t.Errorf("why %+v, %v", journey, err)
	}
}

func TestExportAndImport(t *testing.T) {
	ctx := context.Background()
	from, to := newSite(t), newSite(t)
	from.apply(t, policies)
	to.apply(t, strings.Replace(policies, "body: hello", "body: other", 1))
	var export strings.Builder
	if err := from.client.Export(ctx, false, &export); err != nil {
		t.Fatal(err)
	}
	if _, err := to.client.Import(ctx, admin.ImportRequest{Export: export.String()}); codeOf(err) != admin.CodeNotEmpty {
		t.Errorf("import into a full store: %v", err)
	}
	if _, err := to.client.Import(ctx, admin.ImportRequest{Export: export.String()[:100], Replace: true}); codeOf(err) != admin.CodeBadRequest {
		t.Errorf("import of half an export: %v", err)
	}
	if _, err := to.client.Import(ctx, admin.ImportRequest{Export: export.String(), Replace: true}); err != nil {
		t.Fatal(err)
	}
	// Both had a revision 1; what is served must be that of the import.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		said, err := to.client.Explain(ctx, explain.Request{Method: "GET", URL: "/hello"})
		if err == nil && slices.ContainsFunc(said.Blocks, func(b explain.Block) bool { return strings.Contains(string(b.Config), `"hello"`) }) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("what was imported is not served")
}

func codeOf(err error) admin.Code {
	var e *admin.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestRefusals(t *testing.T) {
	s, ctx := newSite(t), context.Background()
	s.apply(t, policies)
	stale := uint64(0)
	for _, c := range []struct {
		name string
		ask  control.Request
		want admin.Code
	}{
		{"a dangling name", control.Request{Set: objects(t, strings.Replace(policies, "direct: {status: 200, body: hello}", "to: nobody", 1))}, admin.CodeProblems},
		{"another head", control.Request{Base: &stale}, admin.CodeConflict},
		{"an unknown object", control.Request{Delete: []policy.Ref{{Kind: "Route", Name: "none"}}}, admin.CodeNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.client.Apply(ctx, admin.ApplyRequest{Request: c.ask})
			if codeOf(err) != c.want {
				t.Errorf("apply: %v", err)
			}
			if _, err := s.client.Plan(ctx, c.ask); codeOf(err) != c.want {
				t.Errorf("plan: %v", err)
			}
		})
	}
	if _, err := s.client.Rollback(ctx, admin.RollbackRequest{To: 9}); codeOf(err) != admin.CodeNotFound {
		t.Errorf("rollback to a revision that never was: %v", err)
	}
	if _, err := s.client.Explain(ctx, explain.Request{Method: "GET", URL: "nonsense"}); codeOf(err) != admin.CodeBadRequest {
		t.Errorf("explain: %v", err)
	}
	if h, err := s.client.History(ctx, 0); err != nil || len(h.Revisions) != 1 {
		t.Errorf("something was stored: %+v, %v", h, err)
	}
}

func TestTooManyRemovals(t *testing.T) {
	s := newSite(t)
	many := policies
	for i := range 12 {
		many += fmt.Sprintf("---\napiVersion: sluice/v1\nkind: Route\nmetadata: {name: r%d}\nspec: {match: /r%d, direct: {}}\n", i, i)
	}
	s.apply(t, many)
	ask := control.Request{Set: objects(t, policies), Source: "test", Prune: true}
	if _, err := s.client.Apply(context.Background(), admin.ApplyRequest{Request: ask}); codeOf(err) != admin.CodeRemovals {
		t.Errorf("apply: %v", err)
	}
	plan, err := s.client.Plan(context.Background(), ask)
	if err != nil || plan.Removals == "" || len(plan.Changes) != 12 {
		t.Errorf("plan %+v, %v", plan, err)
	}
}

func TestReadOnlyRefusesOnlyChanges(t *testing.T) {
	s := newSite(t, func(c *admin.Config) { c.ReadOnly = "the folder is the truth" })
	ctx := context.Background()
	for name, call := range map[string]func() error{
		"apply":    func() error { _, err := s.client.Apply(ctx, admin.ApplyRequest{}); return err },
		"rollback": func() error { _, err := s.client.Rollback(ctx, admin.RollbackRequest{To: 1}); return err },
		"import":   func() error { _, err := s.client.Import(ctx, admin.ImportRequest{}); return err },
	} {
		if err := call(); codeOf(err) != admin.CodeReadOnly || err.Error() != "the folder is the truth" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.client.Plan(ctx, control.Request{Set: objects(t, policies)}); err != nil {
		t.Errorf("plan: %v", err)
	}
}

func TestDelivery(t *testing.T) {
	synced, refused, stale := xds.EnvoyStatus{Node: "a", State: xds.Synced}, xds.EnvoyStatus{Node: "b", State: xds.Refused}, xds.EnvoyStatus{Node: "c", State: xds.Stale}
	for _, c := range []struct {
		name   string
		envoys []xds.EnvoyStatus
		undo   bool
		want   admin.Delivery
		undone uint64
	}{
		{"none", nil, false, admin.NoEnvoys, 0},
		{"all", []xds.EnvoyStatus{synced, synced}, false, admin.Delivered, 0},
		{"one is slow", []xds.EnvoyStatus{stale, synced}, false, admin.Incomplete, 0},
		{"one refuses", []xds.EnvoyStatus{stale, refused, synced}, false, admin.NotTaken, 0},
		{"one refuses, and it is taken back", []xds.EnvoyStatus{refused}, true, admin.NotTaken, 3},
		{"one is slow, and it stays", []xds.EnvoyStatus{stale}, true, admin.Incomplete, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.apply(t, policies)
			s.fleet.envoys = c.envoys
			result, err := s.client.Apply(context.Background(), admin.ApplyRequest{
				Request:     control.Request{Set: objects(t, strings.Replace(policies, "body: hello", "body: bye", 1)), Source: "test"},
				WaitRequest: admin.WaitRequest{Wait: policy.Duration(time.Second), UndoOnRefusal: c.undo},
			})
			if err != nil {
				t.Fatal(err)
			}
			if result.Delivery != c.want || result.Undone != c.undone || result.NotUndone != "" {
				t.Errorf("got %s, undone %d %s", result.Delivery, result.Undone, result.NotUndone)
			}
		})
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := newSite(t, func(c *admin.Config) { c.Hosts = []string{"sluice.internal"} })
	for _, c := range []struct {
		name, host string
		header     http.Header
		want       int
	}{
		{"an address of loopback", "127.0.0.1:18080", nil, 200},
		{"another one", "127.9.9.9", nil, 200},
		{"IPv6", "[::1]:18080", nil, 200},
		{"localhost", "LOCALHOST:18080", nil, 200},
		{"a configured host", "sluice.internal", nil, 200},
		{"a name that leads here", "evil.example:18080", nil, 421},
		{"a name that looks like one", "localhost.evil.example", nil, 421},
		{"an address of elsewhere", "10.0.0.1:18080", nil, 421},
		{"no host", "", nil, 421},
		{"its own page", "localhost:18080", http.Header{"Origin": {"http://localhost:18080"}, "Sec-Fetch-Site": {"same-origin"}}, 200},
		{"a page of another port", "localhost:18080", http.Header{"Origin": {"http://localhost:3000"}}, 403},
		{"a foreign page", "localhost:18080", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"a page without origin", "localhost:18080", http.Header{"Origin": {"null"}}, 403},
		{"a foreign image", "localhost:18080", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := admin.Trusted(httptest.NewRequest("GET", "/v1/objects", nil))
			r.Host = c.host
			for name, values := range c.header {
				r.Header[name] = values
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		name, method, path, media, body string
		want                            int
	}{
		{"no such path", "GET", "/v2/apply", "", "", 404},
		{"another method", "GET", "/v1/apply", "", "", 405},
		{"another method to read", "DELETE", "/v1/objects", "", "", 405},
		{"a form", "POST", "/v1/apply", "application/x-www-form-urlencoded", "a=b", 415},
		{"no media type", "POST", "/v1/apply", "", "{}", 415},
		{"no body", "POST", "/v1/apply", "application/json", "", 400},
		{"no JSON", "POST", "/v1/apply", "application/json", "{", 400},
		{"an unknown field", "POST", "/v1/apply", "application/json", `{"sett":[]}`, 400},
		{"something after it", "POST", "/v1/apply", "application/json", `{}{}`, 400},
		{"another type", "POST", "/v1/apply", "application/json", `{"set":1}`, 400},
		{"a bad duration", "POST", "/v1/apply", "application/json", `{"wait":"-1s"}`, 400},
		{"no number", "GET", "/v1/revisions?limit=x", "", "", 400},
		{"a negative number", "GET", "/v1/objects?revision=-1", "", "", 400},
		{"neither true nor false", "GET", "/v1/export?headOnly=x", "", "", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := s.send(t, c.method, c.path, c.media, strings.NewReader(c.body))
			var p admin.Problem
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != c.want || p.Status != c.want || p.Detail == "" ||
				resp.Header.Get("content-type") != "application/problem+json" {
				t.Errorf("%d %+v %v", resp.StatusCode, p, err)
			}
		})
	}
}

func (s *site) send(t *testing.T, method, path, media string, body io.Reader) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, s.http.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("content-type", media)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestALargeRequestIsRefused(t *testing.T) {
	s := newSite(t)
	body := io.MultiReader(strings.NewReader(`{"message":"`), io.LimitReader(zeros{}, admin.MaxRequestBytes))
	if resp := s.send(t, "POST", "/v1/apply", "application/json", body); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", resp.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestHealthMetricsAndPage(t *testing.T) {
	s := newSite(t)
	s.fleet.envoys = []xds.EnvoyStatus{{Node: "<script>", Gateway: "edge", State: xds.Refused, Refusals: []xds.RefusalStatus{{Type: "route", Name: "r", Reason: "<b>bad</b>"}}}}
	s.apply(t, policies)
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/readyz?verbose": "[+] published: revision 1, unproven", "/metrics": "sluice_revision 1", "/": "edge",
		"/style.css": "color-scheme", "/openapi.json": `"openapi":"3.1.0"`,
	} {
		resp := s.send(t, "GET", path, "", nil)
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) || strings.Contains(string(body), "<b>bad") || strings.Contains(string(body), "<script>") {
			t.Errorf("%s: %d %s %v", path, resp.StatusCode, body, err)
		}
		if csp := resp.Header.Get("content-security-policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: content-security-policy %q", path, csp)
		}
	}
}

func TestNotReadyBeforeAnythingIsPublished(t *testing.T) {
	c := control.New(control.Config{Features: all.Features(), Store: store.NewMemory(store.Options{}), Publisher: &fleet{Server: xds.New(xds.Config{})}, Log: slog.New(slog.DiscardHandler)})
	s := newSite(t, func(config *admin.Config) { config.Controller = c })
	if resp := s.send(t, "GET", "/readyz?verbose", "", nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d", resp.StatusCode)
	}
	if _, err := s.client.Explain(context.Background(), explain.Request{Method: "GET", URL: "/"}); codeOf(err) != admin.CodeStarting {
		t.Errorf("explain: %v", err)
	}
	if resp := s.send(t, "GET", "/", "", nil); resp.StatusCode != 200 {
		t.Errorf("page: %d", resp.StatusCode)
	}
}

// TestAnswersAreAsDescribed holds what every operation really answers against the OpenAPI document.
func TestAnswersAreAsDescribed(t *testing.T) {
	s := newSite(t)
	s.apply(t, policies)
	s.fleet.envoys = []xds.EnvoyStatus{{Node: "a", Gateway: "edge", State: xds.Synced, Types: map[string]xds.TypeStatus{"route": {Sent: 1}}}}
	doc := description(t, s)
	var export strings.Builder
	if err := s.client.Export(context.Background(), true, &export); err != nil {
		t.Fatal(err)
	}
	body := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	for _, c := range []struct{ method, path, template, body string }{
		{"POST", "/v1/plan", "", body(control.Request{Set: objects(t, strings.Replace(policies, "hello}", "bye}", 1)), Source: "test"})},
		{"POST", "/v1/apply", "", body(map[string]any{"set": objects(t, strings.Replace(policies, "hello}", "bye}", 1)), "source": "test", "wait": "1s"})},
		{"POST", "/v1/rollback", "", `{"to":1,"wait":"1s"}`},
		{"POST", "/v1/explain", "", `{"method":"POST","url":"http://x/hello"}`},
		{"POST", "/v1/explain", "", `{"method":"GET","url":"http://x/hello","headers":{"A":["b"]}}`},
		{"GET", "/v1/objects", "", ""},
		{"GET", "/v1/revisions", "", ""},
		{"GET", "/v1/envoys", "", ""},
		{"GET", "/v1/why/Route/hello", "/v1/why/{kind}/{name}", ""},
		{"POST", "/v1/import", "", body(admin.ImportRequest{Replace: true, Export: export.String()})},
		{"GET", "/v1/why/Route/none", "/v1/why/{kind}/{name}", ""},
		{"POST", "/v1/apply", "", `{"set":[{"kind":"Route","name":"x","text":"spec: 1","file":"x.yaml","line":1}]}`},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			template := c.path
			if c.template != "" {
				template = c.template
			}
			resp := s.send(t, c.method, c.path, "application/json", strings.NewReader(c.body))
			answer, err := jsonschema.UnmarshalJSON(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			status, media := "200", "application/json"
			if resp.StatusCode != 200 {
				status, media = "default", "application/problem+json"
			}
			at := fmt.Sprintf("api.json#/paths/%s/%s/responses/%s/content/%s/schema", escape(template), strings.ToLower(c.method), status, escape(media))
			schema, err := doc.Compile(at)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(answer); err != nil {
				t.Errorf("%v\n%v", err, answer)
			}
			if c.body == "" || !strings.HasPrefix(c.body, "{") {
				return
			}
			asked, err := jsonschema.UnmarshalJSON(strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if schema, err = doc.Compile(fmt.Sprintf("api.json#/paths/%s/%s/requestBody/content/%s/schema", escape(template), strings.ToLower(c.method), escape("application/json"))); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(asked); err != nil {
				t.Errorf("request: %v", err)
			}
		})
	}
}

func escape(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B").Replace(s)
}

func description(t *testing.T, s *site) *jsonschema.Compiler {
	t.Helper()
	text, err := json.Marshal(admin.OpenAPI("1"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("api.json", doc); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListen(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	for _, c := range []struct{ name, address, want string }{
		{"all interfaces", "0.0.0.0:0", "not a loopback address"},
		{"no host", ":0", "not a loopback address"},
		{"a name", "sluice.example:0", "not a loopback address"},
		{"no port", "127.0.0.1", "neither host:port nor unix:/path"},
		{"no path", "unix:", "names no path"},
		{"no folder", "unix:" + dir + "/none/x.sock", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lis, err := admin.Listen(ctx, "--listen-admin", c.address)
			if err == nil {
				lis.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "--listen-admin: ") {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "unix:" + filepath.Join(dir, "a.sock")} {
		first, err := admin.Listen(ctx, "x", address)
		if err != nil {
			t.Fatal(err)
		}
		again := address
		if first.Addr().Network() == "tcp" {
			again = first.Addr().String()
		}
		if _, err := admin.Listen(ctx, "x", again); err == nil || !strings.Contains(err.Error(), "is in use") {
			t.Errorf("%s twice: %v", address, err)
		}
		first.Close()
	}
}

func TestRunOverAUnixSocket(t *testing.T) {
	s := newSite(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "admin.sock")
	ctx, cancel := context.WithCancel(context.Background())
	lis, err := admin.Listen(ctx, "x", "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, lis) }()
	for _, server := range []string{"unix://" + path, "unix:" + path} {
		client, err := admin.NewClient(server)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Envoys(ctx); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, c := range []struct{ name, server, want string }{
		{"nobody listens", "127.0.0.1:1", "start one with `sluice serve`"},
		{"no socket", "unix:///none/x.sock", "start one with `sluice serve`"},
		{"something else", other.URL, "is no sluice"},
		{"a path", "http://127.0.0.1:1/x", "write http://127.0.0.1:18080"},
		{"another scheme", "ftp://127.0.0.1:1", "write http://127.0.0.1:18080"},
		{"no path", "unix:", "names no path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := admin.NewClient(c.server)
			if err == nil {
				_, err = client.Envoys(context.Background())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzRequests(f *testing.F) {
	for _, seed := range []string{`{}`, `{"set":[{"kind":"Route","name":"a","text":"spec: {}"}]}`, `{"delete":[{}],"prune":true}`, `{"method":"GET","url":"/"}`, `{"to":1}`, `{"export":"x"}`, `[`, `{"wait":"1ns"}`} {
		f.Add(seed)
	}
	s := newSite(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/apply", "/v1/plan", "/v1/explain", "/v1/rollback", "/v1/import"} {
			r := admin.Trusted(httptest.NewRequest("POST", path, strings.NewReader(body)))
			r.Host = "localhost"
			r.Header.Set("content-type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: no JSON: %s", path, w.Body)
			}
		}
	})
}
