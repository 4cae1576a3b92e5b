package auditlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Log is an open log. A nil Log keeps nothing, and lets everything be done. Its methods may be called at once.
type Log struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	marker  *os.File // FILE.head, locked for as long as the log is open
	file    *os.File // nil before the first line of a new file
	head    head     // the last line, and how long the file is
	wrong   error    // why the last line could not be written; nil when it was
	owed    []Entry  // outcomes that could not be written; they come before the next line
	denials denials
}

// Config is what a Log works with.
type Config struct {
	// Path is the file. It is made when it is missing; so is Path.head beside it.
	Path string
	// Log is told what cannot be written.
	Log *slog.Logger
	// Now is the clock; the real one when nil.
	Now func() time.Time
}

// Open opens a log and goes on after its last line. It is an error when the file is not as it was left, or when another
// process has it open.
func Open(c Config) (*Log, error) {
	l := &Log{path: c.Path, log: c.Log, now: c.Now}
	if l.now == nil {
		l.now = time.Now
	}
	l.denials = newDenials(l.now)
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", c.Path, err), l.closeFiles())
	}
	return l, nil
}

// Change is something that has begun.
type Change struct {
	log   *Log
	seq   uint64
	event Event
}

// Begin writes that something is about to be done. With an error it must not be.
func (l *Log) Begin(e Event) (*Change, error) {
	if l == nil {
		return &Change{}, nil
	}
	seq, err := l.write(Entry{Kind: Began, Event: e})
	if err != nil {
		return nil, err
	}
	return &Change{log: l, seq: seq, event: e}, nil
}

// On names what it is done to, where that is known only afterwards.
func (c *Change) On(object string) { c.event.Object = object }

// Done writes that it was done: on which revision, and which one that made; 0 where there is none. That it could not be
// written is logged, and shows at Err: what was done is done, the next change is refused while that lasts, and it is written then.
func (c *Change) Done(base, revision uint64) {
	e := c.event
	e.Base, e.Revision = base, revision
	c.end(Done, e)
}

// Failed writes that it was not done, and why: a code or a short text without secrets.
func (c *Change) Failed(reason string) {
	e := c.event
	e.Reason = reason
	c.end(Failed, e)
}

func (c *Change) end(kind Kind, e Event) {
	if c.log == nil {
		return
	}
	outcome := Entry{Kind: kind, Of: c.seq, Event: e}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if _, err := c.log.append(outcome); err != nil { // it is logged there
		c.log.owed = append(c.log.owed, outcome) // few: nothing begins meanwhile
	}
}

// Denied writes that somebody was denied something. From one address come some lines a second at most; what comes faster
// is counted in the next line.
func (l *Log) Denied(e Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if unwritten, ok := l.denials.admit(e); ok {
		_, _ = l.append(Entry{Kind: Denied, Event: e, Unwritten: unwritten}) // it is logged there
	}
}

// Err is why the last line could not be written, nil when it was.
func (l *Log) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrong
}

// Head is the number and the hash of the last line.
func (l *Log) Head() (seq uint64, hash string) {
	if l == nil {
		return 0, Start
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head.seq, l.head.hash
}

// Close writes what was counted and not written yet, and lets the file go.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	last := l.denials.rest()
	if len(l.owed) > 0 {
		last, l.owed = append(l.owed, last...), nil
	}
	for _, e := range last {
		_, failed := l.append(e)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var err error
	for _, f := range []*os.File{l.file, l.marker} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	l.file, l.marker = nil, nil
	return err
}

func (l *Log) write(e Entry) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(e)
}

// append writes one line, and has it on the disk when it returns.
func (l *Log) append(e Entry) (uint64, error) {
	err := l.inPlace()
	if err == nil {
		err = l.lines(e)
	}
	if err != nil {
		err = fmt.Errorf("audit log %s: %w", l.path, err)
		l.log.Error("the audit log cannot be written", "kind", e.Kind, "operation", e.Operation, "who", e.Who, "from", e.From, "of", e.Of, "error", err)
	}
	l.wrong = err
	return l.head.seq, err
}

// lines writes what is owed, and a line.
func (l *Log) lines(e Entry) error {
	for len(l.owed) > 0 {
		if err := l.line(l.owed[0]); err != nil {
			return err
		}
		l.owed = l.owed[1:]
	}
	return l.line(e)
}

func (l *Log) line(e Entry) error {
	e.Seq, e.Time, e.Prev, e.Event = l.head.seq+1, l.now().UTC(), l.head.hash, e.bounded()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		// Half a line must not stand before the next one. Where it cannot be taken back, inPlace refuses from now on.
		return errors.Join(err, l.file.Truncate(l.head.offset))
	}
	if err := l.file.Sync(); err != nil {
		return errors.Join(err, l.file.Truncate(l.head.offset))
	}
	l.head = head{e.Seq, l.head.offset + int64(len(line)) + 1, hashOf(line)}
	return l.mark()
}

// inPlace sees to it that the open file is the one at the path, as it was left. One that was moved away is followed by a
// new one, which goes on with the numbers and the chain.
func (l *Log) inPlace() error {
	if l.marker == nil {
		return errors.New("is closed")
	}
	at, err := os.Lstat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.create()
	case err != nil:
		return err
	case l.file == nil:
		return errors.New("was made by something else: move it away")
	}
	have, err := l.file.Stat()
	switch {
	case err != nil:
		return err
	case !os.SameFile(at, have):
		return errors.New("is another file now: move it away, and a new one is begun")
	case have.Size() != l.head.offset:
		return fmt.Errorf("has %d bytes, and was left with %d: something else wrote or cut it: move it away, and a new one is begun", have.Size(), l.head.offset)
	}
	return nil
}

// create begins a new file. The head says so first: an empty file that it does not expect is one that was cut.
func (l *Log) create() error {
	before := l.head
	l.head.offset = 0
	err := l.mark()
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(l.path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	}
	if err != nil {
		l.head = before
		return errors.Join(err, l.mark())
	}
	if l.file != nil {
		_ = l.file.Close() // all of it was synced
	}
	l.file = f
	return nil
}

// mark writes the head down.
func (l *Log) mark() error {
	if _, err := l.marker.WriteAt(l.head.text(), 0); err != nil {
		return fmt.Errorf("%s: %w", l.marker.Name(), err)
	}
	return nil
}
