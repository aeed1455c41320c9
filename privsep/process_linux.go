package privsep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// PeerProcess tells which process has connected at the other end of an accepted Unix
// socket. The inode of its pidfd is 0 where the kernel does not say it, or where it is not
// to be asked: making the pidfd takes longer than all else that the dispatcher does.
func PeerProcess(fd int, inode bool) (p Process) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return p
	}
	p = Process{PID: uint32(cred.Pid), UID: cred.Uid, GID: cred.Gid}
	if !inode {
		return p
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		p.PidIno = pidfdInode(pidfd)
	}
	return p
}

// ProcessOf gives a process of a pid as if it had just connected.
func ProcessOf(pid int) (p Process, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return p, os.NewSyscallError("pidfd_open", err)
	}
	p.PidIno = pidfdInode(fd)
	o, err := statusOf("/proc/" + strconv.Itoa(pid) + "/status")
	p.PID, p.UID, p.GID = uint32(pid), o.UID, o.GID
	return p, err
}

// CheckPeerProcess names what this kernel lacks for telling processes apart for ever,
// "" if it has all.
func CheckPeerProcess() string {
	a, b, err := Doorbell()
	if err != nil {
		return err.Error()
	}
	defer closeFD(a)
	defer closeFD(b)
	pidfd, err := unix.GetsockoptInt(a, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return "so_peerpidfd (Linux 6.5)"
	}
	defer closeFD(pidfd)
	if !unique(pidfd) {
		return "pidfds with an inode of their own (Linux 6.9)"
	}
	return ""
}

// unique tells whether the inode of a pidfd is that of one process alone: before Linux
// 6.9 all pidfds had the same.
func unique(pidfd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(pidfd, &st) == nil && st.Type == unix.PID_FS_MAGIC
}

// Witness has a process in view: whatever is read of it in /proc is of that very process
// as long as it has not ended.
type Witness struct {
	pidfd  int
	who    Process
	groups []uint32
}

// Find finds the process that has connected. The reason says why it cannot be had.
func Find(who Process) (*Witness, Reason) {
	if who.PID == 0 || who.PidIno == 0 {
		return nil, ReasonProcessUnknown
	}
	fd, err := unix.PidfdOpen(int(who.PID), 0)
	if err != nil {
		return nil, ReasonProcessGone
	}
	w := &Witness{pidfd: fd, who: who}
	var st unix.Stat_t
	switch {
	case !unique(fd):
		w.Close()
		return nil, ReasonProcessUnknown
	case unix.Fstat(fd, &st) != nil || st.Ino != who.PidIno || w.gone():
		w.Close()
		return nil, ReasonProcessGone
	}
	return w, ReasonNone
}

// Close lets go of the process.
func (w *Witness) Close() { closeFD(w.pidfd) }

func (w *Witness) gone() bool {
	is, err := pollNow(w.pidfd, unix.POLLIN)
	return err != nil || is != 0
}

func (w *Witness) path(name string) string {
	return "/proc/" + strconv.Itoa(int(w.who.PID)) + "/" + name
}

// Check tells when the process was started, or why it is not the one that has connected
// any more: it has ended, or has other uids than then, or several.
func (w *Witness) Check() (start uint64, reason Reason) {
	start, err := StartTime(int(w.who.PID))
	var p Posture
	if err == nil {
		p, err = statusOf(w.path("status"))
	}
	switch {
	case w.gone():
		return 0, ReasonProcessGone
	case err != nil:
		return 0, ReasonProcessUnreadable
	case !p.Uniform || p.UID != w.who.UID || p.GID != w.who.GID:
		return 0, ReasonProcessChanged
	}
	w.groups = p.Groups
	return start, ReasonNone
}

// Groups are the other groups that the process had when it was checked last.
func (w *Witness) Groups() []uint32 { return w.groups }

func statusOf(path string) (Posture, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Posture{}, err
	}
	return parseStatus(b)
}

// Executable is the file that a process runs, as a file and not yet as anything that can
// be read.
type Executable struct {
	fd   int
	ID   FileID
	Link string // path as the kernel has it
}

// Executable finds what the process runs. Needs CAP_SYS_PTRACE where the process has
// another uid, or has made itself undumpable.
func (w *Witness) Executable() (*Executable, error) {
	link, err := os.Readlink(w.path("exe"))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(w.path("exe"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: w.path("exe"), Err: err}
	}
	x := &Executable{fd: fd, Link: link[:min(len(link), MaxExecutable)]}
	if x.ID, err = regular(fd, ""); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// Close lets go of the file.
func (x *Executable) Close() { closeFD(x.fd) }

// Is tells whether the file is what we find at a path: what another namespace has there,
// or had there before, is not.
func (x *Executable) Is(path string) bool {
	id, err := regular(unix.AT_FDCWD, path)
	return err == nil && id == x.ID
}

// Open opens it for reading. May wait for the file system.
func (x *Executable) Open() (int, error) {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(x.fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: x.Link, Err: err}
	}
	return fd, nil
}

// regular says which file it is, if it is a regular one.
func regular(dir int, path string) (FileID, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, path, &st, emptyPath(path))
	if err != nil {
		return FileID{}, os.NewSyscallError("fstatat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return FileID{}, errors.New("executable: not a regular file")
	}
	return FileID{uint64(st.Dev), st.Ino}, nil
}

func emptyPath(path string) int {
	if path == "" {
		return unix.AT_EMPTY_PATH
	}
	return 0
}

// Content is an executable to be read.
type Content struct {
	fd    int
	state fileState
}

// MaxContent bounds what is read of an executable.
const MaxContent = 1 << 30

// TakeContent takes the fd of an INSPECTED_FILE.
func TakeContent(fd int) (*Content, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = os.NewSyscallError("fstat", err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("executable: not a regular file")
	case st.Size > MaxContent:
		err = fmt.Errorf("executable: larger than %d bytes", MaxContent)
	}
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	return &Content{fd, contentOf(&st)}, nil
}

// ContentState is comparable: it is another one whenever the content is.
type ContentState = fileState

// OpenContent opens a file to be read as an executable.
func OpenContent(path string) (*Content, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return TakeContent(fd)
}

// State tells which content it is.
func (c *Content) State() ContentState { return c.state }

// Changed gives the time of the last change, in Unix nanoseconds.
func (s ContentState) Changed() int64 { return s.ctime.Nano() }

// Still tells whether the content is what it was when it was taken.
func (c *Content) Still() bool {
	var st unix.Stat_t
	return unix.Fstat(c.fd, &st) == nil && contentOf(&st) == c.state
}

func contentOf(st *unix.Stat_t) ContentState {
	return ContentState{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

// ReadAt reads as io.ReaderAt does, at most len(b) bytes at once.
func (c *Content) ReadAt(b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(c.fd, b, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("pread", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Close closes the file.
func (c *Content) Close() { closeFD(c.fd) }
