package authenticate

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

const keySet = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// FuzzParseKeySet: whatever an issuer publishes, the set is bounded, and no key is for a shared secret.
func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(keySet))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := ParseKeySet(body)
		if err != nil {
			return
		}
		if set.Len() == 0 || set.Len() > maxKeys {
			t.Errorf("%d keys", set.Len())
		}
		for _, k := range set.keys {
			if len(k.algorithms) == 0 || strings.HasPrefix(k.algorithms[0], "HS") || k.public == nil {
				t.Errorf("a key for %v", k.algorithms)
			}
		}
	})
}

// FuzzCheck: without the private key nothing passes, and nothing panics.
func FuzzCheck(f *testing.F) {
	set, err := ParseKeySet([]byte(keySet))
	if err != nil {
		f.Fatal(err)
	}
	for _, token := range []string{"", "a.b.c", "Bearer ..", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJpIn0.", "Bearer eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6InUifQ.AAAA"} {
		f.Add(token, "session=x; session=y", "/?token=%zz&token")
	}
	issuer := Issuer{Issuer: "i", Audiences: []string{"a"}, Claims: Claims{User: "sub"}}
	f.Fuzz(func(t *testing.T, authorization, cookie, path string) {
		r := &feature.Request{
			Path: path, Headers: map[string]string{"authorization": authorization, "cookie": cookie}, Now: time.Unix(1, 0),
			Data: func(string) any { return set },
		}
		for _, from := range []From{{}, {Cookie: "session"}, {Query: "token"}} {
			s := &Spec{AnyOf: []Way{{JWT: &Tokens{Issuers: []NamedIssuer{issuer.named("i")}}, From: from}}}
			if d := s.Check(t.Context(), r, &feature.Identity{}); d.Allowed() {
				t.Errorf("%q %q %q passed", authorization, cookie, path)
			}
		}
	})
}
