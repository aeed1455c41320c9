package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// discard gives the pages of a shared mapping back: they read as zeros from then
// on, for all who map them.
func discard(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_REMOVE); err != nil {
		return fmt.Errorf("give shared memory back: %w", err)
	}
	return nil
}
