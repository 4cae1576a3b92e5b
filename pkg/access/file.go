package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Token is what a token file keeps of one token. The token itself is nowhere.
type Token struct {
	Name    string    `json:"name"`
	Roles   Roles     `json:"roles"`
	SHA256  Digest    `json:"sha256"`
	Created time.Time `json:"created"`
	// Expires is when it stops to count; never when zero.
	Expires time.Time `json:"expires,omitzero"`
	// By is who made it, as they said.
	By string `json:"by,omitempty"`
}

// Expired tells whether it counts no more.
func (t Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// tokenFile is the form of a token file.
type tokenFile struct {
	Tokens []Token `json:"tokens"`
}

// Bounds of a token file.
const (
	maxFileBytes = 1 << 20
	maxTokens    = 1000
)

var tokenName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\z`)

// CheckName tells what is wrong with the name of a token.
func CheckName(name string) error {
	if !tokenName.MatchString(name) {
		return fmt.Errorf("%q is no name of a token: letters, digits and . _ @ - make one, 64 at most, and it begins with a letter or a digit", name)
	}
	return nil
}

// ParseTokens reads a token file strictly.
func ParseTokens(text []byte) ([]Token, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFileBytes>>20)
	}
	var f tokenFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return f.Tokens, checkTokens(f.Tokens)
}

func checkTokens(list []Token) error {
	if len(list) > maxTokens {
		return fmt.Errorf("it has %d tokens, and %d is the most", len(list), maxTokens)
	}
	names, digests := map[string]bool{}, map[Digest]bool{}
	for i, t := range list {
		if err := CheckName(t.Name); err != nil {
			return err
		}
		words := make([]string, len(t.Roles))
		for j, r := range t.Roles {
			words[j] = string(r)
		}
		roles, err := ParseRoles(words)
		switch {
		case err != nil:
			return fmt.Errorf("token %s: %w", t.Name, err)
		case t.SHA256 == Digest{}:
			return fmt.Errorf("token %s: it has no sha256", t.Name)
		case names[t.Name]:
			return fmt.Errorf("the token %s is there twice", t.Name)
		case digests[t.SHA256]:
			return fmt.Errorf("token %s: another one has its sha256", t.Name)
		}
		list[i].Roles, names[t.Name], digests[t.SHA256] = roles, true, true
	}
	return nil
}

// ReadTokens reads a token file. One that others than its owner may write is refused: they could let themselves in.
func ReadTokens(path string) ([]Token, error) {
	list, _, err := readTokens(path)
	return list, err
}

func readTokens(path string) ([]Token, fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, nil, fmt.Errorf("%s may be written by others than its owner: chmod go-w %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, nil, err
	}
	list, err := ParseTokens(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, info, nil
}

// EditTokens changes a token file in one piece, which others who edit it wait for. It is made when it is missing, with
// mode 0600; one that is there keeps its mode and owner.
func EditTokens(path string, change func([]Token) ([]Token, error)) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close() // lets go of the lock
	if err := lock(folder); err != nil {
		return fmt.Errorf("%s: %w", folder.Name(), err)
	}
	list, info, err := readTokens(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if list, err = change(list); err != nil {
		return err
	}
	if err := checkTokens(list); err != nil {
		return err
	}
	text, err := json.MarshalIndent(tokenFile{slices.Concat([]Token{}, list)}, "", "  ")
	if err != nil {
		return err
	}
	return replace(path, append(text, '\n'), info)
}

// replace puts a file in the place of another, whole or not at all.
func replace(path string, text []byte, before fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tokens-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, like(f, before), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// like gives a file the mode and the owner of another one. A new file has mode 0600 already.
func like(f *os.File, before fs.FileInfo) error {
	if before == nil {
		return nil
	}
	if err := f.Chmod(before.Mode().Perm()); err != nil {
		return err
	}
	return own(f, before)
}
