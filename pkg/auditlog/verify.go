package auditlog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// Report is what a log that holds together has.
type Report struct {
	Lines  int    `json:"lines"`
	Denied int    `json:"denied"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	// Hash is that of the last line. Kept elsewhere, it shows later that nothing before it was changed.
	Hash string `json:"hash"`
	// Open are the lines of what began and whose outcome is not known.
	Open []uint64 `json:"open,omitempty"`
	// Notes are what is not wrong, but worth knowing.
	Notes []string `json:"notes,omitempty"`
}

// BrokenError says where a log does not hold together.
type BrokenError struct {
	File   string
	Line   int // in the file, from 1; 0 when it is the whole file
	Reason string
}

// Error says where and why.
func (e *BrokenError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// Known is what is known of a log from elsewhere.
type Known struct {
	// After is the hash of the line before the first one; "" when the log is there from its beginning.
	After string
	// Holds are hashes of lines that must be there.
	Holds []string
}

// Verify reads the files of one log, oldest first, and tells whether they are one chain, and whether the last one ends
// where its head says. An error that is no *BrokenError says that a file cannot be read.
func Verify(files []string, k Known) (*Report, error) {
	v := verifier{report: &Report{}, last: head{hash: Start}, after: k.After, missing: map[string]string{}, began: map[uint64]bool{}}
	for _, hash := range k.Holds {
		v.missing[hash] = "the line with the hash " + hash + " is not there: it was changed or taken away"
	}
	if err := v.expectHead(files[len(files)-1]); err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := v.file(file); err != nil {
			return nil, err
		}
	}
	for _, hash := range slices.Sorted(maps.Keys(v.missing)) {
		return nil, &BrokenError{File: files[len(files)-1], Reason: v.missing[hash]}
	}
	v.report.Open, v.report.Last, v.report.Hash = slices.Sorted(maps.Keys(v.began)), v.last.seq, v.last.hash
	return v.report, nil
}

type verifier struct {
	report  *Report
	last    head
	after   string
	missing map[string]string // hashes that were not seen yet, and what that would mean
	began   map[uint64]bool
}

// expectHead reads the head beside a file before the file, which may grow meanwhile.
func (v *verifier) expectHead(file string) error {
	f, err := os.Open(headPath(file))
	if errors.Is(err, fs.ErrNotExist) {
		v.report.Notes = append(v.report.Notes, headPath(file)+" is not there: lines that were cut off at the end cannot be found")
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := readHead(f)
	if err != nil {
		return &BrokenError{File: headPath(file), Reason: err.Error()}
	}
	if h.seq > 0 {
		v.missing[h.hash] = fmt.Sprintf("line %d, the last one that sluice wrote, is not there: lines were cut off or changed", h.seq)
	}
	return nil
}

func (v *verifier) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			v.report.Notes = append(v.report.Notes, fmt.Sprintf("%s:%d: ends within a line: it is being written, or the machine stopped then", path, n))
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return &BrokenError{path, n, "is longer than any line that sluice writes"}
		case err != nil:
			return err
		}
		if reason := v.line(line[:len(line)-1]); reason != "" {
			return &BrokenError{path, n, reason}
		}
	}
}

// line takes one line, and says what is wrong with it.
func (v *verifier) line(line []byte) string {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil || e.Seq == 0 || e.Prev == "" {
		return "is not what sluice writes: it was changed"
	}
	if v.report.Lines == 0 && e.Seq > 1 {
		if v.after == "" {
			return fmt.Sprintf("begins with line %d: name the files before it too, or give the hash of the line before it", e.Seq)
		}
		v.last = head{seq: e.Seq - 1, hash: v.after}
	}
	switch {
	case e.Seq != v.last.seq+1:
		return fmt.Sprintf("is line %d, and should be line %d: lines were taken away, moved or put in", e.Seq, v.last.seq+1)
	case e.Prev != v.last.hash:
		return fmt.Sprintf("does not follow from the line before: line %d was changed, or this one was put in", v.last.seq)
	}
	v.last = head{seq: e.Seq, hash: hashOf(line)}
	delete(v.missing, v.last.hash)
	v.count(e)
	return ""
}

func (v *verifier) count(e Entry) {
	if v.report.Lines == 0 {
		v.report.First = e.Seq
	}
	v.report.Lines++
	switch e.Kind {
	case Began:
		v.began[e.Seq] = true
	case Done, Failed:
		delete(v.began, e.Of)
	case Denied:
		v.report.Denied++
	}
}
