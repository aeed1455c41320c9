package custody

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kinds of Memory.
const (
	KindSecret = "memfd_secret" // unmapped in the kernel too, never swapped
	KindLocked = "mlock"        // where the kernel has no memfd_secret or forbids it
)

// Memory holds secrets: not swapped, in no core dump, in no child.
type Memory struct {
	kind string
	mu   sync.Mutex
	b    []byte
	ours bool // writable, and so erased by Close
}

// NewMemory returns zeroed memory for size bytes; the caller closes it. An
// error means that the machine cannot keep a secret: see RLIMIT_MEMLOCK.
func NewMemory(size int) (*Memory, error) {
	m, fd, err := newMemory(size)
	if err != nil {
		return nil, err
	}
	unix.Close(fd) // the mapping stays
	return m, nil
}

// newMemory also returns an fd of the memory, for whoever is to map it.
func newMemory(size int) (*Memory, int, error) {
	if size <= 0 || size > maxMemory {
		return nil, -1, fmt.Errorf("secret memory of %d bytes: %w", size, unix.EINVAL)
	}
	size = pages(size)
	fd, kind, err := memoryFD(size)
	if err != nil {
		return nil, -1, fmt.Errorf("secret memory: %w", err)
	}
	m, err := mapMemory(fd, size, kind, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		unix.Close(fd)
		return nil, -1, fmt.Errorf("secret memory: %w", err)
	}
	return m, fd, nil
}

// maxMemory is far above any key.
const maxMemory = 1 << 20

func pages(size int) int {
	p := os.Getpagesize()
	return (size + p - 1) / p * p
}

// memfdSecret fails in tests of the other kind.
var memfdSecret = unix.MemfdSecret

// memoryFD makes an fd of size bytes, a size that nobody can change.
func memoryFD(size int) (int, string, error) {
	kind := KindSecret
	fd, err := memfdSecret(unix.O_CLOEXEC)
	if err != nil { // ENOSYS, or a container's filter says EPERM
		kind = KindLocked
		fd, err = unix.MemfdCreate("secret", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	}
	if err == unix.EINVAL { // MFD_NOEXEC_SEAL is of Linux 6.3
		fd, err = unix.MemfdCreate("secret", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, "", os.NewSyscallError("memfd_create", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		unix.Close(fd)
		return -1, "", os.NewSyscallError("ftruncate", err)
	}
	if kind == KindLocked { // the other kind is born so
		seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			unix.Close(fd)
			return -1, "", os.NewSyscallError("seal", err)
		}
	}
	return fd, kind, nil
}

func mapMemory(fd, size int, kind string, prot int) (*Memory, error) {
	b, err := unix.Mmap(fd, 0, size, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", lockLimit(err))
	}
	m := &Memory{kind: kind, b: b, ours: prot&unix.PROT_WRITE != 0}
	if err := m.protect(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// protect keeps the pages out of core dumps, children and swap. memfd_secret
// never swaps, and mlock does not know how to lock it.
func (m *Memory) protect() error {
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK} {
		if err := unix.Madvise(m.b, advice); err != nil {
			return os.NewSyscallError("madvise", err)
		}
	}
	if m.kind == KindSecret {
		return nil
	}
	return os.NewSyscallError("mlock", lockLimit(unix.Mlock(m.b)))
}

// adoptMemory maps another process's memory for reading. Its kind shows in
// what the kernel will not do: it neither locks nor populates memfd_secret,
// which it does not map for itself.
func adoptMemory(fd, size int) (*Memory, error) {
	m, err := mapMemory(fd, size, KindSecret, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	err = unix.Mlock(m.b)
	switch {
	case err == nil:
		m.kind = KindLocked
	case unix.Madvise(m.b, unix.MADV_POPULATE_READ) == nil:
		m.Close()
		return nil, os.NewSyscallError("mlock", lockLimit(err))
	}
	return m, nil
}

// lockLimit says what the kernel means.
func lockLimit(err error) error {
	switch err {
	case unix.EAGAIN, unix.ENOMEM, unix.EPERM:
		return fmt.Errorf("%w (RLIMIT_MEMLOCK too low?)", err)
	}
	return err
}

// Kind is KindSecret or KindLocked.
func (m *Memory) Kind() string { return m.kind }

// Bytes is the memory, in whole pages; nil once it is closed. It must not be
// used after Close.
func (m *Memory) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b
}

// Close erases the memory, unless it is another process's, and unmaps it.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return nil
	}
	if m.ours {
		clear(m.b)
	}
	err := unix.Munmap(m.b)
	m.b = nil
	return err
}

var errClosed = errors.New("custody: the key is closed")
