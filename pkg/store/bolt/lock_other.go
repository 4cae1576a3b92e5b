//go:build !unix || aix || solaris

package bolt

import "os"

// lock leaves the locking to bbolt.
func lock(*os.File, bool) error { return nil }

func isReadOnly(error) bool { return false }
