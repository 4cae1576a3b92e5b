package authenticate

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

func signed(t testing.TB) (*KeySet, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "kid": "a", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := ParseKeySet(body)
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "i", "aud": "a", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "permissions": []string{"place_orders"},
	})
	token.Header["kid"] = "a"
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return set, text
}

func BenchmarkCheck(b *testing.B) {
	set, token := signed(b)
	issuer := newIssuer().(*Issuer)
	issuer.Issuer, issuer.Audiences = "i", []string{"a"}
	s := &Spec{AnyOf: []Way{{JWT: &Tokens{Issuers: []NamedIssuer{issuer.named("i")}}}}}
	r := &feature.Request{Headers: map[string]string{"authorization": "Bearer " + token}, Now: time.Now(), Data: func(string) any { return set }}
	for _, c := range []struct {
		name string
		each func()
	}{{"cached", func() {}}, {"fresh", func() { set.verified = newCache() }}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.each()
				if d := s.Check(b.Context(), r, &feature.Identity{}); !d.Allowed() {
					b.Fatal(d)
				}
			}
		})
	}
}

func TestVerified_IsForgottenWithTheTokensEndAndNeverGrows(t *testing.T) {
	c, now := newCache(), time.Now()
	sum := [32]byte{1}
	c.put(sum, verified{claims: jwt.MapClaims{"exp": float64(now.Add(10 * time.Second).Unix())}}, now)
	if _, ok := c.get(sum, now); !ok {
		t.Error("not remembered")
	}
	if _, ok := c.get(sum, now.Add(11*time.Second)); ok {
		t.Error("remembered beyond the token's end")
	}
	c.put(sum, verified{claims: jwt.MapClaims{}}, now)
	if _, ok := c.get(sum, now.Add(verifiedForever)); ok {
		t.Error("remembered for too long")
	}
	for i := range mostVerified + 10 {
		c.put([32]byte{2, byte(i), byte(i >> 8)}, verified{claims: jwt.MapClaims{}}, now)
	}
	if len(c.tokens) > mostVerified {
		t.Errorf("%d remembered", len(c.tokens))
	}
}
