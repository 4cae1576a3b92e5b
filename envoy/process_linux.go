package envoy

import (
	"os/exec"
	"syscall"
)

// dieWithParent gives Envoy a process group of its own, so that a terminal's Ctrl-C reaches only us and Envoy is
// stopped in order, and has the kernel kill it when the thread that started it ends.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
