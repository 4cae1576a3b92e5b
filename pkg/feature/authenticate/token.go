package authenticate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of a token.
const (
	maxTokenBytes = 8 << 10
	maxDepth      = 16
)

// fault is why a token is not taken: a word for metrics and a sentence for the client.
type fault struct{ reason, detail string }

func (f *fault) Error() string { return f.detail }

func malformed() *fault {
	return &fault{"malformed", "The token is not a JSON Web Token that is taken here."}
}

// header is a token's, as far as it may say anything.
type header struct {
	alg   string
	kid   string
	named bool // it has a kid
}

// unverified is a token taken apart, with nothing of it believed.
type unverified struct {
	raw    string
	header header
	issuer string
}

// parseToken takes a token apart and refuses what no honest issuer of ours sends.
func parseToken(raw string) (*unverified, *fault) {
	if len(raw) > maxTokenBytes {
		return nil, &fault{"too_large", "The token is larger than allowed."}
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, malformed()
	}
	head, err := decodeObject(parts[0])
	if err != nil {
		return nil, malformed()
	}
	payload, err := decodeObject(parts[1])
	if err != nil {
		return nil, malformed()
	}
	h, f := readHeader(head)
	if f != nil {
		return nil, f
	}
	issuer, ok := payload["iss"].(string)
	if !ok {
		return nil, &fault{"issuer", "The token names no issuer."}
	}
	return &unverified{raw: raw, header: h, issuer: issuer}, nil
}

// readHeader takes the few fields that are harmless: all that name, hold or locate keys, or ask for more than a plain
// signature, are refused.
func readHeader(fields map[string]any) (h header, f *fault) {
	for name, value := range fields {
		text, isText := value.(string)
		switch name {
		case "alg":
			h.alg = text
		case "kid":
			if h.kid, h.named = text, true; !isText || len(text) > maxKeyID {
				return h, &fault{"key_id", "The token names no key that is known."}
			}
		case "typ":
			if !slices.Contains(tokenTypes(), strings.ToLower(text)) {
				return h, malformed()
			}
		}
		if slices.Contains(refusedFields(), name) {
			return h, &fault{"header", "The token's header has fields that are not taken here."}
		}
	}
	if !slices.Contains(algorithms(), h.alg) {
		return h, &fault{"algorithm", "The token is not signed by an algorithm that is taken here."}
	}
	return h, nil
}

// tokenTypes are those of tokens that are taken, in lower case.
func tokenTypes() []string { return []string{"jwt", "at+jwt", "application/at+jwt"} }

// refusedFields are those of a header that bring or locate keys, or ask for more than a plain signature.
func refusedFields() []string {
	return []string{"jku", "jwk", "x5u", "x5c", "crit", "zip", "enc", "b64", "cty"}
}

// decodeObject reads one part of a token.
func decodeObject(part string) (map[string]any, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, err
	}
	return object(text)
}

// object reads a JSON object without two fields of one name.
func object(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := unique(d, 0); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more after the end")
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, errors.New("not an object")
	}
	return out, nil
}

// unique reads one value and refuses fields of one name, of which readers disagree which one holds.
func unique(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deep")
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if seen[fmt.Sprint(name)] {
				return errors.New("two fields of one name")
			}
			seen[fmt.Sprint(name)] = true
		}
		if err := unique(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// takes tells whether tokens may be signed by an algorithm.
func (i *Issuer) takes(algorithm string) bool {
	return len(i.Algorithms) == 0 || slices.Contains(i.Algorithms, algorithm)
}

// signed is the claims of a token whose signature is right. Nothing of what they say is checked here.
func (i *Issuer) signed(set *KeySet, u *unverified) (jwt.MapClaims, *fault) {
	if !i.takes(u.header.alg) {
		return nil, &fault{"algorithm", "The token is not signed by an algorithm that is taken here."}
	}
	k, ok := set.find(u.header.kid, u.header.named)
	if !ok {
		return nil, &fault{"key_id", "The token names no key that is known."}
	}
	if !slices.Contains(k.algorithms, u.header.alg) {
		return nil, &fault{"algorithm", "The token's algorithm is not that of its key."}
	}
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods(k.algorithms), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())
	if _, err := parser.ParseWithClaims(u.raw, claims, func(*jwt.Token) (any, error) { return k.public, nil }); err != nil {
		return nil, &fault{"signature", "The token's signature is not valid."}
	}
	return claims, nil
}

// valid checks what the claims say of issuer, audience and time.
func (i *Issuer) valid(claims jwt.MapClaims, now time.Time) *fault {
	options := []jwt.ParserOption{
		jwt.WithIssuer(i.Issuer), jwt.WithAudience(i.Audiences...), jwt.WithLeeway(i.Skew.D()), jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	}
	if i.RequireExpiry {
		options = append(options, jwt.WithExpirationRequired())
	}
	err := jwt.NewValidator(options...).Validate(claims)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return &fault{"expired", "The token has expired."}
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return &fault{"not_yet_valid", "The token is not valid yet."}
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &fault{"audience", "The token is for another audience."}
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return &fault{"issuer", "The token is of another issuer."}
	}
	return &fault{"claims", "The token lacks a claim, or has one that cannot be read."}
}
