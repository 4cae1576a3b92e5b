package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeyPrefix stands before each key's text, so that people and scanners know one when they see it.
const KeyPrefix = "slmk_"

const keySize = 32

// Key is a master key: it wraps the keys of records. It never shows itself when it is printed.
type Key struct {
	id   string
	aead cipher.AEAD
}

// NewKeyText is the text of a new key.
func NewKeyText() string {
	key := make([]byte, keySize)
	rand.Read(key)
	return KeyPrefix + base64.RawURLEncoding.EncodeToString(key)
}

// ErrBadKey says that a text is no key. It does not show the text.
var ErrBadKey = errors.New("it holds no key for secrets: make one with sluice secrets init-key FILE")

// ParseKey reads a key: the text that NewKeyText makes, or 32 bytes as they are.
func ParseKey(text []byte) (Key, error) {
	key := text
	if coded, ok := strings.CutPrefix(string(bytes.TrimSpace(text)), KeyPrefix); ok {
		var err error
		if key, err = base64.RawURLEncoding.Strict().DecodeString(coded); err != nil {
			return Key{}, ErrBadKey
		}
	}
	if len(key) != keySize {
		return Key{}, ErrBadKey
	}
	sum := sha256.Sum256(append([]byte("sluice key for secrets\x00"), key...))
	return Key{hex.EncodeToString(sum[:6]), newAEAD(key)}, nil
}

// ID names the key without saying anything of it.
func (k Key) ID() string { return k.id }

// String is the ID.
func (k Key) String() string { return k.id }

// newAEAD is AES-256-GCM; each value that it seals begins with a random nonce.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has its size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the cipher has its size
	}
	return aead
}

// envelope is a secret as it is stored: its value under a key of its own, and that key under a master key. Both are
// bound to the secret's name, so that none can be put in another's place.
type envelope struct {
	Format int    `json:"format"`
	KeyID  string `json:"keyId"`
	Key    []byte `json:"key"`
	Sealed []byte `json:"sealed"`
	// Changed is in Unix seconds.
	Changed int64 `json:"changed"`
}

const envelopeFormat = 1

// bound is what a sealed value is bound to.
func bound(what, name string) []byte { return []byte("sluice secret 1\x00" + what + "\x00" + name) }

func seal(k Key, name string, value []byte, changed int64) envelope {
	own := make([]byte, keySize)
	rand.Read(own)
	e := envelope{Format: envelopeFormat, Changed: changed, Sealed: newAEAD(own).Seal(nil, nil, value, bound("value", name))}
	return e.wrapped(k, name, own)
}

func (e envelope) wrapped(k Key, name string, own []byte) envelope {
	e.KeyID, e.Key = k.id, k.aead.Seal(nil, nil, own, bound("key "+k.id, name))
	return e
}

// unwrap is the secret's own key.
func (e envelope) unwrap(ring []Key, name string) ([]byte, error) {
	for _, k := range ring {
		if k.id != e.KeyID {
			continue
		}
		own, err := k.aead.Open(nil, nil, e.Key, bound("key "+k.id, name))
		if err != nil || len(own) != keySize {
			return nil, fmt.Errorf("secret %q: %w", name, ErrAltered)
		}
		return own, nil
	}
	return nil, fmt.Errorf("secret %q: %w (the key %s)", name, ErrNoKey, e.KeyID)
}

func (e envelope) open(ring []Key, name string) ([]byte, error) {
	own, err := e.unwrap(ring, name)
	if err != nil {
		return nil, err
	}
	value, err := newAEAD(own).Open(nil, nil, e.Sealed, bound("value", name))
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, ErrAltered)
	}
	return value, nil
}
