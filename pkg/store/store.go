// Package store keeps a site's policies and their history, and beside them small records without one. Every store answers the same contract, Store: numbered
// revisions, changed by compare-and-set, watched, exported and imported. Memory keeps them for as long as the process
// lives; the packages below keep them for longer.
//
// What all of them share stands here: Set is the state at one revision, Change what someone wants, Step what becomes
// of it, and Ledger the rules by which one follows from the others; Table holds records.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// DefaultKeep is how many revisions a store keeps at least, when not told otherwise.
const DefaultKeep = 1000

var (
	// ErrNoRevision says that the revision asked for never was, or is no longer kept.
	ErrNoRevision = errors.New("no such revision")
	// ErrNotEmpty refuses to put an import in the place of what a store holds.
	ErrNotEmpty = errors.New("the store is not empty: import into an empty one, or say that its content may be replaced")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("store is closed")
	// ErrRequestReused refuses a request ID that was committed with another change.
	ErrRequestReused = errors.New("request ID was used for another change: take a new ID for a new change")
	// ErrInvalid refuses a change that no store could hold, or that says two things about one object.
	ErrInvalid = errors.New("invalid change")
	// ErrUnavailable says that the medium cannot be asked now; what was read last can still be read.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrDamaged says that what is stored is not what was written.
	ErrDamaged = errors.New("store is damaged")
)

// ConflictError refuses a change that was made on another revision than the head.
type ConflictError struct {
	// Base is the revision that the change was made on.
	Base uint64
	// Head is the head that it met.
	Head uint64
}

// Error says what happened and what to do.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict: the change was made on revision %d, the head is revision %d: "+
		"look at what changed since and make it again on the head", e.Base, e.Head)
}

// Revision is one entry of the history. Its slices and maps belong to the store and are not to be changed.
type Revision struct {
	// Number counts from 1 without gaps; 0 is the empty store.
	Number uint64 `json:"number"`
	// Parent is the revision that this one changed.
	Parent uint64 `json:"parent"`
	// Time is when it was committed, in UTC.
	Time    time.Time `json:"time"`
	Who     string    `json:"who,omitempty"`
	Message string    `json:"message,omitempty"`
	// Sources are the sources of the objects that were set or deleted, sorted.
	Sources []string `json:"sources,omitempty"`
	// Digest is the content hash of the whole policy set: equal sets have equal digests, whatever their history.
	Digest string `json:"digest"`
	// Snapshots holds, by gateway, the digest of the table that was published for this revision.
	Snapshots map[string]string `json:"snapshots,omitempty"`
	// Set and Deleted count the objects that really changed.
	Set     int `json:"set"`
	Deleted int `json:"deleted"`
	// RollbackOf is the revision that this one went back to, 0 when it is no rollback.
	RollbackOf uint64 `json:"rollbackOf,omitempty"`
	// RequestID is the idempotency key it was committed with, RequestDigest the content hash of what was asked for.
	RequestID     string `json:"requestId,omitempty"`
	RequestDigest string `json:"requestDigest,omitempty"`
}

// Change is what a caller wants done to the policies, all or nothing.
type Change struct {
	// Base is the head that the change was made on; the change is refused when it is no longer the head.
	Base    uint64 `json:"base"`
	Who     string `json:"who,omitempty"`
	Message string `json:"message,omitempty"`
	// Set adds or replaces objects; those that stand there already, the same in every field, are no change.
	Set []policy.Object `json:"set,omitempty"`
	// Delete removes objects; those that are not there are no change.
	Delete []policy.Ref `json:"delete,omitempty"`
	// Snapshots and RollbackOf are kept with the revision.
	Snapshots  map[string]string `json:"snapshots,omitempty"`
	RollbackOf uint64            `json:"rollbackOf,omitempty"`
	// RequestID makes a retry safe: when a kept revision was committed with it, that revision is the answer again.
	RequestID string `json:"requestId,omitempty"`
}

// Store keeps revisions of a site's policies, and records. It is safe for use by several goroutines. Objects that it
// returns are sorted by ref and shared: their Content is not to be changed.
type Store interface {
	Records
	// Head is the newest revision and its objects; Revision.Number is 0 when nothing was ever committed.
	Head(ctx context.Context) (Revision, []policy.Object, error)
	// At is an earlier revision and its objects; ErrNoRevision when it never was or is no longer kept.
	At(ctx context.Context, revision uint64) (Revision, []policy.Object, error)
	// Commit makes the change the new head, durably, before it returns. A change that changes nothing makes no
	// revision and returns the head. Errors: *ConflictError, ErrInvalid, ErrRequestReused, ErrClosed, or what the
	// medium said; after the last of these, whether it was committed is found out by committing it again with the
	// same RequestID.
	Commit(ctx context.Context, change Change) (Revision, error)
	// History is the newest revisions, newest first, limit of them; all that are kept when limit is 0.
	History(ctx context.Context, limit int) ([]Revision, error)
	// Watch sends the present head's number at once and then each new one; a reader that is slow misses numbers but
	// never the newest. The channel is closed when ctx ends or the store is closed.
	Watch(ctx context.Context) <-chan uint64
	// Archive is all that the store holds, its records included, and Restore puts an archive in the place of all that the store holds, all
	// or nothing; ErrNotEmpty when there is something and replace is false. Export and Import give them a form.
	Archive(ctx context.Context) (Archive, error)
	Restore(ctx context.Context, archive Archive, replace bool) error
	// Close ends the store; Watch channels are closed with it.
	Close() error
}
