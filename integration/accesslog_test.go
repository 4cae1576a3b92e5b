package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// logLines are the access log's lines that are whole.
func logLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "\n") {
			continue
		}
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		out = append(out, one)
	}
	return out
}

// logged waits for so many lines.
func logged(t *testing.T, n int, text func() string) []map[string]any {
	t.Helper()
	gateway.Eventually(t, "the lines are written", func() bool { return len(logLines(t, text())) >= n })
	return logLines(t, text())
}

func TestAccessLog_ALineSaysWhatHappenedAndNoSecret(t *testing.T) {
	backend := reflect(t)
	g := gateway.Start(t, map[string]string{"policy.yaml": edge(`accessLog: {fields: {tenant: "%REQ(x-tenant)%"}}`) +
		service("orders", backend, "") + routeTo("{name: place, match: POST /orders/*, to: orders, rewrite: {prefix: /v1}}")})
	const quote = "a\"}\\{\"status\":1,\"x\":\"\u00e9"
	status, body, header := g.Do(http.MethodPost, "/orders/7?token=s3cret", strings.NewReader("12345"),
		"authorization", "Bearer s3cret", "cookie", "session=s3cret", "user-agent", quote, "x-tenant", "acme", "host", "api.example")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	line := logged(t, 1, g.Log.String)[0]
	started, err := time.Parse("2006-01-02T15:04:05.000Z", line["time"].(string))
	if err != nil || time.Since(started) > time.Hour {
		t.Errorf("time %v: %v", line["time"], err)
	}
	want := map[string]any{
		"requestId": header.Get("x-request-id"), "method": "POST", "host": "api.example", "path": "/orders/7", "protocol": "HTTP/1.1",
		"status": 200.0, "bytesIn": 5.0, "bytesOut": float64(len(body)), "rule": "api/place", "policy": line["policy"], "config": line["config"],
		"service": "orders", "upstream": backend, "attempts": 1.0, "client": "127.0.0.1", "userAgent": quote, "flags": "-", "details": "via_upstream", "tenant": "acme",
	}
	for _, timing := range []string{"time", "duration", "requestDuration", "responseDuration", "responseTxDuration"} {
		if _, ok := line[timing].(float64); !ok && timing != "time" {
			t.Errorf("%s is %v, no number", timing, line[timing])
		}
		delete(line, timing)
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	if policy, _ := line["policy"].(string); !strings.HasPrefix(policy, "policy.yaml:") {
		t.Errorf("policy is %q", policy)
	}
	if config, _ := line["config"].(string); config == "" {
		t.Error("the line does not say which configuration answered")
	}
	if strings.Contains(g.Log.String(), "s3cret") {
		t.Error("a secret is in the log")
	}
}

func TestAccessLog_OnlyWhatIsAskedForGoesToTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.json")
	g := gateway.Start(t, map[string]string{"policy.yaml": edge(`accessLog: {file: `+file+`, only: {status: ">=400"}}`) +
		routeTo("{match: /ok, direct: {body: ok}}")})
	read := func() string { text, _ := os.ReadFile(file); return string(text) }
	for _, path := range []string{"/ok", "/a", "/ok", "/b", "/ok"} {
		g.Get(path)
	}
	var paths []string
	for _, line := range logged(t, 2, read) {
		paths = append(paths, line["path"].(string))
	}
	if !slices.Equal(paths, []string{"/a", "/b"}) {
		t.Errorf("logged %v", paths)
	}
	if n := len(logLines(t, g.Log.String())); n != 0 {
		t.Errorf("%d lines on standard output", n)
	}
}

func TestAccessLog_ASampleIsAShare(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge(`accessLog: {only: {status: 404}, sample: 20%}`) +
		routeTo("{match: /ok, direct: {body: ok}}")})
	const n = 400
	for range n {
		g.Get("/ok")
	}
	g.Get("/last")
	gateway.Eventually(t, "the last line is there", func() bool { return strings.Contains(g.Log.String(), `"/last"`) })
	got := len(logLines(t, g.Log.String())) - 1
	if got < n/10 || got > n*3/10 { // five standard deviations
		t.Errorf("%d of %d lines; 20%% were asked for", got, n)
	}
}
