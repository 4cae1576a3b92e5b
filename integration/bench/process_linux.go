package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end a child when the thread that starts it ends, however it ends.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
