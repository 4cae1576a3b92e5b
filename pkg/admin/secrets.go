package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

// Vault keeps secrets. What it is given it never gives back here.
type Vault interface {
	Set(ctx context.Context, name string, value []byte) error
	Delete(ctx context.Context, name string) error
	List(ctx context.Context) ([]vault.Info, error)
	Rotate(ctx context.Context) (int, error)
}

// SetSecretRequest makes a secret of the store, or gives it another value.
type SetSecretRequest struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// DeleteSecretRequest forgets a secret of the store.
type DeleteSecretRequest struct {
	Name string `json:"name"`
	// Force deletes it although policies name it.
	Force bool `json:"force,omitempty"`
}

// RotateSecretsRequest asks for all secrets to be put under the key that the server was started with first.
type RotateSecretsRequest struct{}

// SecretChanged is what became of a change.
type SecretChanged struct {
	// UsedBy are the objects that name the secret.
	UsedBy []policy.Ref `json:"usedBy"`
}

// SecretsRotated is what became of a rotation.
type SecretsRotated struct {
	// Rotated counts the secrets that were under another key.
	Rotated int `json:"rotated"`
	// Problem is why some are still under another.
	Problem string `json:"problem,omitempty"`
}

// Secrets are the secrets of the store, without their values.
type Secrets struct {
	Secrets []Secret `json:"secrets"`
}

// Secret is what is known of one.
type Secret struct {
	vault.Info
	UsedBy []policy.Ref `json:"usedBy"`
}

// errInUse refuses to delete what policies need.
var errInUse = errors.New("in use")

func (s *Server) setSecret(r *http.Request, ask SetSecretRequest) (*SecretChanged, error) {
	if err := s.Vault.Set(context.WithoutCancel(r.Context()), ask.Name, ask.Value); err != nil {
		return nil, err
	}
	s.Log.Info("a secret was set", "secret", ask.Name)
	return &SecretChanged{s.usersOf(ask.Name)}, nil
}

func (s *Server) deleteSecret(r *http.Request, ask DeleteSecretRequest) (*SecretChanged, error) {
	users := s.usersOf(ask.Name)
	if len(users) > 0 && !ask.Force {
		return nil, fmt.Errorf("secret %q is %w: %s names it, and would not work after a restart: change that first", ask.Name, errInUse, listed(users))
	}
	if err := s.Vault.Delete(context.WithoutCancel(r.Context()), ask.Name); err != nil {
		return nil, err
	}
	s.Log.Info("a secret was deleted", "secret", ask.Name, "forced", len(users) > 0)
	return &SecretChanged{users}, nil
}

func (s *Server) rotateSecrets(r *http.Request, _ RotateSecretsRequest) (*SecretsRotated, error) {
	n, err := s.Vault.Rotate(context.WithoutCancel(r.Context()))
	switch {
	case errors.Is(err, vault.ErrNoKey), errors.Is(err, vault.ErrAltered):
		return &SecretsRotated{n, err.Error()}, nil
	case err != nil:
		return nil, err
	}
	s.Log.Info("secrets were put under another key", "secrets", n)
	return &SecretsRotated{Rotated: n}, nil
}

func (s *Server) listSecrets(r *http.Request) (any, error) {
	list, err := s.Vault.List(r.Context())
	if err != nil {
		return nil, err
	}
	out := &Secrets{Secrets: make([]Secret, len(list))}
	for i, info := range list {
		out.Secrets[i] = Secret{info, s.usersOf(info.Name)}
	}
	return out, nil
}

// usersOf are the objects served that name a secret.
func (s *Server) usersOf(name string) []policy.Ref {
	out := []policy.Ref{}
	b := s.Controller.Serving()
	if b == nil {
		return out
	}
	for _, u := range b.Config.StoreSecrets {
		if ref := (policy.Ref{Kind: u.Kind, Name: u.Object}); u.Name == name && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

func listed(refs []policy.Ref) string {
	var names []string
	for _, ref := range refs {
		names = append(names, ref.String())
	}
	return strings.Join(names, ", ")
}

// auditObject leaves out what is no name: a secret may stand there by mistake.
func (r SetSecretRequest) auditObject() string { return named(r.Name) }

func (r DeleteSecretRequest) auditObject() string { return named(r.Name) }

func named(name string) string {
	if policy.ValidName(name) {
		return name
	}
	return ""
}
