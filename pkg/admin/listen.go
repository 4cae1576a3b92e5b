package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// ErrNotLoopback is of an address that others can reach, where callers would not have to prove themselves.
var ErrNotLoopback = errors.New("not a loopback address, and callers do not have to prove themselves")

// Listen listens on host:port or unix:/path, where callers do not have to prove themselves: beyond loopback the error is
// ErrNotLoopback. what names the part that listens in errors.
func Listen(ctx context.Context, what, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err == nil && !strings.HasPrefix(address, "unix:") && !isLoopback(host) {
		return nil, fmt.Errorf("%s: %s is %w: listen on 127.0.0.1, [::1] or a unix socket", what, address, ErrNotLoopback)
	}
	return ListenAnywhere(ctx, what, address)
}

// ListenAnywhere listens on host:port or unix:/path, on any address: the caller sees to it that nobody is let in unproven.
// what names the part that listens in errors.
func ListenAnywhere(ctx context.Context, what, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(ctx, what, strings.TrimPrefix(path, "//"))
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("%s: %q is neither host:port nor unix:/path", what, address)
	}
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is in use: is another sluice running? Stop it, or listen elsewhere", what, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return lis, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// listenUnix takes the place of a socket that nobody listens on any more.
func listenUnix(ctx context.Context, what, path string) (net.Listener, error) {
	if path == "" {
		return nil, fmt.Errorf("%s: unix: names no path", what)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s: %s is in use: is another sluice running? Stop it, or listen elsewhere", what, path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	lis, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), lis.Close())
	}
	return lis, nil
}
