package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// folder is where files are read, and never above it.
type folder struct {
	root  *os.Root
	texts map[string]text // content that was read, by path
}

type text struct {
	body string
	err  error
}

// IsPolicyFile tells whether a file of a folder is read by its name.
func IsPolicyFile(name string) bool {
	ending := filepath.Ext(name)
	return (ending == ".yaml" || ending == ".yml") && !IsHidden(name)
}

// IsHidden tells whether a file or folder is passed over by its name.
func IsHidden(name string) bool { return strings.HasPrefix(filepath.Base(name), ".") }

// folder reads every policy file below a folder. Links to folders are not followed: what they lead to is either read
// already or not below the folder.
func (r *reader) folder(name string) error {
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	from := &folder{root: root}
	return fs.WalkDir(root.FS(), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		case errors.Is(err, fs.ErrNotExist): // gone since it was listed
			return nil
		case err != nil:
			r.problem(policy.CodeContent, file, "cannot be read: "+reason(err))
			return nil
		case d.IsDir() && file != "." && IsHidden(file):
			return fs.SkipDir
		case !d.IsDir() && IsPolicyFile(file):
			r.below(from, file)
		}
		return nil
	})
}

// below reads one file of a folder.
func (r *reader) below(from *folder, file string) {
	body, err := from.read(file, policy.MaxFileBytes+1)
	switch {
	case errors.Is(err, errFolder): // a folder, or a link to one, with the name of a file
	case err != nil:
		r.problem(policy.CodeContent, file, "cannot be read: "+reason(err))
	default:
		r.file(from, file, body)
	}
}

var (
	errFolder  = errors.New("it is a folder")
	errSpecial = errors.New("it is no regular file")
)

// read gives a file's text, of at most so many bytes.
func (f *folder) read(file string, most int64) (string, error) {
	info, err := f.root.Stat(file)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return "", errFolder
	case !info.Mode().IsRegular():
		return "", errSpecial
	}
	in, err := f.root.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	body, err := io.ReadAll(io.LimitReader(in, most))
	return string(body), err
}

// reason is what the system said, without the path it stands behind.
func reason(err error) string {
	var at *fs.PathError
	switch {
	case !errors.As(err, &at):
		return err.Error()
	case strings.Contains(at.Err.Error(), "escapes"):
		return "it is a link that leads out of the folder"
	}
	return at.Err.Error()
}

// content reads the files that an object names. One that is missing is left out: whoever reads the object says so, at
// its place.
func (r *reader) content(from *folder, o policy.Object) map[string]string {
	var out map[string]string
	for _, name := range r.loader.Wanted(o) {
		file := path.Join(path.Dir(o.File), name)
		body, err := from.content(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			r.problem(policy.CodeContent, o.File, fmt.Sprintf("%s names %s, which cannot be read: %s", o.Ref, file, reason(err)))
		case r.room(file, len(body)):
			if out == nil {
				out = map[string]string{}
			}
			out[name] = body
		}
	}
	return out
}

func (f *folder) content(file string) (string, error) {
	if known, ok := f.texts[file]; ok {
		return known.body, known.err
	}
	body, err := f.read(file, MaxContentBytes+1)
	switch {
	case err != nil:
	case len(body) > MaxContentBytes:
		err = fmt.Errorf("it is larger than %d MiB", MaxContentBytes>>20)
	case !utf8.ValidString(body):
		err = errors.New("it is not UTF-8 text")
	}
	if f.texts == nil {
		f.texts = map[string]text{}
	}
	f.texts[file] = text{body, err}
	return body, err
}
