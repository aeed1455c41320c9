package privsep

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Parcel puts data too large for a message into a memfd that nobody can change
// any more. The caller closes the fd.
func Parcel(name string, data []byte) (int, error) {
	fd, err := unix.MemfdCreate("gatehouse-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return -1, fmt.Errorf("parcel %s: memfd_create: %w", name, err)
	}
	for at := 0; at < len(data) && err == nil; {
		var n int
		n, err = unix.Pwrite(fd, data[at:], int64(at))
		at += max(n, 0)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS,
			unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("parcel %s: %w", name, err)
	}
	return fd, nil
}

// ReadParcel reads the size bytes that a parcel holds; the fd stays open.
func ReadParcel(fd, size int) ([]byte, error) {
	b := make([]byte, size)
	for at := 0; at < size; {
		n, err := unix.Pread(fd, b[at:], int64(at))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, os.NewSyscallError("read parcel", err)
		}
		at += n
	}
	return b, nil
}

// Uptime is Monotonic in milliseconds.
func Uptime() uint64 { return uint64(Monotonic() / time.Millisecond) }
