package authenticate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/fetch"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Introspection is how an issuer is asked about a token (RFC 7662).
type Introspection struct {
	URL     string          `json:"url" jsonschema:"required" jsonschema_description:"The endpoint: https, or http to loopback."`
	Client  string          `json:"client" jsonschema:"required" jsonschema_description:"The name by which the gateway asks, sent by HTTP Basic."`
	Secret  policy.Secret   `json:"secret" jsonschema:"required" jsonschema_description:"Its password."`
	Cache   policy.Duration `json:"cache,omitempty" jsonschema_description:"How long an answer is believed, unless the token ends sooner; 30s when left out, at most 5m. That long after its end at the issuer a token may still pass."`
	Timeout policy.Duration `json:"timeout,omitempty" jsonschema_description:"How long an answer may take; 1s when left out, at most 3s."`
}

// Limits of introspection.
const (
	defaultBelieved = 30 * time.Second
	mostBelieved    = 5 * time.Minute
	refusalBelieved = 5 * time.Second // a token that is not active may become so
	defaultAsking   = time.Second
	maxAnswerBytes  = 64 << 10
	mostAsking      = 64 // of one issuer at once
	maxRemembered   = 10_000
)

func (n *Introspection) validate(at policy.At, p *policy.Problems) {
	checkURL(at.Field("url"), n.URL, p)
	if n.Client == "" {
		p.Errorf(at.Field("client"), policy.CodeRequired, "the client's name is empty")
	}
	if n.Cache.D() > mostBelieved {
		p.Errorf(at.Field("cache"), policy.CodeValue, "a token that has been revoked would pass for longer than 5m")
	}
	if n.Timeout.D() > fetch.DefaultTimeout {
		p.Errorf(at.Field("timeout"), policy.CodeValue, "no request waits longer than 3s for an issuer")
	}
}

func (n *Introspection) believed() time.Duration {
	if n.Cache > 0 {
		return n.Cache.D()
	}
	return defaultBelieved
}

func (n *Introspection) asking() time.Duration {
	if n.Timeout > 0 {
		return n.Timeout.D()
	}
	return defaultAsking
}

// introspectionData is what the names of introspection clients' passwords start with.
const introspectionData = "authenticate/introspection/"

// introspector asks one issuer, with the password that belongs to it. It belongs to the password, and goes with it.
type introspector struct {
	password string
	slots    chan struct{}
	flights  singleflight.Group

	mu      sync.Mutex
	answers map[[sha256.Size]byte]introspected
}

// introspected is an answer: the token's claims, nil when it is not active.
type introspected struct {
	claims jwt.MapClaims
	until  time.Time
}

func newIntrospector(password []byte) (*introspector, error) {
	s := strings.TrimRight(string(password), "\r\n")
	if s == "" || strings.ContainsAny(s, "\r\n\x00") {
		return nil, errors.New("a password is one line, and not empty")
	}
	return &introspector{password: s, slots: make(chan struct{}, mostAsking), answers: map[[sha256.Size]byte]introspected{}}, nil
}

// introspecting is the issuer that is asked about a token: the one that the token names, or the one that can be asked
// at all where it names none that can be read.
func (t *Tokens) introspecting(u *unverified) *NamedIssuer {
	for i := range t.Issuers {
		if n := &t.Issuers[i]; n.Introspection != nil && (u == nil || u.issuer == n.Issuer.Issuer) {
			return n
		}
	}
	return nil
}

// introspect is the claims of a token that its issuer calls active.
func (i *NamedIssuer) introspect(ctx context.Context, r *feature.Request, raw string) (jwt.MapClaims, feature.Decision) {
	if !opaque(raw) {
		return nil, refused(malformed())
	}
	asker, ok := r.Data(i.Data).(*introspector)
	if !ok {
		return nil, feature.Unavailable("no_keys", "The token's issuer cannot be asked now.")
	}
	sum := sumOf(raw)
	answer, known := asker.known(sum, r.Now)
	if !known {
		var err error
		if answer, err = asker.ask(ctx, r.Asker, i.Introspection, raw, sum); err != nil {
			return nil, feature.Unavailable("issuer_unavailable", "The token's issuer cannot be asked now.")
		}
	}
	if answer.claims == nil {
		return nil, refused(&fault{"inactive", "The token is not active."})
	}
	return answer.claims, feature.Decision{}
}

// opaque tells whether a token could be one at all (RFC 6750, b64token).
func opaque(raw string) bool {
	if raw == "" || len(raw) > maxTokenBytes {
		return false
	}
	body := strings.TrimRight(raw, "=")
	return body != "" && !strings.ContainsFunc(body, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}

func (a *introspector) known(sum [sha256.Size]byte, now time.Time) (introspected, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, ok := a.answers[sum]
	if !ok || !now.Before(answer.until) {
		delete(a.answers, sum)
		return introspected{}, false
	}
	return answer, true
}

func (a *introspector) remember(sum [sha256.Size]byte, answer introspected) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other := range a.answers {
		if len(a.answers) < maxRemembered {
			break
		}
		delete(a.answers, other)
	}
	a.answers[sum] = answer
}

var errAskingTooMuch = errors.New("too many tokens are asked about at once")

// ask asks once for all who want to know the same. Whoever goes away does not take the answer from the others.
func (a *introspector) ask(ctx context.Context, client *http.Client, n *Introspection, raw string, sum [sha256.Size]byte) (introspected, error) {
	flight := a.flights.DoChan(string(sum[:]), func() (any, error) {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			return introspected{}, errAskingTooMuch
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.asking())
		defer cancel()
		answer, err := a.post(ctx, client, n, raw)
		if err == nil {
			a.remember(sum, answer)
		}
		return answer, err
	})
	select {
	case <-ctx.Done():
		return introspected{}, ctx.Err()
	case r := <-flight:
		if r.Err != nil {
			return introspected{}, r.Err
		}
		return r.Val.(introspected), nil
	}
}

func (a *introspector) post(ctx context.Context, client *http.Client, n *Introspection, raw string) (introspected, error) {
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return introspected{}, err
	}
	r.Header.Set("content-type", "application/x-www-form-urlencoded")
	r.Header.Set("accept", "application/json")
	r.SetBasicAuth(url.QueryEscape(n.Client), url.QueryEscape(a.password))
	resp, err := client.Do(r)
	if err != nil {
		return introspected{}, err
	}
	body, err := fetch.Body(resp, maxAnswerBytes)
	if err != nil {
		return introspected{}, err
	}
	return readAnswer(body, n.believed(), time.Now())
}

// readAnswer reads what an issuer says of a token. What is no answer is an error; a token that is not plainly active is
// not.
func readAnswer(body []byte, believed time.Duration, now time.Time) (introspected, error) {
	claims, err := object(body)
	if err != nil {
		return introspected{}, err
	}
	active, ok := claims["active"].(bool)
	if !ok {
		return introspected{}, fmt.Errorf("active is neither true nor false")
	}
	kind, _ := claims["token_type"].(string)
	if !active || strings.HasPrefix(strings.ToLower(kind), "refresh") {
		return introspected{until: now.Add(min(refusalBelieved, believed))}, nil
	}
	until := now.Add(believed)
	if exp, err := jwt.MapClaims(claims).GetExpirationTime(); err == nil && exp != nil && exp.Before(until) {
		until = exp.Time
	}
	return introspected{claims: claims, until: until}, nil
}

// introspectedClaims checks what the issuer says of issuer, audience and time: what it leaves out, it has checked itself
// by calling the token active.
func (i *Issuer) introspectedClaims(claims jwt.MapClaims, now time.Time) *fault {
	stated := jwt.MapClaims{}
	for name, v := range claims {
		stated[name] = v
	}
	if _, ok := stated["iss"]; !ok {
		stated["iss"] = i.Issuer
	}
	return i.valid(stated, now)
}

// MarshalJSON leaves the password's place out: agents are given the password itself, and a change of place touches no
// route.
func (n Introspection) MarshalJSON() ([]byte, error) {
	type plain struct {
		URL     string          `json:"url"`
		Client  string          `json:"client"`
		Cache   policy.Duration `json:"cache,omitempty"`
		Timeout policy.Duration `json:"timeout,omitempty"`
	}
	return json.Marshal(plain{n.URL, n.Client, n.Cache, n.Timeout})
}
