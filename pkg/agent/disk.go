package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// diskFormat starts the file of the last good copy. Each line after it is one change: a checksum, and a resource or the
// name of one that is gone, as JSON.
const diskFormat = "sluice-agent 2\n"

// appendedMost is how many bytes of changes are appended before the file is written anew, unless it is larger than that.
const appendedMost = 4 << 20

// line is one change in the file.
type line struct {
	Resource
	Removed bool `json:"removed,omitempty"`
}

// disk is the file of the last good copy. A change is appended to it; what has been replaced goes when the file is written
// anew.
type disk struct {
	file            string
	whole, appended int64 // bytes
	good            bool  // what this process has written is all that the file holds
}

// read is the last good copy; none when there is no file. A last line that is cut off is what a crash leaves: what it
// would have told is sent again. Anything else that is wrong is an error.
func (d *disk) read() (map[key]Resource, error) {
	text, err := os.ReadFile(d.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(text, []byte(diskFormat))
	if !ok {
		return nil, fmt.Errorf("%s: not a copy of this version, or damaged", d.file)
	}
	out := map[key]Resource{}
	for len(rest) > 0 {
		one, more, whole := bytes.Cut(rest, []byte("\n"))
		l, err := parseLine(one)
		if err != nil && (whole || len(more) > 0) {
			return nil, fmt.Errorf("%s: damaged: %w", d.file, err)
		}
		if err == nil && whole {
			put(out, l)
		}
		rest = more
	}
	return out, nil
}

func put(into map[key]Resource, l line) {
	if l.Removed {
		delete(into, l.key())
		return
	}
	into[l.key()] = l.Resource
}

func parseLine(text []byte) (l line, err error) {
	sum, body, ok := bytes.Cut(text, []byte(" "))
	if !ok || string(sum) != checksum(body) {
		return l, errors.New("a checksum is wrong")
	}
	return l, json.Unmarshal(body, &l)
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

func appendLine(to []byte, l line) ([]byte, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	to = append(append(to, checksum(body)...), ' ')
	return append(append(to, body...), '\n'), nil
}

// write has the file hold what is held now, of which these are the changes.
func (d *disk) write(changes []line, held map[key]Resource) error {
	if !d.good || d.appended > max(appendedMost, d.whole) {
		return d.rewrite(held)
	}
	var text []byte
	var err error
	for _, l := range changes {
		if text, err = appendLine(text, l); err != nil {
			return err
		}
	}
	d.good = false // until it is done
	f, err := os.OpenFile(d.file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return d.rewrite(held)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	d.good, d.appended = true, d.appended+int64(len(text))
	return nil
}

// rewrite replaces the file, whole or not at all.
func (d *disk) rewrite(held map[key]Resource) error {
	text := []byte(diskFormat)
	var err error
	for _, r := range held {
		if text, err = appendLine(text, line{Resource: r}); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(d.file), filepath.Base(d.file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.file); err != nil {
		return err
	}
	d.good, d.whole, d.appended = true, int64(len(text)), 0
	return nil
}
