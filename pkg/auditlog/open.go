package auditlog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrInUse says that another process has the log open.
var ErrInUse = errors.New("is in use by another process")

// open takes the lock, and finds the end of the log.
func (l *Log) open() (err error) {
	if l.marker, err = os.OpenFile(headPath(l.path), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := lock(l.marker); err != nil {
		return err
	}
	if l.head, err = readHead(l.marker); err != nil {
		return err
	}
	info, err := os.Lstat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.inPlace() // makes it, so that what cannot be written shows at the start
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("is no regular file")
	}
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_APPEND, 0); err != nil {
		return err
	}
	return l.resume()
}

// resume finds the last line. Lines may follow the head, when the machine stopped between the two, and half a line after
// them, which was never acted on: it is taken away.
func (l *Log) resume() error {
	size, err := l.size()
	if err != nil {
		return err
	}
	if !l.endsHere(size) {
		return l.cut()
	}
	rest := bufio.NewReader(io.NewSectionReader(l.file, l.head.offset, size-l.head.offset))
	for {
		line, err := rest.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			l.log.Warn("the audit log ended within a line, of something that was not done: it is taken away", "file", l.path, "bytes", len(line))
			return l.file.Truncate(l.head.offset)
		case err != nil:
			return err
		case !l.head.leads(line):
			return l.cut()
		}
		l.head = l.head.after(line)
	}
}

func (l *Log) cut() error {
	return fmt.Errorf("does not go on from line %d as it was left: it was cut or changed: `sluice audit-log verify` says where; "+
		"move it and %s away to begin a new one", l.head.seq, l.marker.Name())
}

func (l *Log) size() (int64, error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// endsHere tells whether the head's line ends in this file where the head says. The line is read from where it begins,
// which is found by looking back.
func (l *Log) endsHere(size int64) bool {
	end := l.head.offset
	if end == 0 || end > size {
		return end == 0
	}
	tail := make([]byte, min(end, maxLine))
	if _, err := l.file.ReadAt(tail, end-int64(len(tail))); err != nil || tail[len(tail)-1] != '\n' {
		return false
	}
	line := tail[:len(tail)-1]
	for i := len(line) - 1; i >= 0; i-- {
		if line[i] == '\n' {
			line = line[i+1:]
			break
		}
	}
	return hashOf(line) == l.head.hash
}

// leads tells whether a line is the next one.
func (h head) leads(line []byte) bool {
	var e Entry
	return json.Unmarshal(line, &e) == nil && e.Seq == h.seq+1 && e.Prev == h.hash
}

// after is the head when a line, with its end, was added.
func (h head) after(line []byte) head {
	return head{h.seq + 1, h.offset + int64(len(line)), hashOf(line[:len(line)-1])}
}
