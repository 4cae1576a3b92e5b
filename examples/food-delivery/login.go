package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The one client that the identity provider knows: the gateway, where browsers log in. Anybody may read this, as it is
// an example: real secrets stand in no file that is shared.
const (
	webClient = "food-web"
	webSecret = "an-example-is-no-secret"
)

// codeLifetime is how long a browser may take to bring a code back.
const codeLifetime = time.Minute

// grant is what a code stands for.
type grant struct {
	user, redirect, challenge string
	until                     time.Time
}

var chooser = template.Must(template.New("").Parse(`<!doctype html><title>Who are you?</title>
<form method="post">{{range $name, $value := .}}<input type="hidden" name="{{$name}}" value="{{index $value 0}}">{{end}}
<button name="user" value="alice">alice</button> <button name="user" value="bob">bob</button></form>
`))

// asked is a request for a code, "" or what is wrong with it. Only the gateway's own callback on this host is one.
func asked(q url.Values) string {
	back, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case q.Get("response_type") != "code" || q.Get("client_id") != webClient:
		return "response_type=code and client_id=" + webClient + " are known here"
	case err != nil || back.Hostname() != "localhost" && back.Hostname() != "127.0.0.1":
		return "redirect_uri is not on this host"
	case q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		return "a code is given with PKCE only"
	}
	return ""
}

func (i *idp) ask(w http.ResponseWriter, r *http.Request) {
	if wrong := asked(r.URL.Query()); wrong != "" {
		problem(w, http.StatusBadRequest, "%s", wrong)
		return
	}
	w.Header().Set("content-type", "text/html; charset=utf-8")
	_ = chooser.Execute(w, r.URL.Query()) // a browser that is gone is nobody to tell about it
}

func (i *idp) authorize(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		problem(w, http.StatusBadRequest, "not a form: %v", err)
		return
	}
	wrong, user := asked(r.Form), r.Form.Get("user")
	if _, known := users()[user]; wrong == "" && !known {
		wrong = "user is not known: alice and bob are"
	}
	if wrong != "" {
		problem(w, http.StatusBadRequest, "%s", wrong)
		return
	}
	code, now := rand.Text(), time.Now()
	i.mu.Lock()
	for old, g := range i.codes {
		if now.After(g.until) {
			delete(i.codes, old)
		}
	}
	i.codes[code] = grant{user: user, redirect: r.Form.Get("redirect_uri"), challenge: r.Form.Get("code_challenge"), until: now.Add(codeLifetime)}
	i.mu.Unlock()
	back := url.Values{"code": {code}, "state": {r.Form.Get("state")}}
	http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

// exchange gives tokens for a code, once, to the client that the code was made for.
func (i *idp) exchange(w http.ResponseWriter, r *http.Request) {
	client, secret, basic := r.BasicAuth()
	if !basic {
		client, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if client != webClient || subtle.ConstantTimeCompare([]byte(secret), []byte(webSecret)) == 0 {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	i.mu.Lock()
	g, known := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	i.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	challenge := strings.TrimRight(g.challenge, "=")
	if !known || time.Now().After(g.until) || g.redirect != r.PostFormValue("redirect_uri") || challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	access, err := i.sign(g.user, idpAudience, users()[g.user])
	if err != nil {
		problem(w, http.StatusInternalServerError, "no token: %v", err)
		return
	}
	id, err := i.sign(g.user, webClient, jwt.MapClaims{})
	if err != nil {
		problem(w, http.StatusInternalServerError, "no token: %v", err)
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"access_token": access, "id_token": id, "token_type": "Bearer", "expires_in": int(idpLifetime.Seconds()),
	})
}
