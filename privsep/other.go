//go:build !linux

package privsep

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Gatehouse runs on Linux. Here is what the rest of the package needs in order
// to compile elsewhere; each says so loudly, for a promise not kept in silence
// would be worse than none.

func closeFD(int) {}

func sendPacket(int, []byte, []int) error { return errors.ErrUnsupported }

func recvPacket(int, []byte, *packet) error { return errors.ErrUnsupported }

func waitFD(int, bool, time.Duration) error { return errors.ErrUnsupported }

func roomy(int) bool { return false }

// Socketpair is not supported here.
func Socketpair() (a, b int, err error) { return -1, -1, errors.ErrUnsupported }

// Connection is not supported here.
func Connection() (a, b int, err error) { return -1, -1, errors.ErrUnsupported }

// Doorbell is not supported here.
func Doorbell() (a, b int, err error) { return -1, -1, errors.ErrUnsupported }

// Inherit is not supported here.
func Inherit() (*Boot, *Channel, error) { return nil, nil, errors.ErrUnsupported }

type heir struct{}

// ReadParcel is not supported here.
func ReadParcel(fd, size int) ([]byte, error) { return nil, errors.ErrUnsupported }

// RelaxTimers does nothing here.
func RelaxTimers() {}

// CloseRange is not supported here.
func CloseRange() error { return errors.ErrUnsupported }

// EmptyRoot is not supported here.
func EmptyRoot(string) error { return errors.ErrUnsupported }

// Drop is not supported here.
func Drop(uid, gid int) error { return errors.ErrUnsupported }

// NoNewPrivs is not supported here.
func NoNewPrivs() error { return errors.ErrUnsupported }

// CPUTime is not supported here.
func CPUTime(int) time.Duration { return 0 }

// StartTime is not supported here.
func StartTime(int) (uint64, error) { return 0, errors.ErrUnsupported }

// Child cannot be started here.
type Child struct {
	ID
	PID    int
	PidFD  int
	Record Record

	OwnNetwork bool
}

// Start is not supported here.
func Start(exe *os.File, id ID, fd, adopt int) (*Child, error) { return nil, errors.ErrUnsupported }

// Signal is not supported here.
func (*Child) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// Wait is not supported here.
func (*Child) Wait() (string, error) { return "", errors.ErrUnsupported }

// Poller cannot be made here.
type Poller struct{}

// NewPoller is not supported here.
func NewPoller() (*Poller, error) { return nil, errors.ErrUnsupported }

// Share is not supported here.
func (*Poller) Share() error { return errors.ErrUnsupported }

// Close is not supported here.
func (*Poller) Close() {}

// Add is not supported here.
func (*Poller) Add(fd int, token uint64, mode Mode) error { return errors.ErrUnsupported }

// Mod is not supported here.
func (*Poller) Mod(fd int, token uint64, mode Mode) error { return errors.ErrUnsupported }

// Del is not supported here.
func (*Poller) Del(int) error { return errors.ErrUnsupported }

// Wait is not supported here.
func (*Poller) Wait(time.Duration) ([]Ready, error) { return nil, errors.ErrUnsupported }

// Iovec stands in for the kernel's.
type Iovec struct{ Base *byte }

// SetLen does nothing here.
func (*Iovec) SetLen(int) {}

// RawRead is not supported here.
func RawRead(int, []byte) (int, syscall.Errno) { return -1, syscall.ENOSYS }

// RawWrite is not supported here.
func RawWrite(int, []byte) (int, syscall.Errno) { return -1, syscall.ENOSYS }

// RawWritev is not supported here.
func RawWritev(int, []Iovec) (int, syscall.Errno) { return -1, syscall.ENOSYS }

// Errno is not supported here.
func Errno(error) uint16 { return 1 }

// ErrnoError is the error with that number.
func ErrnoError(n uint16) error { return syscall.Errno(n) }

// Stream is not supported here.
func Stream(fd int) *os.File { return os.NewFile(uintptr(fd), "socket") }

// Waiting is not supported here.
func Waiting(int) bool { return false }

// PeerProcess is not supported here.
func PeerProcess(int, bool) Process { return Process{} }

// CheckPeerProcess is not supported here.
func CheckPeerProcess() string { return errors.ErrUnsupported.Error() }
