//go:build unix

package certs

import (
	"os"
	"syscall"
)

// keepOwner gives a file the owner of the one it replaces, if that is there and we may.
func keepOwner(f *os.File, old string) {
	info, err := os.Stat(old)
	if err != nil {
		return
	}
	if was, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(was.Uid), int(was.Gid))
	}
}
