package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// maxLine bounds one line of an export, in bytes.
const maxLine = 64 << 20

var (
	// ErrBadExport refuses an export that was cut short or altered, or that is none.
	ErrBadExport = errors.New("not a whole export: nothing was imported; export again")
	// ErrNewerExport refuses an export in a form that came later than this program.
	ErrNewerExport = errors.New("export of a newer sluice: nothing was imported; import with the version that made it, or a newer one")
)

// ImportOptions say what may be lost.
type ImportOptions struct {
	// Replace allows what the store holds, with its history, to be replaced.
	Replace bool
}

// Import reads an export into the store and returns the head it now has. All of it is read and checked before
// anything is written: ErrBadExport, ErrNewerExport and ErrNotEmpty leave the store as it was.
func Import(ctx context.Context, to Store, from io.Reader, o ImportOptions) (Revision, error) {
	a, err := ReadArchive(from)
	if err != nil {
		return Revision{}, fmt.Errorf("import: %w", err)
	}
	if err := to.Restore(ctx, a, o.Replace); err != nil {
		return Revision{}, fmt.Errorf("import: %w", err)
	}
	return latest(a.Revisions()), nil
}

// ReadArchive reads an export and checks it from the first byte to the last.
func ReadArchive(from io.Reader) (Archive, error) {
	r := newArchiveReader(from)
	for !r.ended {
		if err := r.next(); err != nil {
			return Archive{}, err
		}
	}
	if r.scan.Scan() {
		return Archive{}, fmt.Errorf("line %d: %w: something follows the end", r.lines+1, ErrBadExport)
	}
	return r.archive, r.scan.Err()
}

type archiveReader struct {
	scan    *bufio.Scanner
	sum     hash.Hash
	lines   int
	header  *header
	archive Archive
	state   *Set
	edits   []Edit     // of the revision whose line has not come yet
	record  recordLine // the last one
	ended   bool
}

func newArchiveReader(from io.Reader) *archiveReader {
	empty := NewSet(nil)
	r := &archiveReader{scan: bufio.NewScanner(from), sum: sha256.New(), state: empty}
	r.scan.Buffer(nil, maxLine)
	r.archive = Archive{Base: empty, BaseRevision: latest(nil)}
	return r
}

func (r *archiveReader) next() error {
	if !r.scan.Scan() {
		if err := r.scan.Err(); err != nil {
			return fmt.Errorf("line %d: %w", r.lines+1, err)
		}
		return fmt.Errorf("after line %d: %w: it was cut short, the end line is missing", r.lines, ErrBadExport)
	}
	raw := r.scan.Bytes()
	l, err := parseLine(raw)
	if err == nil {
		err = r.take(l)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", r.lines+1, err)
	}
	r.lines++
	r.sum.Write(raw)
	r.sum.Write([]byte{'\n'})
	return nil
}

// parseLine is strict, except that a header says only its format for certain: the rest may have changed with it.
func parseLine(raw []byte) (line, error) {
	var probe struct {
		Export *struct {
			Format int `json:"format"`
		} `json:"export"`
	}
	if json.Unmarshal(raw, &probe) == nil && probe.Export != nil && probe.Export.Format > ExportFormat {
		return line{}, fmt.Errorf("%w (format %d, this version reads up to %d)", ErrNewerExport, probe.Export.Format, ExportFormat)
	}
	var l line
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return line{}, fmt.Errorf("%w: %w", ErrBadExport, err)
	}
	return l, nil
}

func (r *archiveReader) take(l line) error {
	switch {
	case r.header == nil && l.Export == nil:
		return fmt.Errorf("%w: it does not begin with an export's header", ErrBadExport)
	case l.Export != nil:
		return r.begin(l.Export)
	case l.Object != nil:
		return r.object(*l.Object)
	case l.Delete != nil:
		return r.edit(Edit{Ref: *l.Delete, Before: r.state.Get(*l.Delete)})
	case l.Revision != nil && r.record.Table == "":
		return r.revision(*l.Revision)
	case l.Record != nil:
		return r.takeRecord(*l.Record)
	case l.End != nil:
		return r.end(*l.End)
	}
	return fmt.Errorf("%w: the line says nothing", ErrBadExport)
}

func (r *archiveReader) begin(h *header) error {
	if r.header != nil || h.Format < formatPlain || h.Format > ExportFormat || h.Floor > h.Head {
		return fmt.Errorf("%w: its header makes no sense here", ErrBadExport)
	}
	r.header = h
	return nil
}

func (r *archiveReader) object(o policy.Object) error {
	if err := checkObject(o); err != nil {
		return fmt.Errorf("%w: %w", ErrBadExport, err)
	}
	return r.edit(Edit{Ref: o.Ref, Before: r.state.Get(o.Ref), After: NewEntry(o)})
}

func (r *archiveReader) edit(e Edit) error {
	if n := len(r.edits); n > 0 && r.edits[n-1].Ref.Compare(e.Ref) >= 0 {
		return fmt.Errorf("%w: %s is out of order", ErrBadExport, e.Ref)
	}
	if e.Before == nil && e.After == nil {
		return fmt.Errorf("%w: %s is deleted but was not there", ErrBadExport, e.Ref)
	}
	r.edits = append(r.edits, e)
	return nil
}

// revision ends the edits that came before it: they must lead to its digest.
func (r *archiveReader) revision(rev Revision) error {
	r.state = r.state.With(r.edits)
	if r.state.Digest() != rev.Digest {
		return fmt.Errorf("%w: the objects are not those of revision %d", ErrBadExport, rev.Number)
	}
	if r.header.Floor > 0 && r.archive.BaseRevision.Number == 0 {
		r.archive.Base, r.archive.BaseRevision = r.state, rev
	} else {
		r.archive.Steps = append(r.archive.Steps, Step{Revision: rev, Edits: slices.Clip(r.edits)})
	}
	r.edits = nil
	return nil
}

// takeRecord takes what comes after the last revision, in the order of tables and keys.
func (r *archiveReader) takeRecord(next recordLine) error {
	if err := errors.Join(CheckTable(next.Table), CheckRecord(next.Record)); err != nil {
		return fmt.Errorf("%w: %w", ErrBadExport, err)
	}
	order := cmp.Or(cmp.Compare(r.record.Table, next.Table), cmp.Compare(r.record.Key, next.Key))
	if order >= 0 || len(r.edits) > 0 || r.header.Format == formatPlain {
		return fmt.Errorf("%w: the record %q of %s is out of order", ErrBadExport, next.Key, next.Table)
	}
	if r.archive.Records == nil {
		r.archive.Records = map[string][]Record{}
	}
	r.record = next
	r.archive.Records[next.Table] = append(r.archive.Records[next.Table], next.Record)
	return nil
}

func (r *archiveReader) end(t trailer) error {
	if t.Lines != r.lines || t.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
		return fmt.Errorf("%w: it was altered, its content and its digest differ", ErrBadExport)
	}
	revisions := r.archive.Revisions()
	if len(r.edits) > 0 || r.archive.BaseRevision.Number != r.header.Floor || latest(revisions).Number != r.header.Head {
		return fmt.Errorf("%w: its history is not the one that the header announces", ErrBadExport)
	}
	if Floor(revisions) != r.header.Floor {
		return fmt.Errorf("%w: its history begins at the wrong revision", ErrBadExport)
	}
	if err := checkChain(revisions); err != nil {
		return fmt.Errorf("%w: %w", ErrBadExport, err)
	}
	r.ended = true
	return nil
}
