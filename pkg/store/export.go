package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// ExportFormat is the version of the export's form that is written, and the newest that is read.
const ExportFormat = 2

// formatPlain is the form of an export without records, which older versions read too.
const formatPlain = 1

// line is one line of an export, a JSON object with exactly one of these fields. The objects and deletions of a
// revision stand before it; those before the first revision of a history that was cut are the whole state there. Records
// follow the last revision, sorted by table and key, as they are kept: secrets encrypted, keys hashed. The end line has the number and the SHA-256 of all the bytes before it.
type line struct {
	Export   *header        `json:"export,omitempty"`
	Object   *policy.Object `json:"object,omitempty"`
	Delete   *policy.Ref    `json:"delete,omitempty"`
	Revision *Revision      `json:"revision,omitempty"`
	Record   *recordLine    `json:"record,omitempty"`
	End      *trailer       `json:"end,omitempty"`
}

type header struct {
	Format int `json:"format"`
	// Floor is the revision that the first state is of, Head the last one.
	Floor uint64 `json:"floor"`
	Head  uint64 `json:"head"`
}

type trailer struct {
	Lines  int    `json:"lines"`
	SHA256 string `json:"sha256"`
}

type recordLine struct {
	Table string `json:"table"`
	Record
}

// ExportOptions choose what is exported.
type ExportOptions struct {
	// HeadOnly leaves the history out, and does not read it: it saves the head of a store whose history is damaged.
	HeadOnly bool
	// PoliciesOnly is for readers who may see nothing else: with records in the store, the error is ErrRecords, and
	// nothing is written.
	PoliciesOnly bool
}

// ErrRecords is of an export for readers who may not see what it holds.
var ErrRecords = errors.New("the store holds records beside the policies")

// Export writes a whole site as JSON lines that Import reads into any store.
func Export(ctx context.Context, from Store, to io.Writer, o ExportOptions) error {
	a, err := archiveOf(ctx, from, o)
	if err == nil && o.PoliciesOnly && len(a.Records) > 0 {
		err = ErrRecords
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	w := newLineWriter(to)
	w.archive(a)
	if err := w.end(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func archiveOf(ctx context.Context, from Store, o ExportOptions) (Archive, error) {
	if !o.HeadOnly {
		return from.Archive(ctx)
	}
	rev, objects, err := from.Head(ctx)
	if err != nil {
		return Archive{}, err
	}
	a := headArchive(rev, objects)
	a.Records, err = from.AllRecords(ctx)
	return a, err
}

// lineWriter remembers the first error, so that its callers read straight.
type lineWriter struct {
	out   *bufio.Writer
	json  *json.Encoder
	sum   hash.Hash
	lines int
	err   error
}

func newLineWriter(to io.Writer) *lineWriter {
	w := &lineWriter{out: bufio.NewWriter(to), sum: sha256.New()}
	w.json = json.NewEncoder(io.MultiWriter(w.out, w.sum))
	w.json.SetEscapeHTML(false)
	return w
}

func (w *lineWriter) write(l line) {
	if w.err == nil {
		w.err = w.json.Encode(l)
		w.lines++
	}
}

func (w *lineWriter) archive(a Archive) {
	floor, head := a.BaseRevision.Number, latest(a.Revisions()).Number
	format := formatPlain
	if len(a.Records) > 0 {
		format = ExportFormat
	}
	w.write(line{Export: &header{Format: format, Floor: floor, Head: head}})
	for _, e := range a.Base.Entries() {
		w.write(line{Object: &e.Object})
	}
	if floor > 0 {
		w.write(line{Revision: &a.BaseRevision})
	}
	for _, step := range a.Steps {
		for _, e := range step.Edits {
			if e.After != nil {
				w.write(line{Object: &e.After.Object})
			} else {
				w.write(line{Delete: &e.Ref})
			}
		}
		w.write(line{Revision: &step.Revision})
	}
	for _, table := range slices.Sorted(maps.Keys(a.Records)) {
		for _, r := range a.Records[table] {
			w.write(line{Record: &recordLine{table, r}})
		}
	}
}

func (w *lineWriter) end() error {
	w.write(line{End: &trailer{Lines: w.lines, SHA256: hex.EncodeToString(w.sum.Sum(nil))}})
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}
