package keys

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/fetch"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// patience is far longer than anything here takes.
const patience = 20 * time.Second

func check(_ string, body []byte) error {
	if !strings.HasPrefix(string(body), "good") {
		return errors.New("not good")
	}
	return nil
}

// start runs a Keeper until stop or the test's end.
func start(t *testing.T, file string, refresh time.Duration) (k *Keeper, stop func()) {
	t.Helper()
	k = New(Config{Check: check, Log: slog.New(slog.DiscardHandler), File: file, Refresh: refresh})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
		}
	}
	t.Cleanup(stop)
	return k, stop
}

func await(t *testing.T, k *Keeper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	k.Await(ctx)
	if ctx.Err() != nil {
		t.Fatal("nothing was tried")
	}
}

func TestKeeper_KeepsTheLastGoodOverOutagesAndRestarts(t *testing.T) {
	var answer atomic.Value
	answer.Store("good 1")
	asked := make(chan struct{}, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text := answer.Load().(string)
		if text == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write([]byte(text))
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "keys")
	k, stop := start(t, file, 10*time.Millisecond)
	wanted := []model.Data{{Name: "f/a", URL: s.URL}}
	k.Want(wanted)
	await(t, k)
	expect := func(k *Keeper, want string) {
		t.Helper()
		if body, _ := k.Get("f/a"); string(body) != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	expect(k, "good 1")
	answer.Store("good 2")
	for body, _ := k.Get("f/a"); string(body) != "good 2"; body, _ = k.Get("f/a") {
		select {
		case <-k.Changed():
		case <-time.After(patience):
			t.Fatal("the change is not seen")
		}
	}
	for _, bad := range []string{"", "bad", "good" + strings.Repeat("x", maxBytes)} {
		answer.Store(bad)
		for len(asked) > 0 {
			<-asked
		}
		for range 3 {
			<-asked
		}
		expect(k, "good 2")
	}
	stop()
	s.Close()
	again, stop := start(t, file, time.Hour)
	again.Want(wanted)
	expect(again, "good 2")
	stop()
	if err := os.WriteFile(file, []byte(`{"sum":[],"items":{"f/a":{}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged, _ := start(t, file, time.Hour)
	damaged.Want(wanted)
	expect(damaged, "")
	other, _ := start(t, "", time.Hour)
	other.Want([]model.Data{{Name: "f/a", Inline: "good 3"}})
	await(t, other)
	expect(other, "good 3")
	other.Want(nil)
	expect(other, "")
}

func TestKeeper_AnIssuerThatHangsOrNeverEndsHarmsNobodyElse(t *testing.T) {
	var sent atomic.Int64
	ended := make(chan struct{})
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		piece := []byte(strings.Repeat("good", 16<<10))
		for sent.Load() < 200<<20 {
			n, err := w.Write(piece)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hanging.Close()
	fine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("good")) }))
	defer fine.Close()
	k, _ := start(t, "", time.Hour)
	k.Want([]model.Data{{Name: "f/endless", URL: endless.URL}, {Name: "f/hanging", URL: hanging.URL}, {Name: "f/fine", URL: fine.URL}})
	await(t, k)
	for name, want := range map[string]string{"f/endless": "", "f/hanging": "", "f/fine": "good"} {
		if body, _ := k.Get(name); string(body) != want {
			t.Errorf("%s: %.20q, want %q", name, body, want)
		}
	}
	<-ended
	if n := sent.Load(); n >= 200<<20 {
		t.Errorf("%d bytes of an answer were taken", n)
	}
}

func TestDiscover_TakesOnlyTheIssuersOwnDocument(t *testing.T) {
	issuer := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"` + issuer + `","jwks_uri":"https://keys.example"}`))
	}))
	defer s.Close()
	issuer = s.URL
	if at, err := discover(t.Context(), fetch.NewClient(), s.URL); err != nil || at != "https://keys.example" {
		t.Errorf("%q %v", at, err)
	}
	issuer = "https://evil.example"
	if _, err := discover(t.Context(), fetch.NewClient(), s.URL); err == nil {
		t.Error("another issuer's document was taken")
	}
}

// oneSecret is a store with one secret.
type oneSecret struct {
	value   atomic.Value
	changed chan struct{}
}

func (o *oneSecret) Get(_ context.Context, name string) ([]byte, error) {
	if name != "there" {
		return nil, errors.New("no such secret")
	}
	return []byte(o.value.Load().(string)), nil
}

func (o *oneSecret) Watch(context.Context) <-chan struct{} { return o.changed }

// TestKeeper_SecretsOfTheStore takes a value from the store, and the next one when it is told of it; neither is ever
// saved beside the store, and nor is what is in a file or a variable.
func TestKeeper_SecretsOfTheStore(t *testing.T) {
	dir := t.TempDir()
	local := filepath.Join(dir, "local")
	if err := os.WriteFile(local, []byte("good local"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("good fetched")) }))
	defer s.Close()
	o := &oneSecret{changed: make(chan struct{}, 1)}
	o.value.Store("good secret 1")
	file := filepath.Join(dir, "keys")
	k := New(Config{Check: check, Log: slog.New(slog.DiscardHandler), File: file, Refresh: time.Hour, Secrets: o})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	k.Want([]model.Data{{Name: "f/a", Secret: "there"}, {Name: "f/b", Secret: "gone"}, {Name: "f/c", File: local}, {Name: "f/d", URL: s.URL}})
	await(t, k)
	for name, want := range map[string]string{"f/a": "good secret 1", "f/b": "", "f/c": "good local", "f/d": "good fetched"} {
		if got, _ := k.Get(name); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	o.value.Store("good secret 2")
	o.changed <- struct{}{}
	for deadline := time.After(patience); ; {
		if got, _ := k.Get("f/a"); string(got) == "good secret 2" {
			break
		}
		select {
		case <-k.Changed():
		case <-deadline:
			t.Fatal("the new value was never taken")
		}
	}
	cancel()
	<-done
	var saved savedFile
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &saved) != nil {
		t.Fatalf("saved %s, %v", text, err)
	}
	var items map[string]savedItem
	if err := json.Unmarshal(saved.Items, &items); err != nil || len(items) != 1 || string(items["f/d"].Body) != "good fetched" {
		t.Errorf("saved %+v, %v", items, err)
	}
}
