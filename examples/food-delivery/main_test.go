package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// start runs the program on free ports and returns the address of each instance.
func start(t *testing.T) map[string]string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-base", "0"}, in, io.Discard) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("run did not end with its context")
		}
	})
	found := map[string]string{}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		name, url, _ := strings.Cut(lines.Text(), " ")
		found[name] = strings.TrimSpace(url)
	}
	return found
}

// status sends a request to an instance and returns the answer's status, having checked its name.
func status(t *testing.T, instances map[string]string, name, method, path string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, instances[name]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("x-instance"); got != name {
		t.Errorf("%s %s: x-instance %q, want %q", method, path, got, name)
	}
	return resp.StatusCode
}

func TestRunStartsEveryInstance(t *testing.T) {
	instances := start(t)
	names := []string{"orders-1", "orders-2", "inventory-1", "inventory-2", "payment-1", "delivery-1", "delivery-2", "catalog-1", "catalog-2", "catalog-3", "idp-1"}
	if len(instances) != len(names) {
		t.Errorf("%d instances, want %d: %v", len(instances), len(names), instances)
	}
	for _, name := range names {
		if got := status(t, instances, name, "GET", "/healthz"); got != 200 {
			t.Errorf("%s: health %d", name, got)
		}
	}
}

func TestInstancesShareTheirData(t *testing.T) {
	instances := start(t)
	body := strings.NewReader(`{"items": [{"sku": "ramen-shoyu", "quantity": 1}]}`)
	resp, err := http.Post(instances["orders-1"]+"/api/v1/orders", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := status(t, instances, "orders-2", "GET", resp.Header.Get("location")); got != 200 {
		t.Errorf("orders-2 answers %d for an order placed at orders-1", got)
	}
}

func TestFaults(t *testing.T) {
	instances := start(t)
	steps := []struct {
		instance, method, path string
		want                   int
	}{
		{"catalog-1", "POST", "/debug/fail?for=1h", 200},
		{"catalog-1", "GET", "/healthz", 503},
		{"catalog-1", "GET", "/api/v1/products", 503},
		{"catalog-2", "GET", "/api/v1/products", 200},
		{"catalog-1", "POST", "/debug/fail?for=0s", 200},
		{"catalog-1", "GET", "/api/v1/products", 200},
		{"catalog-1", "POST", "/debug/fail?for=long", 400},
		{"catalog-1", "POST", "/debug/slow?by=-1s", 400},
	}
	for _, s := range steps {
		if got := status(t, instances, s.instance, s.method, s.path); got != s.want {
			t.Errorf("%s: %s %s: %d, want %d", s.instance, s.method, s.path, got, s.want)
		}
	}
}

func TestSlowInstanceAnswersLate(t *testing.T) {
	instances := start(t)
	status(t, instances, "catalog-1", "POST", "/debug/slow?by=1h")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", instances["catalog-1"]+"/healthz", nil)
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("a slow instance answered %d at once", resp.StatusCode)
	}
	status(t, instances, "catalog-1", "POST", "/debug/slow?by=0s")
	if got := status(t, instances, "catalog-1", "GET", "/healthz"); got != 200 {
		t.Errorf("after the slowness: %d", got)
	}
}

func TestStopEndsOneInstance(t *testing.T) {
	instances := start(t)
	if got := status(t, instances, "delivery-1", "POST", "/debug/stop"); got != http.StatusAccepted {
		t.Fatalf("stop: %d", got)
	}
	address := strings.TrimPrefix(instances["delivery-1"], "http://")
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("delivery-1 still listens")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := status(t, instances, "delivery-2", "GET", "/healthz"); got != 200 {
		t.Errorf("delivery-2: %d", got)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := startInstance(t.Context(), "orders-1", taken.Addr().(*net.TCPAddr).Port, http.NotFoundHandler()); err == nil || !strings.Contains(err.Error(), "orders-1") {
		t.Errorf("a taken port: %v", err)
	}
	for _, args := range [][]string{{"-base", "-1"}, {"-base", "70000"}, {"-base", "x"}, {"extra"}} {
		if err := run(t.Context(), args, io.Discard, new(bytes.Buffer)); err == nil {
			t.Errorf("run %v: no error", args)
		}
	}
}

func TestIdentityProvider_SignsTokensForThoseItKnows(t *testing.T) {
	instances := start(t)
	for _, s := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/token?user=alice", 200}, {"POST", "/token?user=mallory", 404}, {"GET", "/token?user=alice", 404}, {"GET", "/jwks.json", 200}, {"POST", "/rotate", 200},
	} {
		if got := status(t, instances, "idp-1", s.method, s.path); got != s.want {
			t.Errorf("%s %s: %d, want %d", s.method, s.path, got, s.want)
		}
	}
}

func TestIdentityProvider_TokensArePrinted(t *testing.T) {
	address := strings.TrimPrefix(start(t)["idp-1"], "http://")
	var out bytes.Buffer
	if err := printToken(t.Context(), address, "alice", &out); err != nil || strings.Count(out.String(), ".") != 2 {
		t.Errorf("alice's token: %q (%v)", out.String(), err)
	}
	if err := printToken(t.Context(), address, "mallory", &out); err == nil || !strings.Contains(err.Error(), "alice and bob are known") {
		t.Errorf("mallory's token: %v", err)
	}
}
