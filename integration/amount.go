// Package integration runs Sluice against the real parts.
package integration

import "os"

// Amount is how much of something a test does: full in `make soak`, a tenth of it elsewhere, never under 3.
func Amount(full int) int {
	if os.Getenv("SLUICE_SOAK") != "" {
		return full
	}
	return max(full/10, 3)
}
