package privsep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ListenForHeir opens the socket at which a child without a parent is to be
// found. It can be reached by whoever may enter its directory.
func ListenForHeir(path string) (int, error) {
	RemoveSocket(path) // of a process that is no more
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("adoption socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		if err = os.Chmod(path, 0o600); err == nil {
			err = unix.Listen(fd, heirBacklog)
		}
	}
	if err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("adoption socket %s: %w", path, err)
	}
	return fd, nil
}

// heirBacklog: one parent at a time, and some that gave up.
const heirBacklog = 8

// Claim connects to a child that has lost its parent, and says ADOPT. The
// channel takes messages of that process alone, and the answer is the next.
func (c *Child) Claim(path string, generation uint64) (*Channel, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("claim %v: %w", c.ID, err)
	}
	key := NewKey()
	ch := NewChannel(fd, RoleParent, c.Role, key)
	_, err = Identify(fd) // before anything can be sent to it
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = ch.Expect(Sender{PID: c.PID, PidIno: c.Record.PidIno, UID: c.Record.UID, Before: c.Record.UID})
	}
	if err == nil {
		a := Adopt{ID: c.ID, Key: key, Generation: generation}
		err = ch.Send(KindAdopt, a.Append(nil))
	}
	if err != nil {
		ch.Close()
		return nil, fmt.Errorf("claim %v: %w", c.ID, err)
	}
	ch.SetPhase(PhaseAdopt)
	return ch, nil
}

// ErrNoProcess: the process of a record is no more, whoever has its pid now.
var ErrNoProcess = errors.New("privsep: the process has ended")

// Recover finds the process of a record that another parent wrote. differs
// names what of it is not as recorded: it is that very process, but not to be
// trusted. Needs CAP_SYS_PTRACE where the process has another uid.
func Recover(r *Record) (c *Child, differs string, err error) {
	if r.PID == 0 {
		return nil, "", ErrNoProcess
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err == unix.ESRCH {
		return nil, "", ErrNoProcess
	}
	if err != nil {
		return nil, "", fmt.Errorf("pidfd_open %d: %w", r.PID, err)
	}
	c = &Child{ID: r.ID, PID: r.PID, PidFD: fd, Record: *r, adopted: true}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != r.PidIno || c.Ended() {
		closeFD(fd)
		return nil, "", ErrNoProcess
	}
	differs = c.differs()
	if c.Ended() {
		closeFD(fd)
		return nil, "", ErrNoProcess
	}
	if differs == "" && c.look() != nil {
		differs = "network namespace"
	}
	return c, differs, nil
}

// differs holds the record against /proc, in the order of what is told.
func (c *Child) differs() string {
	r := &c.Record
	if start, err := StartTime(r.PID); err != nil || start != r.StartTime {
		return "start time"
	}
	if p, err := ReadPosture(r.PID); err != nil || !p.Uniform || int(p.UID) != r.UID {
		return "uid"
	}
	exe, err := os.Open("/proc/" + strconv.Itoa(r.PID) + "/exe")
	if err != nil {
		return "executable: " + err.Error()
	}
	defer exe.Close()
	state, err := stateOf(exe)
	if err != nil || state.dev != r.Dev || state.ino != r.Ino {
		return "executable"
	}
	if r.SHA256 == [32]byte{} { // its parent had not yet looked
		return ""
	}
	if sum, err := Digest(exe); err != nil || sum != r.SHA256 {
		return "digest of the executable"
	}
	return ""
}

// Ended tells whether the process has, without waiting for it.
func (c *Child) Ended() bool {
	is, err := pollNow(c.PidFD, unix.POLLIN)
	return err == nil && is != 0
}

// Stat says which file a descriptor is.
func Stat(fd int) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return FileID{}, os.NewSyscallError("fstat", err)
	}
	return FileID{uint64(st.Dev), st.Ino}, nil
}

// TakeFDs gets copies of those of the child's descriptors that are files of
// wanted, and takes them out of it. Which process gives them is certain: they
// come by its pidfd. Needs CAP_SYS_PTRACE.
func (c *Child) TakeFDs(wanted map[FileID]bool) (map[FileID]int, error) {
	dir := "/proc/" + strconv.Itoa(c.PID) + "/fd"
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	got := map[FileID]int{}
	for len(wanted) > 0 {
		names, err := d.Readdirnames(256)
		if err == io.EOF {
			break
		}
		if err != nil {
			return got, err
		}
		for _, name := range names {
			if err := c.takeFD(dir, name, wanted, got); err != nil {
				return got, err
			}
		}
	}
	return got, nil
}

func (c *Child) takeFD(dir, name string, wanted map[FileID]bool, got map[FileID]int) error {
	var st unix.Stat_t
	n, err := strconv.Atoi(name)
	if err != nil || unix.Stat(dir+"/"+name, &st) != nil {
		return nil // closed meanwhile
	}
	if !wanted[FileID{uint64(st.Dev), st.Ino}] {
		return nil
	}
	fd, err := unix.PidfdGetfd(c.PidFD, n, 0)
	if err != nil {
		if err == unix.EBADF {
			return nil
		}
		return fmt.Errorf("pidfd_getfd %v: %w", c.ID, err)
	}
	id, err := Stat(fd)
	if err != nil || !wanted[id] { // another file has taken its place
		closeFD(fd)
		return nil
	}
	delete(wanted, id)
	got[id] = fd
	return nil
}

// Keepsake opens a file so that it lives on, and can neither be read nor
// mapped, nor be opened again by a user other than its owner.
func Keepsake(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	ctlErr := conn.Control(func(have uintptr) {
		fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(int(have)), unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if ctlErr != nil {
		return -1, ctlErr
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return fd, nil
}

// AwaitEnd waits until the process has ended, at most timeout.
func (c *Child) AwaitEnd(timeout time.Duration) bool {
	for end := time.Now().Add(timeout); !c.Ended(); {
		left := time.Until(end)
		if left <= 0 || waitFD(c.PidFD, false, left) != nil {
			return c.Ended()
		}
	}
	return true
}

// Forget gives back what Recover took, of a process that is nothing to us.
func (c *Child) Forget() {
	closeFD(c.PidFD)
	c.memory.Close()
}
