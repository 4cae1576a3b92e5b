// Package source reads policies from where people keep them: files, folders and standard input. Nothing above the
// folder that is named is ever read, also not through links.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// What one load may hold: far above what people write, far below what hurts.
const (
	MaxFiles        = 50_000
	MaxTotalBytes   = 48 << 20
	MaxContentBytes = 4 << 20
)

// Stdin is the name that stands for standard input.
const Stdin = "-"

// Loader reads policies.
type Loader struct {
	// Stdin is what "-" reads. Nil is empty.
	Stdin io.Reader
	// Wanted names the files that an object takes text from, relative to its own file. Required.
	Wanted func(policy.Object) []string
	// Source is what objects are marked with; empty means the name of what is loaded.
	Source string
}

// Policies are what was read.
type Policies struct {
	// Objects are sorted by file and line.
	Objects  []policy.Object
	Problems policy.Problems
	// Source is what the objects are marked with.
	Source string
	// Files counts the files read, Foreign the documents of other systems in them.
	Files, Foreign int
}

// Load reads files, folders and "-". What is wrong inside a file is a Problem; an error means that a name itself
// could not be read.
func (l Loader) Load(ctx context.Context, names ...string) (*Policies, error) {
	if len(names) == 0 {
		return nil, errors.New("no policies are named: use -f FILE, -f FOLDER or -f -")
	}
	r := &reader{ctx: ctx, loader: l, out: &Policies{Source: cmp.Or(l.Source, defaultSource(names))}, seen: map[string]bool{}}
	for _, name := range names {
		if err := r.name(name); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(r.out.Objects, func(a, b policy.Object) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return r.out, nil
}

// defaultSource is the name of the folder or file; of several, all of them.
func defaultSource(names []string) string {
	var parts []string
	for _, name := range names {
		if name == Stdin {
			parts = append(parts, "stdin")
			continue
		}
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		parts = append(parts, filepath.Base(name))
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "+")
}

// reader is one load.
type reader struct {
	ctx    context.Context
	loader Loader
	out    *Policies
	bytes  int64
	seen   map[string]bool
}

func (r *reader) name(name string) error {
	if name == Stdin {
		return r.stdin()
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such file or folder", name)
	case err != nil:
		return err
	case info.IsDir():
		return r.folder(name)
	}
	return r.single(name)
}

func (r *reader) stdin() error {
	if r.seen[Stdin] {
		return errors.New("-f - stands twice: standard input can be read once")
	}
	r.seen[Stdin] = true
	if r.loader.Stdin == nil {
		return nil
	}
	return r.opened("stdin", r.loader.Stdin, ".")
}

// single reads a file that was named itself, whatever its ending; it may be a pipe.
func (r *reader) single(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.opened(filepath.Base(name), f, filepath.Dir(name))
}

// opened reads one stream of documents; dir is where the files that they name are.
func (r *reader) opened(file string, in io.Reader, dir string) error {
	text, err := io.ReadAll(io.LimitReader(in, policy.MaxFileBytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r.file(&folder{root: root}, file, string(text))
	return nil
}

// file splits one file's text and adds its objects.
func (r *reader) file(from *folder, name, text string) {
	if !r.room(name, len(text)) {
		return
	}
	r.out.Files++
	objects, foreign := policy.Split(name, text, r.out.Source, &r.out.Problems)
	r.out.Foreign += foreign
	for _, o := range objects {
		o.Content = r.content(from, o)
		r.out.Objects = append(r.out.Objects, o)
	}
}

// room tells whether so many bytes more may be read; that they may not is said once.
func (r *reader) room(name string, n int) bool {
	before := r.bytes
	r.bytes += int64(n)
	switch {
	case r.bytes <= MaxTotalBytes && r.out.Files < MaxFiles:
		return true
	case before <= MaxTotalBytes && r.bytes > MaxTotalBytes:
		r.problem(policy.CodeTooMany, name, fmt.Sprintf("the policies and what they name are larger than %d MiB together", MaxTotalBytes>>20))
	case r.out.Files == MaxFiles && before <= MaxTotalBytes:
		r.problem(policy.CodeTooMany, name, fmt.Sprintf("more than %d files", MaxFiles))
		r.bytes = MaxTotalBytes + 1
	}
	return false
}

func (r *reader) problem(code policy.Code, file, message string) {
	r.out.Problems.Add(policy.Problem{Severity: policy.Error, Code: code, File: file, Message: message})
}
