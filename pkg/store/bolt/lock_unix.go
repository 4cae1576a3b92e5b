//go:build unix && !aix && !solaris

package bolt

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// lock takes the lock that bbolt takes later on the same open file, where it is then held already: so nobody writes
// between the verification and the opening.
func lock(file *os.File, shared bool) error {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 40) {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return err
		case time.Now().After(deadline):
			return ErrInUse
		}
	}
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
