// Package saved keeps the last known services in a file, so that a restart while the registry is away begins with them.
package saved

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// File is a place for services. Its folder must exist. Nothing else may write to it.
type File struct {
	path string
}

// NewFile names the file, which need not exist.
func NewFile(path string) *File {
	return &File{path}
}

// contents are the services and the hash of their bytes: half a file is none.
type contents struct {
	SHA256   string          `json:"sha256"`
	Services json.RawMessage `json:"services"`
}

// Save replaces what is kept, at once and durably: after a crash the file holds either the old services or the new.
func (f *File) Save(services []catalog.Service) error {
	list, err := json.Marshal(services)
	if err != nil {
		return fmt.Errorf("saving %d services: %w", len(services), err)
	}
	text, err := json.Marshal(contents{digest(list), list})
	if err != nil {
		return fmt.Errorf("saving %d services: %w", len(services), err)
	}
	if err := f.replace(text); err != nil {
		return fmt.Errorf("saving the last known services: %w", err)
	}
	return nil
}

func (f *File) replace(text []byte) (err error) {
	folder := filepath.Dir(f.path)
	temporary, err := os.CreateTemp(folder, "."+filepath.Base(f.path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(text)
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err = os.Rename(temporary.Name(), f.path); err != nil {
		return err
	}
	return syncFolder(folder)
}

func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load returns what was saved, nil if nothing ever was. A damaged file is an error that says what to do.
func (f *File) Load() ([]catalog.Service, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loading the last known services: %w", err)
	}
	var c contents
	var services []catalog.Service
	err = json.Unmarshal(text, &c)
	if err == nil && digest(c.Services) != c.SHA256 {
		err = errors.New("its checksum does not match")
	}
	if err == nil {
		err = json.Unmarshal(c.Services, &services)
	}
	if err != nil {
		return nil, fmt.Errorf("loading the last known services: %s is damaged: %w; remove it to begin without them", f.path, err)
	}
	return services, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
