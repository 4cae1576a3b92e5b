package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The claims that every token has, and for how long it is good.
const (
	idpIssuer   = "https://idp.food.example"
	idpAudience = "food-api"
	idpLifetime = time.Hour
	idpPort     = 49 // counted from the base
)

// idp is a small identity provider: it signs real tokens for the users of the demonstration, who need no password.
//
//	POST /token?user=alice    a token, as text
//	GET  /jwks.json           the public keys, the one before the last rotation among them
//	POST /rotate              signs with a new key from now on
//	GET  /authorize           where browsers choose who they are (OpenID Connect, authorization code with PKCE)
//	POST /oauth2/token        where the gateway exchanges the code that they bring back
type idp struct {
	mu    sync.Mutex
	keys  []signingKey // the last one signs; made when it is first needed
	made  int
	codes map[string]grant // given to browsers, and not yet exchanged
}

type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

// users are who they know, and what each may do.
func users() map[string]jwt.MapClaims {
	return map[string]jwt.MapClaims{
		"alice": {"permissions": []string{"place_orders"}, "plan": "gold"},
		"bob":   {"permissions": []string{}, "plan": "free"},
	}
}

func identityProvider() service {
	i, mux := &idp{codes: map[string]grant{}}, http.NewServeMux()
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /jwks.json", i.jwks)
	mux.HandleFunc("POST /rotate", i.rotate)
	mux.HandleFunc("GET /authorize", i.ask)
	mux.HandleFunc("POST /authorize", i.authorize)
	mux.HandleFunc("POST /oauth2/token", i.exchange)
	mux.HandleFunc("/", notFound)
	return service{"idp", []int{idpPort}, mux}
}

// current is the keys, of which there is at least one. The caller locks.
func (i *idp) current() ([]signingKey, error) {
	if len(i.keys) > 0 {
		return i.keys, nil
	}
	return i.keys, i.add()
}

// add makes a new key the one that signs, and forgets all but the one before.
func (i *idp) add() error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	i.made++
	i.keys = append(i.keys, signingKey{"key-" + strconv.Itoa(i.made), private})
	i.keys = i.keys[max(0, len(i.keys)-2):]
	return nil
}

func (i *idp) token(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("user")
	claims, ok := users()[user]
	if !ok {
		problem(w, http.StatusNotFound, "there is no user %q: alice and bob are known", user)
		return
	}
	text, err := i.sign(user, idpAudience, claims)
	if err != nil {
		problem(w, http.StatusInternalServerError, "no token: %v", err)
		return
	}
	w.Header().Set("content-type", "text/plain")
	_, _ = w.Write([]byte(text + "\n")) // a client that is gone is nobody to tell about it
}

// sign makes a token of claims about a user.
func (i *idp) sign(user, audience string, claims jwt.MapClaims) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, err := i.current(); err != nil {
		return "", err
	}
	key, now := i.keys[len(i.keys)-1], time.Now()
	claims["iss"], claims["aud"], claims["sub"] = idpIssuer, audience, user
	claims["iat"], claims["exp"] = now.Unix(), now.Add(idpLifetime).Unix()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = key.id
	return token.SignedString(key.private)
}

func (i *idp) jwks(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, err := i.current(); err != nil {
		problem(w, http.StatusInternalServerError, "no key: %v", err)
		return
	}
	var keys []map[string]string
	for _, k := range i.keys {
		keys = append(keys, map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.id,
			"n": base64.RawURLEncoding.EncodeToString(k.private.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.private.E)).Bytes()),
		})
	}
	reply(w, http.StatusOK, map[string]any{"keys": keys})
}

func (i *idp) rotate(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.add(); err != nil {
		problem(w, http.StatusInternalServerError, "no key: %v", err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"signsWith": i.keys[len(i.keys)-1].id})
}

// printToken prints a token for a user of the identity provider at an address.
func printToken(ctx context.Context, address, user string, out io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/token?user="+url.QueryEscape(user), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("%w (is the example running?)", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("no token for %q: %s", user, text)
	}
	if err == nil {
		_, err = out.Write(text)
	}
	return err
}
