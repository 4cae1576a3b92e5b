package access

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Tokens are those of a file, which is followed: what is written there counts from the next request on. While the file
// cannot be read or makes no sense, no token counts.
type Tokens struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	list  []Token
	seen  os.FileInfo // what list was read from, nil when it could not be
	wrong error
}

// racy is how young a file may be for another write to leave its time and size as they are.
const racy = 2 * time.Second

// OpenTokens reads a token file for the first time. It is an error when that cannot be.
func OpenTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log, now: time.Now}
	_, err := t.current()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: `sluice tokens create` makes a token, and the file", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: it must belong to the user that this runs as", err)
	case err != nil:
		return nil, err
	}
	return t, nil
}

// errUnknownToken and errExpired are of tokens that let nobody in.
var errUnknownToken = errors.New("the token is not known here: it was deleted, or is another server's")

// errTokensUnreadable says that nothing can be said of any token.
var errTokensUnreadable = errors.New("the token file cannot be read now, so no token counts: the server's log says why")

// find gives what is kept of a token that counts now.
func (t *Tokens) find(d Digest) (Token, error) {
	list, err := t.current()
	if err != nil {
		return Token{}, errTokensUnreadable
	}
	found := -1
	for i := range list { // all of them, so that how long it takes says nothing
		if subtle.ConstantTimeCompare(list[i].SHA256[:], d[:]) == 1 {
			found = i
		}
	}
	switch {
	case found < 0:
		return Token{}, errUnknownToken
	case list[found].Expired(t.now()):
		return Token{}, fmt.Errorf("the token %s expired on %s: make another one with `sluice tokens create`",
			list[found].Name, list[found].Expires.UTC().Format(time.DateTime))
	}
	return list[found], nil
}

// current is what the file has now.
func (t *Tokens) current() ([]Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.path)
	if err == nil && t.same(info) {
		return t.list, nil
	}
	if err == nil {
		t.list, t.seen, err = readTokens(t.path)
	}
	if err != nil {
		t.list, t.seen = nil, nil
		if t.wrong == nil || t.wrong.Error() != err.Error() {
			t.log.Error("the token file cannot be read: no token counts", "error", err)
		}
	}
	t.wrong = err
	return t.list, err
}

// same tells whether a file is surely as it was read.
func (t *Tokens) same(info os.FileInfo) bool {
	return t.seen != nil && os.SameFile(info, t.seen) && info.ModTime().Equal(t.seen.ModTime()) && info.Size() == t.seen.Size() &&
		info.Mode() == t.seen.Mode() && t.now().Sub(info.ModTime()) > racy
}
