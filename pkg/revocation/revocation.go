// Package revocation is what is no longer accepted though its bearer can still show it: a person's tokens, one token, or
// an API key.
package revocation

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
)

// Kind is what is revoked.
type Kind string

// The kinds.
const (
	// Subject is everything that a user shows: tokens, keys, certificates, passwords.
	Subject Kind = "subject"
	// Token is one token, by its id (the claim jti).
	Token Kind = "token"
	// Key is one API key, by its id.
	Key Kind = "key"
)

// Revocation is one of them.
type Revocation struct {
	ID    string `json:"id"`
	Kind  Kind   `json:"kind"`
	Value string `json:"value"`
	// Issuer is whose tokens it is about; "" for any.
	Issuer string `json:"issuer,omitempty"`
	// At is when: of a subject, tokens that say that they were issued later are not meant, unless All is set.
	At  time.Time `json:"at"`
	All bool      `json:"all,omitempty"`
	// Until is when it is forgotten; nil for never.
	Until  *time.Time `json:"until,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// maxText bounds what a revocation says, in bytes.
const maxText = 512

// Check refuses what is none.
func (r *Revocation) Check() error {
	switch {
	case !slices.Contains([]Kind{Subject, Token, Key}, r.Kind):
		return fmt.Errorf("%q cannot be revoked: a subject, a token or a key can", r.Kind)
	case r.Value == "":
		return fmt.Errorf("which %s is revoked is not said", r.Kind)
	case strings.Contains(r.Value, "slk_") || strings.HasPrefix(r.Value, "ey") && strings.Count(r.Value, ".") == 2:
		return fmt.Errorf("that is a secret itself: name the %s by its name or id", r.Kind)
	case len(r.Value) > maxText || len(r.Issuer) > maxText || len(r.Reason) > maxText:
		return fmt.Errorf("a text is longer than %d bytes", maxText)
	case r.Kind == Key && r.Issuer != "":
		return errors.New("an API key has no issuer")
	case r.Kind != Subject && r.All:
		return errors.New("only of a subject may tokens that are issued later be refused too")
	case r.Until != nil && !r.Until.After(r.At):
		return errors.New("it would end before it begins")
	}
	return nil
}

// Over tells whether it is no longer in force.
func (r *Revocation) Over(now time.Time) bool { return r.Until != nil && !now.Before(*r.Until) }

// Entry is what agents are given of it.
func (r *Revocation) Entry() Entry {
	e := Entry{Kind: r.Kind, Value: r.Value, Issuer: r.Issuer, All: r.All || r.Kind != Subject, At: r.At.Unix()}
	if r.Until != nil {
		e.Until = r.Until.UnixMilli()
	}
	return e
}

// Shards is into how many parts the table is divided for agents. All of them are always there.
const Shards = 64

// Entry is a revocation as agents know it.
type Entry struct {
	Kind   Kind   `json:"kind"`
	Value  string `json:"value"`
	Issuer string `json:"issuer,omitempty"`
	// All refuses whatever the time of issue; else what was issued up to At, in seconds since 1970.
	All bool  `json:"all,omitempty"`
	At  int64 `json:"at,omitempty"`
	// Until is when it ends, in milliseconds since 1970; 0 for never.
	Until int64 `json:"until,omitempty"`
}

// Credential is what was shown, as far as a revocation may be about it.
type Credential struct {
	Issuer string
	// Issued is when, in seconds since 1970, as the issuer says; 0 when it says nothing.
	Issued int64
}

// Meant tells whether the entry is about a credential. One that does not say when it was issued is.
func (e *Entry) Meant(c Credential, now time.Time) bool {
	switch {
	case e.Until != 0 && now.UnixMilli() >= e.Until:
		return false
	case e.Issuer != "" && e.Issuer != c.Issuer:
		return false
	}
	return e.All || c.Issued <= e.At
}

// Shard is the part of the table in which something is.
func Shard(kind Kind, value string) int {
	h := fnv.New32a()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(value))
	return int(h.Sum32() % Shards)
}

// Pack is a shard as agents are given it: the same entries are the same bytes.
func Pack(entries []Entry) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value), cmp.Compare(a.Issuer, b.Issuer),
			cmp.Compare(a.At, b.At), cmp.Compare(a.Until, b.Until))
	})
	return json.Marshal(append([]Entry{}, sorted...))
}

type name struct {
	kind  Kind
	value string
}

// Table is a shard as agents look it up. It is not changed.
type Table struct{ entries map[name][]Entry }

// Unpack reads a shard, strictly.
func Unpack(body []byte) (*Table, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var entries []Entry
	if err := d.Decode(&entries); err != nil {
		return nil, fmt.Errorf("a part of the revocations: %w", err)
	}
	if entries == nil || d.More() {
		return nil, errors.New("a part of the revocations is not a list")
	}
	t := &Table{map[name][]Entry{}}
	for _, e := range entries {
		n := name{e.Kind, e.Value}
		t.entries[n] = append(t.entries[n], e)
	}
	return t, nil
}

// Revoked tells whether a credential is no longer accepted.
func (t *Table) Revoked(kind Kind, value string, c Credential, now time.Time) bool {
	for i := range t.entries[name{kind, value}] {
		if t.entries[name{kind, value}][i].Meant(c, now) {
			return true
		}
	}
	return false
}
