package envoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Release is the Envoy that this program is built for and tested with.
const Release = "1.40.0"

// oldestMinor is the first 1.x that knows every field of the bootstrap and of the resources.
const oldestMinor, testedMinor = 38, 40

// ErrNotFound says that there is no Envoy binary anywhere it is looked for.
var ErrNotFound = errors.New("no Envoy binary found")

// Find is the path of the Envoy binary: explicit, if not empty, else SLUICE_ENVOY, else the one on PATH, else the one
// that `make tools` fetched. A place that is named but holds no executable is an error, not passed over.
func Find(explicit string) (string, error) {
	for _, named := range []struct{ by, path string }{{"--envoy", explicit}, {"SLUICE_ENVOY", os.Getenv("SLUICE_ENVOY")}} {
		if named.path == "" {
			continue
		}
		path, err := exec.LookPath(named.path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", named.by, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(fetched()); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%w: name one with --envoy or SLUICE_ENVOY, put envoy %s on PATH "+
		"(https://www.envoyproxy.io/docs/envoy/latest/start/install), or run `make tools`", ErrNotFound, Release)
}

// fetched is where `make tools` puts its Envoy.
func fetched() string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(cache, "sluice", "tools", "envoy-"+Release, "envoy")
}

// versionPattern picks the version out of "… version: <commit>/1.40.0/Clean/RELEASE/BoringSSL".
var versionPattern = regexp.MustCompile(`version: [^/\s]+/((\d+)\.(\d+)\.\d+)`)

// UnsupportedError says that an Envoy is of another release than the one this program is tested with.
type UnsupportedError struct {
	Version string
	// TooOld means that it does not understand what it would be sent; else it most likely works.
	TooOld bool
}

func (e *UnsupportedError) Error() string {
	if e.TooOld {
		return fmt.Sprintf("envoy %s is too old: 1.%d is the oldest that works, 1.%d is tested", e.Version, oldestMinor, testedMinor)
	}
	return fmt.Sprintf("envoy %s is untested: 1.%d is what sluice is tested with", e.Version, testedMinor)
}

// Version asks the binary for its version, as in "1.40.0". An Envoy that is not 1.40 gives its version and an
// *UnsupportedError; the caller refuses one that is TooOld and warns of any other.
func Version(ctx context.Context, binary string) (string, error) {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("envoy version: %s: %w", binary, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("envoy version: %s is not an Envoy: it answers %.80q", binary, out)
	}
	return string(m[1]), supported(string(m[1]), string(m[2]), string(m[3]))
}

func supported(version, major, minor string) error {
	// Both matched \d+; a number too large for an int is no Envoy we know and comes out as untested.
	n, _ := strconv.Atoi(minor)
	switch {
	case major == "1" && n == testedMinor:
		return nil
	case major == "0", major == "1" && n < oldestMinor:
		return &UnsupportedError{Version: version, TooOld: true}
	}
	return &UnsupportedError{Version: version}
}
