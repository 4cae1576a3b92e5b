package authenticate

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of what is remembered of verified tokens.
const (
	mostVerified    = 10_000
	verifiedForever = 60 * time.Second // no longer than this
)

// cache remembers whose signature was right, by the token's SHA-256. It belongs to one key set, and goes with it. What
// the claims say is checked each time. The claims are shared: nobody changes them.
type cache struct {
	mu     sync.Mutex
	tokens map[[sha256.Size]byte]verified
}

type verified struct {
	algorithm string
	claims    jwt.MapClaims
	until     time.Time
}

// sumOf is a token's name in caches.
func sumOf(raw string) [sha256.Size]byte {
	if len(raw) > maxTokenBytes {
		return [sha256.Size]byte{} // never verified
	}
	return sha256.Sum256([]byte(raw))
}

func newCache() *cache { return &cache{tokens: map[[sha256.Size]byte]verified{}} }

func (c *cache) get(sum [sha256.Size]byte, now time.Time) (verified, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.tokens[sum]
	if !ok || !now.Before(v.until) {
		delete(c.tokens, sum)
		return verified{}, false
	}
	return v, true
}

// put makes room by forgetting any other: a token that is forgotten is only verified again.
func (c *cache) put(sum [sha256.Size]byte, v verified, now time.Time) {
	until := now.Add(verifiedForever)
	if exp, err := v.claims.GetExpirationTime(); err == nil && exp != nil && exp.Before(until) {
		until = exp.Time
	}
	if !until.After(now) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tokens) >= mostVerified {
		for other := range c.tokens {
			delete(c.tokens, other)
			break
		}
	}
	v.until = until
	c.tokens[sum] = v
}
