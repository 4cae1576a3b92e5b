//go:build unix && !aix && !solaris

package access

import (
	"io/fs"
	"os"
	"syscall"
)

// lock waits until nobody else edits in a folder.
func lock(folder *os.File) error { return syscall.Flock(int(folder.Fd()), syscall.LOCK_EX) }

// own gives a file to the owner of another one.
func own(f *os.File, before fs.FileInfo) error {
	if owner, ok := before.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return f.Chown(int(owner.Uid), int(owner.Gid))
	}
	return nil
}
