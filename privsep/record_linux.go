package privsep

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileState changes whenever a file's content does.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// digests keeps the SHA-256 of the executables, by fileState: a restart must
// not wait for megabytes to be read again.
var digests sync.Map

// setExecutable records which file exe is and what it holds.
func (r *Record) setExecutable(exe *os.File) error {
	conn, err := exe.SyscallConn()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if ctlErr := conn.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return fmt.Errorf("executable: %w", err)
	}
	r.Dev, r.Ino = uint64(st.Dev), st.Ino
	state := fileState{r.Dev, r.Ino, st.Size, st.Mtim, st.Ctim}
	if sum, ok := digests.Load(state); ok {
		r.SHA256 = sum.([sha256.Size]byte)
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(exe, 0, st.Size)); err != nil {
		return fmt.Errorf("executable: %w", err)
	}
	h.Sum(r.SHA256[:0])
	digests.Store(state, r.SHA256)
	return nil
}

// StartTime gives when process pid started, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// Field 2 is the name in brackets and may hold anything; the start time is
	// field 22.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const at = 22 - 3
	if len(fields) <= at {
		return 0, fmt.Errorf("%s: %w", path, syscall.EINVAL)
	}
	start, err := strconv.ParseUint(string(fields[at]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return start, nil
}
