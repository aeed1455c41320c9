package store

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Reopen opens for writing the segment behind fd, whatever fd itself allows: a
// new parent gets it from a process that may read it or only hold it. It must be
// as Create made it. fd stays the caller's.
func Reopen(fd int, name string, size int) (*os.File, error) {
	rw, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", name, err)
	}
	f := os.NewFile(uintptr(rw), name)
	if err := unchanged(rw, size); err != nil {
		f.Close()
		return nil, fmt.Errorf("reopen %s: %w", name, err)
	}
	return f, nil
}

// unchanged tells whether a file has a segment's size and seals.
func unchanged(fd, size int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if size <= 0 || st.Size != int64(size) {
		return fmt.Errorf("%d bytes, not %d", st.Size, size)
	}
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("get seals: %w", err)
	}
	if got&seals != seals {
		return fmt.Errorf("seals %#x, not %#x", got, seals)
	}
	return nil
}
