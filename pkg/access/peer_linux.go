package access

import (
	"net"
	"syscall"
)

// peerUID asks the kernel who is at the other end.
func peerUID(conn *net.UnixConn) (uid uint32, known bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		peer, failed := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if failed == nil {
			uid, known = peer.Uid, true
		}
	})
	return uid, known && err == nil
}
