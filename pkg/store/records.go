package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// The tables that are in use. Every table is there, empty until something is written to it.
const (
	// TableKeys holds API keys, TableRevocations what is no longer accepted, TableSecrets secrets, encrypted.
	TableKeys        = "api-keys"
	TableRevocations = "revocations"
	TableSecrets     = "secrets"
	// TableACME holds what was obtained from certificate authorities, encrypted, and TableACMELocks who is at it.
	TableACME      = "acme"
	TableACMELocks = "acme-locks"
)

const (
	// MaxRecord bounds a record's value, in bytes.
	MaxRecord = 256 << 10
	// MaxRecordKey bounds a record's key, in bytes.
	MaxRecordKey = 512
)

// ErrNoRecord says that a table has no record of that key.
var ErrNoRecord = errors.New("no such record")

// RecordConflictError refuses a change that was made on another version of a record than the present one.
type RecordConflictError struct {
	Table, Key string
	// Base is the version that the change was made on, Version the present one; 0 when there is no record.
	Base, Version uint64
}

// Error says what happened and what to do.
func (e *RecordConflictError) Error() string {
	switch {
	case e.Base == 0:
		return fmt.Sprintf("conflict: %s has a record %q already", e.Table, e.Key)
	case e.Version == 0:
		return fmt.Sprintf("conflict: the record %q of %s is gone: somebody deleted it meanwhile", e.Key, e.Table)
	}
	return fmt.Sprintf("conflict: the record %q of %s has changed meanwhile: read it and make the change again", e.Key, e.Table)
}

// Record is one value of a table.
type Record struct {
	// Key is any text of 1 to MaxRecordKey bytes.
	Key string `json:"key"`
	// Value is at most MaxRecord bytes, shared with the store: it is not to be changed.
	Value []byte `json:"value"`
	// Version is another one after each change and never comes back, not even when the record is deleted and made
	// anew. It says nothing more: versions have no order. 0 is that of a record that is not there.
	Version uint64 `json:"-"`
}

// RecordChange is one record as it is now, or one that is gone.
type RecordChange struct {
	Record
	Deleted bool
}

// RecordBatch is what a watcher gets.
type RecordBatch struct {
	// Reset says that Changes are all the records that there are, so that whatever else a reader holds is gone.
	Reset bool
	// Changes are in the order in which they happened; of several of one key the last holds.
	Changes []RecordChange
}

// Records are small values by table and key, beside the policies and without a history: API keys, revocations,
// secrets. What is told to a watcher, read and written for a change is in proportion to the change, not to the table.
//
// A table's name is lower-case letters, digits and hyphens. Errors of all methods: ErrInvalid, ErrClosed, or what the
// medium said.
type Records interface {
	// Records are all of a table, sorted by key.
	Records(ctx context.Context, table string) ([]Record, error)
	// Record is the record of a key; ErrNoRecord when there is none.
	Record(ctx context.Context, table, key string) (Record, error)
	// AllRecords are those of all tables that have some, by table.
	AllRecords(ctx context.Context) (map[string][]Record, error)
	// WriteRecords makes changes, all or nothing, durably, before it returns the records as they are now, in the order
	// of the changes. Each change names the version that it replaces, 0 to make a new record; *RecordConflictError
	// when one is not the present one. No key may stand there twice. After an error of the medium, what became of the
	// changes is found out by reading.
	WriteRecords(ctx context.Context, table string, changes ...RecordChange) ([]Record, error)
	// WatchRecords sends first all records of a table, as soon as they are known, and then what changed. Changes that
	// a reader has not taken yet are put together, and replaced by a reset when they have become more than the table.
	// The channel is closed when ctx ends or the store is closed.
	WatchRecords(ctx context.Context, table string) <-chan RecordBatch
}

// CheckTable refuses names that are no table's.
func CheckTable(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("%w: %q is no name of a table", ErrInvalid, name)
	}
	return nil
}

// CheckRecord refuses what no store could hold.
func CheckRecord(r Record) error {
	switch {
	case r.Key == "" || len(r.Key) > MaxRecordKey || !utf8.ValidString(r.Key) || strings.ContainsRune(r.Key, 0):
		return fmt.Errorf("%w: a record's key is text of 1 to %d bytes", ErrInvalid, MaxRecordKey)
	case len(r.Value) > MaxRecord:
		return fmt.Errorf("%w: the record %q has %d bytes, at most %d can be kept", ErrInvalid, r.Key, len(r.Value), MaxRecord)
	}
	return nil
}

// newVersion never gives 0, and fits into every JSON reader's number.
func newVersion() uint64 { return 1 + rand.Uint64N(1<<53-1) }
