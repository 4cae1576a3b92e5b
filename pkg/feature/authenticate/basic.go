package authenticate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/invopop/jsonschema"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Basic is the method `basic`: names and passwords of a handful of users, in a file as htpasswd writes it.
type Basic struct {
	// Data is the name of the file's content.
	Data string `json:"data"`

	file policy.Secret
}

// Limits of basic authentication.
const (
	maxUsers       = 256
	maxBcryptCost  = 14
	mostComparing  = 2                       // at once: each is meant to be slow
	comparingTakes = 1500 * time.Millisecond // with those that come before
)

// basicData is what the names of password files start with.
const basicData = "authenticate/basic/"

// UnmarshalNode reads where the file is.
func (b *Basic) UnmarshalNode(at policy.At, p *policy.Problems) {
	policy.Decode(at, &b.file, p)
	sum := sha256.Sum256([]byte(b.file.String()))
	b.Data = basicData + hex.EncodeToString(sum[:8])
}

// JSONSchema describes it.
func (Basic) JSONSchema() *jsonschema.Schema { return policy.Secret{}.JSONSchema() }

func (b *Basic) validate(policy.At, *policy.Problems) {}

func (b *Basic) data() []model.Data {
	return []model.Data{{Name: b.Data, File: b.file.File, Env: b.file.Env, Secret: string(b.file.Secret)}}
}

func (b *Basic) waits() time.Duration { return comparingTakes }

func (b *Basic) check(ctx context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	header, ok := r.Headers["authorization"]
	if !ok {
		return refusedBasic(reasonMissing, "A name and a password are needed.")
	}
	user, password, ok := credentials(header)
	if !ok {
		return refusedBasic(reasonMissing, "A name and a password are needed.")
	}
	users, ok := r.Data(b.Data).(*passwords)
	if !ok {
		return feature.Unavailable("no_keys", "The passwords that this one could be checked by are not known now.")
	}
	right, err := users.verify(ctx, user, password)
	switch {
	case err != nil:
		return feature.Unavailable("overloaded", "There are too many passwords to check now; try again.")
	case !right:
		return refusedBasic("password", "The name or the password is wrong.")
	}
	id.User, id.Issuer = user, "basic"
	return feature.Decision{}
}

func refusedBasic(reason, detail string) feature.Decision {
	return feature.Decision{Status: http.StatusUnauthorized, Reason: reason, Detail: detail, Challenge: `Basic realm="sluice", charset="UTF-8"`}
}

// credentials are the name and password of an Authorization header.
func credentials(header string) (user, password string, ok bool) {
	scheme, text, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "basic") || len(text) > 1024 {
		return "", "", false
	}
	plain, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(text, " "))
	if err != nil {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(plain), ":")
	return user, password, ok && user != ""
}

// passwords are users' bcrypt hashes. A password that was right once is known again by a code that only this process
// can make, until the file changes.
type passwords struct {
	hashes map[string][]byte
	secret [32]byte
	slots  chan struct{}

	mu    sync.Mutex
	right map[string][]byte
}

// parsePasswords reads lines of user:hash; empty ones, and those that start with #, are passed over.
func parsePasswords(body []byte) (*passwords, error) {
	out := &passwords{hashes: map[string][]byte{}, slots: make(chan struct{}, mostComparing), right: map[string][]byte{}}
	if _, err := rand.Read(out.secret[:]); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, _ := strings.Cut(line, ":")
		if err := checkUser(user, hash); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err) // and nothing of the line
		}
		if out.hashes[user] != nil {
			return nil, fmt.Errorf("line %d: the second one of its user", n)
		}
		out.hashes[user] = []byte(hash)
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case len(out.hashes) == 0:
		return nil, errors.New("there are no users: write lines with htpasswd -nB")
	case len(out.hashes) > maxUsers:
		return nil, fmt.Errorf("more than %d users: use an identity provider", maxUsers)
	}
	return out, nil
}

func checkUser(user, hash string) error {
	if user == "" || len(user) > maxUser || strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("not a user's name")
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil:
		return errors.New("not a bcrypt hash: make it with htpasswd -nB")
	case cost > maxBcryptCost:
		return fmt.Errorf("bcrypt of cost %d takes too long: use at most %d", cost, maxBcryptCost)
	}
	return nil
}

// verify tells whether the password is the user's. Unknown users take as long as known ones.
func (p *passwords) verify(ctx context.Context, user, password string) (bool, error) {
	mac := hmac.New(sha256.New, p.secret[:])
	mac.Write([]byte(user + "\x00" + password))
	code := mac.Sum(nil)
	p.mu.Lock()
	before := p.right[user]
	p.mu.Unlock()
	if hmac.Equal(before, code) {
		return true, nil
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	hash, known := p.hashes[user]
	if !known {
		hash = p.any()
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !known {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.right[user] = code
	return true, nil
}

// any is some user's hash.
func (p *passwords) any() []byte {
	for _, hash := range p.hashes {
		return hash
	}
	return nil
}
