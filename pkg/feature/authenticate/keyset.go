package authenticate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Limits of a key set.
const (
	maxKeySetBytes = 256 << 10
	maxKeys        = 100
	maxKeyID       = 128
	minRSABits     = 2048
	maxRSABits     = 8192
	maxExponent    = 1<<31 - 1
)

// algorithms are those that are taken: never one by a shared secret, never none.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// key is one public key and the algorithms that it may be used with: the key decides, never the token.
type key struct {
	id         string
	public     crypto.PublicKey
	algorithms []string
}

// KeySet is an issuer's public keys, with the tokens that they have verified. It is safe for concurrent use.
type KeySet struct {
	keys     []key
	verified *cache
}

// Len is the number of keys.
func (s *KeySet) Len() int { return len(s.keys) }

type jwk struct {
	Kty string   `json:"kty"`
	Kid string   `json:"kid"`
	Use string   `json:"use"`
	Alg string   `json:"alg"`
	Ops []string `json:"key_ops"`
	N   string   `json:"n"`
	E   string   `json:"e"`
	Crv string   `json:"crv"`
	X   string   `json:"x"`
	Y   string   `json:"y"`
	D   string   `json:"d"`
}

// ParseKeySet reads a JSON Web Key Set. Keys that are not for signatures, or of a kind that is not taken, are left out;
// one of a kind that is taken but faulty is an error, and so is a set without any key that can be used.
func ParseKeySet(body []byte) (*KeySet, error) {
	if len(body) > maxKeySetBytes {
		return nil, fmt.Errorf("key set: larger than %d KiB", maxKeySetBytes>>10)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("key set: not JSON with a list of keys")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxKeys)
	}
	out := &KeySet{verified: newCache()}
	seen := map[string]bool{}
	for i, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i+1, err)
		}
		if k == nil {
			continue
		}
		if seen[k.id] {
			return nil, fmt.Errorf("key set: key %d: another one has the same kid", i+1)
		}
		seen[k.id] = true
		out.keys = append(out.keys, *k)
	}
	if len(out.keys) == 0 {
		return nil, errors.New("key set: no key for signatures that could be used")
	}
	return out, nil
}

// parseKey gives nil for a key of another use.
func parseKey(raw []byte) (*key, error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, errors.New("not a JSON Web Key")
	}
	if j.Use != "" && j.Use != "sig" || len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify") || j.Kty == "oct" {
		return nil, nil
	}
	if j.D != "" {
		return nil, errors.New("it is a private key: publish only public ones")
	}
	if len(j.Kid) > maxKeyID {
		return nil, fmt.Errorf("its kid is longer than %d bytes", maxKeyID)
	}
	public, algs, err := j.public()
	if err != nil || public == nil {
		return nil, err
	}
	if j.Alg != "" {
		if !slices.Contains(algs, j.Alg) {
			return nil, nil // for something else, or by an algorithm that is not taken
		}
		algs = []string{j.Alg}
	}
	return &key{id: j.Kid, public: public, algorithms: algs}, nil
}

func (j jwk) public() (crypto.PublicKey, []string, error) {
	switch j.Kty {
	case "RSA":
		return j.rsa()
	case "EC":
		return j.ec()
	case "OKP":
		if j.Crv != "Ed25519" {
			return nil, nil, nil
		}
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, nil, errors.New("not an Ed25519 key")
		}
		return ed25519.PublicKey(x), []string{"EdDSA"}, nil
	}
	return nil, nil, nil
}

func (j jwk) rsa() (crypto.PublicKey, []string, error) {
	n, errN := base64.RawURLEncoding.DecodeString(j.N)
	e, errE := base64.RawURLEncoding.DecodeString(j.E)
	if errN != nil || errE != nil || len(e) > 8 {
		return nil, nil, errors.New("not an RSA key")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, nil, fmt.Errorf("an RSA key of %d bits; %d to %d are taken", bits, minRSABits, maxRSABits)
	}
	if exponent < 3 || exponent > maxExponent || exponent%2 == 0 {
		return nil, nil, errors.New("an RSA key with an exponent that is not taken")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent)}, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
}

func (j jwk) ec() (crypto.PublicKey, []string, error) {
	curve, alg := elliptic.Curve(nil), ""
	switch j.Crv {
	case "P-256":
		curve, alg = elliptic.P256(), "ES256"
	case "P-384":
		curve, alg = elliptic.P384(), "ES384"
	case "P-521":
		curve, alg = elliptic.P521(), "ES512"
	default:
		return nil, nil, nil
	}
	size := (curve.Params().BitSize + 7) / 8
	x, errX := base64.RawURLEncoding.DecodeString(j.X)
	y, errY := base64.RawURLEncoding.DecodeString(j.Y)
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, nil, errors.New("not a key on curve " + j.Crv)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, nil, errors.New("not a point on curve " + j.Crv)
	}
	return public, []string{alg}, nil
}

// find is the key that a token's header asks for: by its kid, or the only one where it names none.
func (s *KeySet) find(kid string, named bool) (key, bool) {
	if !named {
		if len(s.keys) == 1 {
			return s.keys[0], true
		}
		return key{}, false
	}
	for _, k := range s.keys {
		if k.id == kid && kid != "" {
			return k, true
		}
	}
	return key{}, false
}
