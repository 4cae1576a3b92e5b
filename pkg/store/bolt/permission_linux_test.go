package bolt

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// asNobody runs the function with the rights of a user who owns nothing, on a thread that ends with it.
func asNobody(t *testing.T, run func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, so nothing else runs with these rights
		if os.Geteuid() == 0 {
			const nobody = 65534
			syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
		}
		run()
	}()
	<-done
}

func TestOpenReadOnly(t *testing.T) {
	path, _ := sample(t)
	dir := filepath.Dir(path)
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o555, path: 0o444} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	asNobody(t, func() {
		expectRefused(t, path, os.ErrPermission, "must be writable for the user that runs sluice")
		expectRefused(t, filepath.Join(dir, "new.db"), os.ErrPermission, "must be writable for the user that runs sluice")
	})
}
