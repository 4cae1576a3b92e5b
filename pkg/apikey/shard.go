package apikey

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Shards is into how many parts the table of keys is divided for agents, by the hash. All of them are always there, also
// those that are empty, so that one which an agent lacks has not arrived yet.
const Shards = 1024

// Entry is one secret as agents know it.
type Entry struct {
	Hash        Hash     `json:"hash"`
	ID          string   `json:"id"`
	Owner       string   `json:"owner"`
	Plan        string   `json:"plan,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
	// Until is when it ends, in milliseconds since 1970; 0 for never.
	Until int64 `json:"until,omitempty"`
}

// Ended tells whether it no longer holds.
func (e *Entry) Ended(now time.Time) bool { return e.Until != 0 && now.UnixMilli() >= e.Until }

// Shard is the part of the table in which a hash is.
func (h Hash) Shard() int { return (int(h[0])<<8 | int(h[1])) % Shards }

// Pack is a shard as agents are given it: the same entries are the same bytes.
func Pack(entries []Entry) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b Entry) int {
		return cmp.Or(bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.ID, b.ID))
	})
	return json.Marshal(append([]Entry{}, sorted...))
}

// Table is a shard as agents look it up. It is not changed.
type Table map[Hash]*Entry

// Unpack reads a shard, strictly.
func Unpack(body []byte) (Table, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var entries []Entry
	if err := d.Decode(&entries); err != nil {
		return nil, fmt.Errorf("a part of the API keys: %w", err)
	}
	if entries == nil || d.More() {
		return nil, fmt.Errorf("a part of the API keys is not a list")
	}
	out := make(Table, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.ID == "" || e.Owner == "" {
			return nil, fmt.Errorf("a part of the API keys: %s is nobody's", e.Hash.Fingerprint())
		}
		out[e.Hash] = e
	}
	return out, nil
}
