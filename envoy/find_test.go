package envoy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/envoy"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	named, onPath := script(t, dir, "named", ""), script(t, dir, "bin/envoy", "")
	fetched := script(t, dir, "cache/sluice/tools/envoy-"+envoy.Release+"/envoy", "")
	tests := []struct {
		name, explicit, variable, path, cache string
		want, wantErr                         string
	}{
		{name: "explicit wins", explicit: named, variable: fetched, path: filepath.Dir(onPath), want: named},
		{name: "then the variable", variable: named, path: filepath.Dir(onPath), want: named},
		{name: "then PATH", path: filepath.Dir(onPath), cache: filepath.Join(dir, "cache"), want: onPath},
		{name: "then what was fetched", cache: filepath.Join(dir, "cache"), want: fetched},
		{name: "explicit but missing", explicit: filepath.Join(dir, "none"), path: filepath.Dir(onPath), wantErr: "--envoy"},
		{name: "variable but missing", variable: filepath.Join(dir, "none"), path: filepath.Dir(onPath), wantErr: "SLUICE_ENVOY"},
		{name: "nowhere", cache: dir, wantErr: "make tools"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SLUICE_ENVOY", tt.variable)
			t.Setenv("PATH", tt.path)
			t.Setenv("XDG_CACHE_HOME", tt.cache)
			t.Setenv("HOME", dir)
			got, err := envoy.Find(tt.explicit)
			if got != tt.want {
				t.Errorf("Find = %q, want %q", got, tt.want)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error = %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Run("the real one", func(t *testing.T) {
		if got, err := envoy.Version(t.Context(), binary(t)); err != nil || got != envoy.Release {
			t.Errorf("Version = %q, %v; want %s", got, err, envoy.Release)
		}
	})
	tests := []struct {
		name, says, want    string
		unsupported, tooOld bool
	}{
		{name: "another patch", says: "envoy  version: abc/1.40.7/Clean/RELEASE/BoringSSL", want: "1.40.7"},
		{name: "untested", says: "envoy  version: abc/1.39.2/Clean/RELEASE/BoringSSL", want: "1.39.2", unsupported: true},
		{name: "newer", says: "envoy  version: abc/1.41.0/Clean/RELEASE/BoringSSL", want: "1.41.0", unsupported: true},
		{name: "too old", says: "envoy  version: abc/1.37.0/Clean/RELEASE/BoringSSL", want: "1.37.0", unsupported: true, tooOld: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := envoy.Version(t.Context(), script(t, t.TempDir(), "envoy", "echo '"+tt.says+"'"))
			var e *envoy.UnsupportedError
			if got != tt.want || errors.As(err, &e) != tt.unsupported || tt.unsupported && e.TooOld != tt.tooOld {
				t.Errorf("Version = %q, %v", got, err)
			}
		})
	}
	t.Run("no Envoy", func(t *testing.T) {
		if _, err := envoy.Version(t.Context(), script(t, t.TempDir(), "envoy", "echo hello")); err == nil || !strings.Contains(err.Error(), "is not an Envoy") {
			t.Errorf("error = %v", err)
		}
	})
}

func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}
