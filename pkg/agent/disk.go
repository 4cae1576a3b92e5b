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

// fileFormat starts the file of the last good copy; the checksum of what follows stands behind it, in hex.
const fileFormat = "sluice-agent 1 "

// readCopy is the last good copy; none when there is no file.
func readCopy(file string) ([]Resource, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	head, body, ok := bytes.Cut(text, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(head) != fileFormat+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s: not a copy of this version, or damaged", file)
	}
	var out []Resource
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

// writeCopy replaces the file, whole or not at all.
func writeCopy(file string, resources []Resource) error {
	body, err := json.Marshal(resources)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%s%s\n%s", fileFormat, hex.EncodeToString(sum[:]), body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
