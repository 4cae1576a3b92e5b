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
	claims jwt.MapClaims
	until  time.Time
}

func newCache() *cache { return &cache{tokens: map[[sha256.Size]byte]verified{}} }

func (c *cache) get(sum [sha256.Size]byte, now time.Time) (jwt.MapClaims, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.tokens[sum]
	if !ok || !now.Before(v.until) {
		delete(c.tokens, sum)
		return nil, false
	}
	return v.claims, true
}

// put makes room by forgetting any other: a token that is forgotten is only verified again.
func (c *cache) put(sum [sha256.Size]byte, claims jwt.MapClaims, now time.Time) {
	until := now.Add(verifiedForever)
	if exp, err := claims.GetExpirationTime(); err == nil && exp != nil && exp.Before(until) {
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
	c.tokens[sum] = verified{claims, until}
}
