package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// seals keep a segment from shrinking under a reader, which would kill it.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Create makes a segment of size bytes, all zero: a memfd that can never be
// resized or executed and that no other user can open. name shows in
// /proc/PID/maps. The caller owns the file, which is the right to write.
func Create(name string, size int) (*os.File, error) {
	if size <= 0 {
		return nil, fmt.Errorf("segment %s: size %d", name, size)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("segment %s: memfd_create with MFD_NOEXEC_SEAL (Linux 6.3): %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: memfd_create: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := seal(fd, size); err != nil {
		f.Close()
		return nil, fmt.Errorf("segment %s: %w", name, err)
	}
	return f, nil
}

func seal(fd, size int) error {
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fmt.Errorf("fchmod: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("ftruncate to %d: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("add seals: %w", err)
	}
	return nil
}

// ReadOnly opens the segment in f again for reading alone. The new file cannot
// be mapped writable, nor be opened for writing by a user other than the
// segment's maker (mode 0600): without root all roles are one user, and then
// the second half does not hold.
func ReadOnly(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), err)
	}
	fd, openErr := -1, error(nil)
	if err := conn.Control(func(old uintptr) {
		path := "/proc/self/fd/" + strconv.Itoa(int(old))
		fd, openErr = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}); err != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), err)
	}
	if openErr != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), openErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Map maps the whole segment behind fd, which must have exactly size bytes and
// the seals that Create sets. fd stays the caller's and may be closed.
func Map(fd int, size int, writable bool) (*Segment, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("map segment: fstat: %w", err)
	}
	if size <= 0 || st.Size != int64(size) {
		return nil, fmt.Errorf("map segment: %d bytes, not %d", st.Size, size)
	}
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("map segment: get seals: %w", err)
	}
	if got&seals != seals {
		return nil, fmt.Errorf("map segment: seals %#x, not %#x", got, seals)
	}
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(fd, 0, size, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map segment: mmap: %w", err)
	}
	return &Segment{mem: mem, writable: writable}, nil
}

// MapUsed is Map that notes what of the segment was ever written: to read anything
// else would make its pages come to be.
func MapUsed(fd int, size int, writable bool) (*Segment, error) {
	s, err := Map(fd, size, writable)
	if err != nil {
		return nil, err
	}
	s.used = []span{}
	for at := int64(0); at < int64(size); {
		lo, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err == nil {
			at, err = unix.Seek(fd, lo, unix.SEEK_HOLE)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map segment: seek: %w", err), s.Unmap())
		}
		s.used = append(s.used, span{int(lo), int(at)})
	}
	return s, nil
}

// Unmap ends the mapping. Whatever was made over the segment must not be used
// any more: the next access would end the process.
func (s *Segment) Unmap() error {
	mem := s.mem
	s.mem = nil
	if mem == nil {
		return nil
	}
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap segment: %w", err)
	}
	return nil
}
