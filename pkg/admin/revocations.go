package admin

import (
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

// RevokeRequest asks that something is no longer accepted.
type RevokeRequest struct {
	Kind   revocation.Kind `json:"kind"`
	Value  string          `json:"value"`
	Issuer string          `json:"issuer,omitempty"`
	// All means tokens of a subject that are issued later, too.
	All bool `json:"all,omitempty"`
	// For is how long; for ever when 0.
	For    policy.Duration `json:"for,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Who    string          `json:"who,omitempty"`
}

// UndoRevocationRequest names a revocation.
type UndoRevocationRequest struct {
	ID string `json:"id"`
}

// RevocationResult is a revocation that was made, or taken back.
type RevocationResult struct {
	Revocation revocation.Revocation `json:"revocation"`
	// Unreached are rules that ask who is calling, but by revocation: false not for what is revoked.
	Unreached []string `json:"unreached,omitempty"`
}

// Revocations are those in force, the newest first.
type Revocations struct {
	Revocations []revocation.Revocation `json:"revocations"`
}

func (s *Server) revoke(r *http.Request, ask RevokeRequest) (*RevocationResult, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	asked := revocation.Revocation{Kind: ask.Kind, Value: ask.Value, Issuer: ask.Issuer, All: ask.All, By: who(r, ask.Who), Reason: ask.Reason}
	if ask.For > 0 {
		until := time.Now().Add(ask.For.D()).UTC().Truncate(time.Millisecond)
		asked.Until = &until
	}
	made, err := s.Keeper.Revoke(r.Context(), asked)
	if err != nil {
		return nil, err
	}
	out := &RevocationResult{Revocation: *made}
	if b := s.Controller.Serving(); b != nil {
		out.Unreached = b.Config.Unrevoked()
	}
	return out, nil
}

func (s *Server) undoRevocation(r *http.Request, ask UndoRevocationRequest) (*RevocationResult, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	undone, err := s.Keeper.Undo(r.Context(), ask.ID)
	if err != nil {
		return nil, err
	}
	return &RevocationResult{Revocation: *undone}, nil
}

func (s *Server) revocations(r *http.Request) (any, error) {
	if s.Keeper == nil {
		return nil, errNoCredentials
	}
	found, err := s.Keeper.Revocations(r.Context())
	if err != nil {
		return nil, err
	}
	return &Revocations{append([]revocation.Revocation{}, found...)}, nil
}

func (a RevokeRequest) auditObject() string { return string(a.Kind) + " " + harmless(a.Value) }

func (a RevokeRequest) auditSays() string { return a.Who }

func (v *RevocationResult) auditObject() string {
	return "revocation " + v.Revocation.ID + ": " + RevokeRequest{Kind: v.Revocation.Kind, Value: v.Revocation.Value}.auditObject()
}

func (a UndoRevocationRequest) auditObject() string { return "revocation " + harmless(a.ID) }
