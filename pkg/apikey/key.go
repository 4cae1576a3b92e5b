package apikey

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key is what is kept of an API key.
type Key struct {
	ID          string   `json:"id"`
	Owner       string   `json:"owner"`
	Name        string   `json:"name,omitempty"`
	Plan        string   `json:"plan,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
	// Expires is when it ends; nil for never.
	Expires  *time.Time `json:"expires,omitempty"`
	Created  time.Time  `json:"created"`
	By       string     `json:"by,omitempty"`
	Disabled bool       `json:"disabled,omitempty"`
	// Secrets are what it is known by: one, or two while it is being rotated, the newer one first.
	Secrets []Secret `json:"secrets"`
}

// Secret is one text by which a key is known.
type Secret struct {
	Hash    Hash      `json:"hash"`
	Created time.Time `json:"created"`
	// Until is when it ends; nil for as long as the key.
	Until *time.Time `json:"until,omitempty"`
}

// Limits of what a key says of its owner, in bytes and words.
const (
	maxText  = 256
	maxWords = 64
)

// Check refuses what no key can say.
func (k *Key) Check(now time.Time) error {
	if k.Owner == "" {
		return errors.New("a key needs an owner: the user that services see")
	}
	for _, field := range []struct{ name, text string }{{"owner", k.Owner}, {"name", k.Name}, {"plan", k.Plan}} {
		if err := checkText(field.text); err != nil {
			return fmt.Errorf("%s: %w", field.name, err)
		}
	}
	for _, list := range []struct {
		name  string
		words []string
	}{{"scopes", k.Scopes}, {"permissions", k.Permissions}} {
		if err := checkWords(list.words); err != nil {
			return fmt.Errorf("%s: %w", list.name, err)
		}
	}
	if k.Expires != nil && !k.Expires.After(now) {
		return errors.New("expires: that is in the past")
	}
	return nil
}

func checkText(s string) error {
	switch {
	case len(s) > maxText:
		return fmt.Errorf("longer than %d bytes", maxText)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return errors.New("has characters that cannot be printed")
	case strings.Contains(s, Prefix):
		return errors.New("looks like an API key, which is a secret and does not belong here")
	}
	return nil
}

func checkWords(words []string) error {
	if len(words) > maxWords {
		return fmt.Errorf("more than %d", maxWords)
	}
	for _, w := range words {
		if err := checkText(w); err != nil || w == "" || strings.ContainsAny(w, " ,") {
			return fmt.Errorf("%q is not a word", w)
		}
	}
	return nil
}

// Issue gives a key a secret, its only one.
func (k *Key) Issue(now time.Time) (text string) {
	text, hash := Generate()
	k.Secrets = []Secret{{Hash: hash, Created: now}}
	return text
}

// Rotate gives a key a second secret; the one before ends after grace, and any older one at once.
func (k *Key) Rotate(now time.Time, grace time.Duration) (text string) {
	text, hash := Generate()
	secrets := []Secret{{Hash: hash, Created: now}}
	if old := k.live(now); len(old) > 0 && grace > 0 {
		before := old[0]
		if end := now.Add(grace); before.Until == nil || before.Until.After(end) {
			before.Until = &end
		}
		secrets = append(secrets, before)
	}
	k.Secrets = secrets
	return text
}

// live are the secrets that have not ended.
func (k *Key) live(now time.Time) []Secret {
	return slices.DeleteFunc(slices.Clone(k.Secrets), func(s Secret) bool { return s.Until != nil && !s.Until.After(now) })
}

// State is how a key stands, in a word: active, rotating, disabled or expired.
func (k *Key) State(now time.Time) string {
	switch {
	case k.Disabled:
		return "disabled"
	case k.Expires != nil && !k.Expires.After(now):
		return "expired"
	case len(k.live(now)) > 1:
		return "rotating"
	}
	return "active"
}

// Entries are what agents know a key by, an entry for each secret; none of one that is disabled.
func (k *Key) Entries() []Entry {
	if k.Disabled {
		return nil
	}
	var out []Entry
	for _, s := range k.Secrets {
		e := Entry{Hash: s.Hash, ID: k.ID, Owner: k.Owner, Plan: k.Plan, Scopes: k.Scopes, Permissions: k.Permissions}
		for _, end := range []*time.Time{k.Expires, s.Until} {
			if end != nil && (e.Until == 0 || end.UnixMilli() < e.Until) {
				e.Until = end.UnixMilli()
			}
		}
		out = append(out, e)
	}
	return out
}
