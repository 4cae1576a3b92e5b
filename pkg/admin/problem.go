package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

// Code names a kind of refusal; codes are stable.
type Code string

// The codes.
const (
	CodeProblems   Code = "problems"     // the policies have errors; nothing was stored
	CodeConflict   Code = "conflict"     // somebody else was faster
	CodeRemovals   Code = "removals"     // the change removes too much
	CodeNotFound   Code = "not-found"    // an object or revision that is not there
	CodeNotEmpty   Code = "not-empty"    // an import would replace what is stored
	CodeBadRequest Code = "bad-request"  // the request makes no sense
	CodeTooLarge   Code = "too-large"    // the request is too large
	CodeReadOnly   Code = "read-only"    // this server takes no changes
	CodeForeign    Code = "foreign"      // the request comes from a foreign page, or is for a foreign host
	CodeStarting   Code = "starting"     // not ready yet
	CodeStore      Code = "store"        // the store cannot be asked now
	CodeInternal   Code = "internal"     // the program or its machine
	CodeMethod     Code = "wrong-method" // the path takes other methods
	CodeInUse      Code = "in-use"       // policies name what would be deleted
	CodeNoKey      Code = "no-key"       // this server has no key for secrets
	CodeAudit      Code = "audit-log"    // the audit log cannot be written, so nothing is changed

	CodeUnauthenticated Code = "unauthenticated" // nobody knows who asks
	CodeForbidden       Code = "forbidden"       // who asks has not the role that it needs
	CodeTooOften        Code = "too-often"       // too many requests that nobody may make
)

// Problem is every answer that is an error, as application/problem+json.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"`
	// Problems are what is wrong with the policies; Dropped counts those not listed.
	Problems []policy.Problem `json:"problems,omitempty"`
	Dropped  int              `json:"dropped,omitempty"`
	// Base and Head are the revisions of a conflict.
	Base *uint64 `json:"base,omitempty"`
	Head *uint64 `json:"head,omitempty"`
}

// refusal is an error with its answer.
type refusal struct {
	status int
	code   Code
	detail string
}

func (r *refusal) Error() string { return r.detail }

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	p.Type, p.Title = "urn:sluice:problem:"+string(p.Code), http.StatusText(p.Status)
	if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

func problemOf(err error) Problem {
	var (
		refused  *refusal
		problems *control.Problems
		conflict *store.ConflictError
		stopped  *access.RefusedError
		raced    *store.RecordConflictError
	)
	p := Problem{Status: http.StatusInternalServerError, Code: CodeInternal, Detail: err.Error()}
	switch {
	case errors.As(err, &refused):
		p.Status, p.Code = refused.status, refused.code
	case errors.As(err, &stopped):
		p.Status, p.Code = stoppedAs(stopped.Reason)
	case errors.As(err, &problems):
		p.Status, p.Code, p.Problems, p.Dropped = http.StatusUnprocessableEntity, CodeProblems, problems.List, problems.Dropped
		p.Detail = "the policies have errors; nothing was stored"
	case errors.As(err, &conflict):
		p.Status, p.Code, p.Base, p.Head = http.StatusConflict, CodeConflict, &conflict.Base, &conflict.Head
	case errors.As(err, &raced):
		p.Status, p.Code = http.StatusConflict, CodeConflict
	case errors.Is(err, errInUse):
		p.Status, p.Code = http.StatusConflict, CodeInUse
	case errors.Is(err, vault.ErrNoKeys):
		p.Status, p.Code = http.StatusConflict, CodeNoKey
	case errors.Is(err, credentials.ErrUnknown), errors.Is(err, vault.ErrNoSecret):
		p.Status, p.Code = http.StatusNotFound, CodeNotFound
	case errors.Is(err, credentials.ErrInvalid), errors.Is(err, vault.ErrInvalid):
		p.Status, p.Code = http.StatusBadRequest, CodeBadRequest
	case errors.Is(err, control.ErrRemovals):
		p.Status, p.Code = http.StatusConflict, CodeRemovals
	case errors.Is(err, control.ErrUnknownObject), errors.Is(err, store.ErrNoRevision):
		p.Status, p.Code = http.StatusNotFound, CodeNotFound
	case errors.Is(err, store.ErrNotEmpty):
		p.Status, p.Code = http.StatusConflict, CodeNotEmpty
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrRequestReused), errors.Is(err, store.ErrBadExport), errors.Is(err, store.ErrNewerExport):
		p.Status, p.Code = http.StatusBadRequest, CodeBadRequest
	case errors.Is(err, errStarting):
		p.Status, p.Code = http.StatusServiceUnavailable, CodeStarting
	case errors.Is(err, store.ErrUnavailable):
		p.Status, p.Code = http.StatusServiceUnavailable, CodeStore
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p.Status = http.StatusServiceUnavailable
	}
	return p
}

func stoppedAs(reason access.Reason) (int, Code) {
	switch reason {
	case access.Unknown:
		return http.StatusUnauthorized, CodeUnauthenticated
	case access.TooOften:
		return http.StatusTooManyRequests, CodeTooOften
	case access.Unreadable:
		return http.StatusServiceUnavailable, CodeInternal
	}
	return http.StatusForbidden, CodeForbidden
}

func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "the answer cannot be written: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("content-type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}
