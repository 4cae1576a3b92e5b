package authenticate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/fetch"
)

// endpoint answers as the token says: its name is what becomes of it.
type endpoint struct {
	*httptest.Server
	asked atomic.Int64
	hold  chan struct{} // when not nil, answers wait for it
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{}
	now := time.Now()
	answers := map[string]string{
		"good":      fmt.Sprintf(`{"active":true,"sub":"alice","scope":"read write","exp":%d,"aud":"food"}`, now.Add(time.Hour).Unix()),
		"inactive":  `{"active":false}`,
		"refresh":   `{"active":true,"sub":"alice","token_type":"refresh_token"}`,
		"expired":   fmt.Sprintf(`{"active":true,"sub":"alice","exp":%d}`, now.Add(-time.Hour).Unix()),
		"noexpiry":  `{"active":true,"sub":"alice"}`,
		"foreign":   fmt.Sprintf(`{"active":true,"sub":"alice","iss":"https://evil","exp":%d}`, now.Add(time.Hour).Unix()),
		"nobody":    fmt.Sprintf(`{"active":true,"exp":%d}`, now.Add(time.Hour).Unix()),
		"text":      `{"active":"true","sub":"alice"}`,
		"twice":     `{"active":false,"active":true,"sub":"alice"}`,
		"list":      `[]`,
		"truncated": `{"active":true,"sub":"al`,
	}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		if e.hold != nil {
			<-e.hold
		}
		user, password, _ := r.BasicAuth()
		token := r.FormValue("token")
		switch answer, ok := answers[token]; {
		case user != "gate%3Away" || password != "s%2B%3A":
			w.WriteHeader(http.StatusUnauthorized)
		case token == "large":
			_, _ = w.Write(make([]byte, maxAnswerBytes+1))
		case !ok:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte(answer))
		}
	}))
	t.Cleanup(e.Close)
	return e
}

// asking is a block that asks the endpoint, and the request of a token.
func (e *endpoint) asking(t *testing.T, change func(*Issuer)) (*Spec, func(token string, at time.Time) *feature.Request) {
	issuer := newIssuer().(*Issuer)
	issuer.Issuer, issuer.Introspection = "https://idp", &Introspection{URL: e.URL, Client: "gate:way"}
	if change != nil {
		change(issuer)
	}
	asker, err := newIntrospector([]byte("s+:\n"))
	if err != nil {
		t.Fatal(err)
	}
	client := fetch.NewClient()
	return &Spec{AnyOf: []Way{{JWT: &Tokens{Issuers: []NamedIssuer{issuer.named("i")}}}}},
		func(token string, at time.Time) *feature.Request {
			return &feature.Request{
				Headers: map[string]string{"authorization": "Bearer " + token}, Now: at, Asker: client,
				Data: func(name string) any { return asker },
			}
		}
}

func TestIntrospection_OnlyAPlainlyActiveTokenPasses(t *testing.T) {
	e := newEndpoint(t)
	s, request := e.asking(t, nil)
	lax, _ := e.asking(t, func(i *Issuer) { i.RequireExpiry = false })
	strict, _ := e.asking(t, func(i *Issuer) { i.Audiences = []string{"other"} })
	for _, c := range []struct {
		name, token string
		spec        *Spec
		status      int
		reason      string
	}{
		{"active", "good", s, 0, ""},
		{"not active", "inactive", s, 401, "inactive"},
		{"a refresh token", "refresh", lax, 401, "inactive"},
		{"active, but expired", "expired", s, 401, "expired"},
		{"without expiry", "noexpiry", s, 401, "claims"},
		{"without expiry, where that is taken", "noexpiry", lax, 0, ""},
		{"another issuer's", "foreign", s, 401, "issuer"},
		{"another audience's", "good", strict, 401, "audience"},
		{"of nobody", "nobody", s, 401, "no_user"},
		{"active is a text", "text", s, 503, "issuer_unavailable"},
		{"active twice", "twice", s, 503, "issuer_unavailable"},
		{"no object", "list", s, 503, "issuer_unavailable"},
		{"cut off", "truncated", s, 503, "issuer_unavailable"},
		{"too large", "large", s, 503, "issuer_unavailable"},
		{"an error", "error", s, 503, "issuer_unavailable"},
		{"no token at all", "a b", s, 401, "malformed"},
		{"a token of quotes", `"`, s, 401, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := &feature.Identity{}
			d := c.spec.Check(t.Context(), request(c.token, time.Now()), id)
			if d.Status != c.status || d.Reason != c.reason {
				t.Errorf("%d %q, want %d %q", d.Status, d.Reason, c.status, c.reason)
			}
			if d.Allowed() && (id.User != "alice" || id.Issuer != "https://idp") {
				t.Errorf("%+v", id)
			}
		})
	}
}

func TestIntrospection_AnswersAreBelievedForAWhileAndAskedForOnce(t *testing.T) {
	e := newEndpoint(t)
	s, request := e.asking(t, nil)
	e.hold = make(chan struct{})
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if d := s.Check(t.Context(), request("good", time.Now()), &feature.Identity{}); !d.Allowed() {
				t.Errorf("%+v", d)
			}
		})
	}
	for e.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(e.hold)
	wait.Wait()
	now := time.Now()
	s.Check(t.Context(), request("good", now.Add(defaultBelieved-time.Second)), &feature.Identity{})
	before := e.asked.Load()
	if before > 2 { // one flight, and perhaps one that came after it had landed and before it was remembered
		t.Errorf("asked %d times", before)
	}
	s.Check(t.Context(), request("good", now.Add(defaultBelieved+time.Second)), &feature.Identity{})
	if e.asked.Load() != before+1 {
		t.Error("an old answer was believed")
	}
	e.Close()
	if d := s.Check(t.Context(), request("good", time.Now()), &feature.Identity{}); !d.Allowed() {
		t.Errorf("the issuer is away, and its answer forgotten: %+v", d)
	}
	if d := s.Check(t.Context(), request("inactive", time.Now()), &feature.Identity{}); d.Status != 503 {
		t.Errorf("the issuer is away: %+v", d)
	}
}

func TestIntrospection_AnIssuerThatHangsHoldsFewUp(t *testing.T) {
	e := newEndpoint(t)
	e.hold = make(chan struct{})
	defer close(e.hold)
	s, request := e.asking(t, nil)
	var undecided atomic.Int64
	var wait sync.WaitGroup
	for n := range 2 * mostAsking {
		wait.Go(func() {
			if d := s.Check(t.Context(), request(fmt.Sprintf("token-%d", n), time.Now()), &feature.Identity{}); d.Status == 503 {
				undecided.Add(1)
			}
		})
	}
	wait.Wait()
	if undecided.Load() != 2*mostAsking {
		t.Errorf("%d of %d were undecided", undecided.Load(), 2*mostAsking)
	}
	if e.asked.Load() > mostAsking {
		t.Errorf("%d questions at once", e.asked.Load())
	}
}

// FuzzReadAnswer: whatever an issuer answers, only active: true passes, and nothing panics.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{`{"active":true}`, `{"active":false}`, `{"active":1}`, `{"active":true,"exp":"x"}`, `{"active":true,"active":false}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Unix(1e9, 0)
		a, err := readAnswer(body, time.Minute, now)
		if err == nil && a.claims != nil && a.claims["active"] != true {
			t.Errorf("%s passed", body)
		}
		if a.until.After(now.Add(time.Minute)) {
			t.Errorf("%s is believed until %v", body, a.until)
		}
	})
}
