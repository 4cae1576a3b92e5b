//go:build unix && !aix && !solaris

package auditlog

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps other processes from writing the same log. It ends with the process.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}
