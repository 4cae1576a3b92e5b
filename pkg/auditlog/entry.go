// Package auditlog keeps who did what to the control plane: lines of JSON in a file that only grows. Each line names the
// SHA-256 of the line before it, so a line that was changed, moved or taken away is found. A change is written before it
// is made and again with what became of it; what cannot be written must not be done.
package auditlog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what a line tells.
type Kind string

// The kinds of lines.
const (
	Began  Kind = "began"  // written before the effect
	Done   Kind = "done"   // it was done; Of is the line that began it
	Failed Kind = "failed" // it was not done, or not known to be; Of is the line that began it
	Denied Kind = "denied" // somebody asked for what is not theirs
)

// Event is what happens, as its caller tells it. It holds no secrets: neither keys, nor tokens, nor what a change says.
type Event struct {
	// Who is the caller as it was authenticated, such as "token ci"; "" when nobody knows.
	Who string `json:"who,omitempty"`
	// Says is whom the caller says it acts for. Nobody has checked that.
	Says string `json:"says,omitempty"`
	// From is the address that the caller has.
	From string `json:"from,omitempty"`
	// Operation is what is asked for: an operation of the admin API, or a door and what was asked there.
	Operation string `json:"operation"`
	// Object is what it is done to.
	Object string `json:"object,omitempty"`
	// Base is the revision that a change is made on, and Revision the one that it made.
	Base     uint64 `json:"base,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	// Digest is the SHA-256 of the request.
	Digest string `json:"digest,omitempty"`
	// Reason is why something was denied, or failed.
	Reason string `json:"reason,omitempty"`
}

// Entry is one line.
type Entry struct {
	// Seq counts the lines from 1, over all files of a log.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	Of   uint64    `json:"of,omitempty"`
	Event
	// Unwritten counts denials from the same address that came too fast, and have no line.
	Unwritten uint64 `json:"unwritten,omitempty"`
	// Prev is the SHA-256 of the line before, without its end; of the first line, zeros.
	Prev string `json:"prev"`
}

// Start is what the first line of a log names as the line before.
const Start = "0000000000000000000000000000000000000000000000000000000000000000"

// The most bytes of a field, so that a stranger cannot fill the disk by long names.
const (
	maxField = 256
	maxLine  = 16 << 10
)

func (e Event) bounded() Event {
	for _, field := range []*string{&e.Who, &e.Says, &e.From, &e.Operation, &e.Object, &e.Digest, &e.Reason} {
		*field = bounded(*field)
	}
	return e
}

// bounded cuts a text between characters. It copies what it keeps, since the rest may be large.
func bounded(s string) string {
	if len(s) <= maxField {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	cut := maxField - len("…")
	for cut > maxField-utf8.UTFMax-len("…") && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.ToValidUTF8(s[:cut], "\uFFFD") + "…"
}

// hashOf names a line by its bytes without its end.
func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}
