// Package apikey is what an API key is: its text, what is kept of it, and what agents are given to know it by.
package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// Prefix begins every key, so that one that stands where it should not is found by a search.
const Prefix = "slk_"

const (
	randomBytes = 32
	sumBytes    = 4
	textLength  = len(Prefix) + ((randomBytes+sumBytes)*8+4)/5
)

// ErrMalformed says that a text is no key: it was mistyped, cut off, or never one.
var ErrMalformed = errors.New("not an API key, or mistyped")

// Hash is the SHA-256 of a key's text: all that is kept of it. A key is 256 random bits, so that neither a salt nor a slow
// hash would make it harder to find.
type Hash [sha256.Size]byte

// Fingerprint is the start of the hash, by which people find whose key they hold.
func (h Hash) Fingerprint() string { return hex.EncodeToString(h[:6]) }

// Generate makes a key.
func Generate() (text string, hash Hash) {
	raw := make([]byte, randomBytes, randomBytes+sumBytes)
	rand.Read(raw) // never fails
	text = encode(raw)
	return text, sha256.Sum256([]byte(text))
}

// Parse is the hash of a key's text. ErrMalformed when its form or its checksum is wrong.
func Parse(text string) (Hash, error) {
	if len(text) != textLength || text[:len(Prefix)] != Prefix {
		return Hash{}, ErrMalformed
	}
	var raw [(textLength - len(Prefix)) * 5 / 8]byte
	if _, err := alphabet.Decode(raw[:], []byte(text[len(Prefix):])); err != nil {
		return Hash{}, ErrMalformed
	}
	if binary.BigEndian.Uint32(raw[randomBytes:]) != crc32.ChecksumIEEE(raw[:randomBytes]) {
		return Hash{}, ErrMalformed
	}
	return sha256.Sum256([]byte(text)), nil
}

func encode(raw []byte) string {
	return Prefix + alphabet.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
}

// alphabet has nothing that ends a word, and no digits that look like letters.
var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID is a new name for a key, which is no secret.
func NewID() string {
	raw := make([]byte, 10)
	rand.Read(raw) // never fails
	return alphabet.EncodeToString(raw)
}

// ReadHash reads a hash as it is written in hex.
func ReadHash(text string) (h Hash, err error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is not a SHA-256 in hex", text)
	}
	return Hash(b), nil
}

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = ReadHash(string(b))
	return err
}
