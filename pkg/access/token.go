package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// TokenPrefix stands before each token, so that people and scanners know one when they see it.
const TokenPrefix = "slt_"

// A token is its prefix and, in base64url, 256 random bits with a check sum of both.
const (
	secretBytes = 32
	sumBytes    = 4
	tokenLength = len(TokenPrefix) + (secretBytes+sumBytes)*4/3
)

// ErrToken is of a text that is no token: mistyped, cut short, or something else.
var ErrToken = errors.New("this is no token of sluice: one begins with " + TokenPrefix + "; it is mistyped, cut short, or something else")

// Digest is what is kept of a token.
type Digest [sha256.Size]byte

// NewToken makes a token, and what is kept of it.
func NewToken() (token string, digest Digest) {
	var secret [secretBytes]byte
	_, _ = rand.Read(secret[:]) // it never fails: the program ends instead
	token = TokenPrefix + base64.RawURLEncoding.EncodeToString(append(secret[:], checksum(secret[:])...))
	return token, sha256.Sum256([]byte(token))
}

// ParseToken gives what is kept of a token. The error is ErrToken, and holds none of the text.
func ParseToken(text string) (Digest, error) {
	body, ours := strings.CutPrefix(text, TokenPrefix)
	if !ours || len(text) != tokenLength {
		return Digest{}, ErrToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != secretBytes+sumBytes || !bytes.Equal(raw[secretBytes:], checksum(raw[:secretBytes])) {
		return Digest{}, ErrToken
	}
	return sha256.Sum256([]byte(text)), nil
}

// checksum finds mistakes before anybody is asked. It keeps nothing secret.
func checksum(secret []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(append([]byte(TokenPrefix), secret...)))
}

// MarshalText writes a digest in hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (d *Digest) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(d) || hex.EncodeToString(raw) != string(text) {
		return fmt.Errorf("a digest has %d hexadecimal digits, in small letters", 2*len(d))
	}
	copy(d[:], raw)
	return nil
}
