package admin

import (
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Key is an API key, without what it is known by.
type Key struct {
	ID          string   `json:"id"`
	Owner       string   `json:"owner"`
	Name        string   `json:"name,omitempty"`
	Plan        string   `json:"plan,omitempty"`
	Scopes      []string `json:"scopes"`
	Permissions []string `json:"permissions"`
	// State is active, rotating, disabled or expired.
	State   string     `json:"state"`
	Created time.Time  `json:"created"`
	By      string     `json:"by,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	// LastUsed is as of a minute or so; absent for never.
	LastUsed *time.Time `json:"lastUsed,omitempty"`
	// Secrets are its texts, the newer first.
	Secrets []KeySecret `json:"secrets"`
}

// KeySecret is one text of a key: by what it is recognized, and how long it holds.
type KeySecret struct {
	// Fingerprint is how the SHA-256 of the text begins, in hex.
	Fingerprint string     `json:"fingerprint"`
	Created     time.Time  `json:"created"`
	Until       *time.Time `json:"until,omitempty"`
}

// NewKeyRequest asks for a key.
type NewKeyRequest struct {
	Owner       string   `json:"owner"`
	Name        string   `json:"name,omitempty"`
	Plan        string   `json:"plan,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
	// Expires is after how long it ends; never when 0.
	Expires policy.Duration `json:"expires,omitempty"`
	Who     string          `json:"who,omitempty"`
}

// IssuedKey is a key with its text, which is shown this once.
type IssuedKey struct {
	Key
	Secret string `json:"secret"`
}

// RotateKeyRequest asks for a second text of a key.
type RotateKeyRequest struct {
	ID string `json:"id"`
	// Grace is how long the one before still holds.
	Grace policy.Duration `json:"grace,omitempty"`
}

// KeyRequest names a key.
type KeyRequest struct {
	ID string `json:"id"`
}

// KeyResult is a key as it is now, or as it was when it was deleted.
type KeyResult struct {
	Key Key `json:"key"`
}

// Keys are API keys, the oldest first.
type Keys struct {
	Keys []Key `json:"keys"`
}

func keyOf(k credentials.KeyStatus, now time.Time) Key {
	out := Key{
		ID: k.ID, Owner: k.Owner, Name: k.Name, Plan: k.Plan, Scopes: append([]string{}, k.Scopes...),
		Permissions: append([]string{}, k.Permissions...), State: k.State(now), Created: k.Created, By: k.By,
		Expires: k.Expires, LastUsed: k.LastUsed, Secrets: []KeySecret{},
	}
	for _, s := range k.Secrets {
		out.Secrets = append(out.Secrets, KeySecret{s.Hash.Fingerprint(), s.Created, s.Until})
	}
	return out
}

var errNoCredentials = &refusal{http.StatusNotFound, CodeNotFound, "this server keeps no API keys and no revocations"}

func (s *Server) createKey(r *http.Request, ask NewKeyRequest) (*IssuedKey, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	now := time.Now()
	key := apikey.Key{Owner: ask.Owner, Name: ask.Name, Plan: ask.Plan, Scopes: ask.Scopes, Permissions: ask.Permissions, By: who(r, ask.Who)}
	if ask.Expires > 0 {
		end := now.Add(ask.Expires.D()).UTC().Truncate(time.Second)
		key.Expires = &end
	}
	made, text, err := s.Keeper.CreateKey(r.Context(), key)
	if err != nil {
		return nil, err
	}
	return &IssuedKey{keyOf(credentials.KeyStatus{Key: *made}, now), text}, nil
}

func (s *Server) rotateKey(r *http.Request, ask RotateKeyRequest) (*IssuedKey, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	key, text, err := s.Keeper.RotateKey(r.Context(), ask.ID, ask.Grace.D())
	if err != nil {
		return nil, err
	}
	return &IssuedKey{keyOf(credentials.KeyStatus{Key: *key}, time.Now()), text}, nil
}

// changeKey is an operation on one key.
func changeKey(do func(k *credentials.Keeper, r *http.Request, id string) (*apikey.Key, error)) func(*Server, *http.Request, KeyRequest) (*KeyResult, error) {
	return func(s *Server, r *http.Request, ask KeyRequest) (*KeyResult, error) {
		if s.Keeper == nil {
			return nil, errNoCredentials
		}
		key, err := do(s.Keeper, r, ask.ID)
		if err != nil {
			return nil, err
		}
		return &KeyResult{keyOf(credentials.KeyStatus{Key: *key}, time.Now())}, nil
	}
}

func disableKey(k *credentials.Keeper, r *http.Request, id string) (*apikey.Key, error) {
	return k.SetDisabled(r.Context(), id, true)
}

func enableKey(k *credentials.Keeper, r *http.Request, id string) (*apikey.Key, error) {
	return k.SetDisabled(r.Context(), id, false)
}

func deleteKey(k *credentials.Keeper, r *http.Request, id string) (*apikey.Key, error) {
	return k.DeleteKey(r.Context(), id)
}

func (s *Server) keys(r *http.Request) (any, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	found, err := s.Keeper.Keys(r.Context(), r.URL.Query().Get("owner"))
	if err != nil {
		return nil, err
	}
	out, now := &Keys{Keys: []Key{}}, time.Now()
	for _, k := range found {
		out.Keys = append(out.Keys, keyOf(k, now))
	}
	return out, nil
}

func (s *Server) key(r *http.Request) (any, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	found, err := s.Keeper.Key(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return &KeyResult{keyOf(*found, time.Now())}, nil
}

func (a NewKeyRequest) auditObject() string { return "owner " + harmless(a.Owner) }

func (a NewKeyRequest) auditSays() string { return a.Who }

func (k *IssuedKey) auditObject() string { return "API key " + k.ID + " of " + k.Owner }

func (a RotateKeyRequest) auditObject() string { return "API key " + harmless(a.ID) }

func (a KeyRequest) auditObject() string { return "API key " + harmless(a.ID) }

// harmless is a name as the audit log may have it: not when somebody has given a secret in its place.
func harmless(name string) string {
	if strings.Contains(name, apikey.Prefix) || strings.Count(name, ".") == 2 && strings.HasPrefix(name, "ey") {
		return "(a secret in the place of a name)"
	}
	return name
}
