package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
)

// killed as an outcome: the process was ended for the attempt (SIGSYS).
const killed = "SIGSYS"

// The numbers are this processor's.
func init() {
	offences["refused calls"] = (*villain).refusedCalls
	offences["deadly call"] = (*villain).deadlyCall
	offences["segments"] = (*villain).segments
}

// call is a system call that a role has no right to, made with the arguments of
// somebody who means it.
type call struct {
	name string
	want string // errno, or killed
	nr   uintptr
	args func(*villain) [6]uintptr
}

func with(args ...uintptr) func(*villain) [6]uintptr {
	return func(*villain) (a [6]uintptr) { copy(a[:], args); return a }
}

// at puts the parent's pid first.
func at(args ...uintptr) func(*villain) [6]uintptr {
	return func(v *villain) (a [6]uintptr) {
		copy(a[1:], args)
		a[0] = uintptr(v.parentPID)
		return a
	}
}

const (
	cwd    = ^uintptr(99) // AT_FDCWD
	stream = unix.SOCK_STREAM
	x32    = 0x40000000
)

// calls is what is tried from inside every role. Pointers are nil: a filter
// answers before the kernel reads them, and EFAULT would show that it did not.
var calls = []call{
	// Files.
	{"open", "EPERM", unix.SYS_OPEN, with()},
	{"openat", "EPERM", unix.SYS_OPENAT, with(cwd)},
	{"openat2", "EPERM", unix.SYS_OPENAT2, with(cwd)},
	{"creat", "EPERM", unix.SYS_CREAT, with()},
	{"readlink", "EPERM", unix.SYS_READLINK, with()},
	{"stat", "EPERM", unix.SYS_STAT, with()},
	{"unlink", killed, unix.SYS_UNLINK, with()},
	{"memfd_create", killed, unix.SYS_MEMFD_CREATE, with()},
	{"open_by_handle_at", killed, unix.SYS_OPEN_BY_HANDLE_AT, with(cwd)},

	// Network.
	{"socket INET", "EPERM", unix.SYS_SOCKET, with(unix.AF_INET, stream)},
	{"socket INET6", "EPERM", unix.SYS_SOCKET, with(unix.AF_INET6, stream)},
	{"socket INET UDP", "EPERM", unix.SYS_SOCKET, with(unix.AF_INET, unix.SOCK_DGRAM)},
	{"socket MPTCP", "EPERM", unix.SYS_SOCKET, with(unix.AF_INET, stream, unix.IPPROTO_MPTCP)},
	{"socket UNIX", "EPERM", unix.SYS_SOCKET, with(unix.AF_UNIX, stream)},
	{"socket NETLINK", "EPERM", unix.SYS_SOCKET, with(unix.AF_NETLINK, unix.SOCK_RAW)},
	{"socket PACKET", "EPERM", unix.SYS_SOCKET, with(unix.AF_PACKET, unix.SOCK_RAW)},
	{"socket VSOCK", "EPERM", unix.SYS_SOCKET, with(unix.AF_VSOCK, stream)},
	{"socketpair", "EPERM", unix.SYS_SOCKETPAIR, with(unix.AF_UNIX, stream)},
	{"connect", "EPERM", unix.SYS_CONNECT, with(channelFD)},
	{"bind", "EPERM", unix.SYS_BIND, with(channelFD)},
	{"listen", "EPERM", unix.SYS_LISTEN, with(channelFD, 1)},

	// Programs and processes.
	{"execve", "EPERM", unix.SYS_EXECVE, with()},
	{"execveat", "EPERM", unix.SYS_EXECVEAT, with(cwd)},
	{"fork", killed, unix.SYS_FORK, with()},
	{"vfork", killed, unix.SYS_VFORK, with()},
	{"clone", killed, unix.SYS_CLONE, with(uintptr(unix.SIGCHLD))},
	{"clone3", killed, unix.SYS_CLONE3, with()},
	{"kill parent", killed, unix.SYS_KILL, at(uintptr(unix.SIGKILL))},
	{"kill all", killed, unix.SYS_KILL, with(^uintptr(0), uintptr(unix.SIGKILL))},
	{"tgkill parent", killed, unix.SYS_TGKILL, func(v *villain) [6]uintptr {
		return [6]uintptr{uintptr(v.parentPID), uintptr(v.parentPID), uintptr(unix.SIGKILL)}
	}},
	{"ptrace parent", killed, unix.SYS_PTRACE, func(v *villain) [6]uintptr {
		return [6]uintptr{unix.PTRACE_ATTACH, uintptr(v.parentPID)}
	}},
	{"process_vm_readv parent", killed, unix.SYS_PROCESS_VM_READV, at(0, 1, 0, 1)},
	{"process_vm_writev parent", killed, unix.SYS_PROCESS_VM_WRITEV, at(0, 1, 0, 1)},
	{"pidfd_open parent", killed, unix.SYS_PIDFD_OPEN, at()},
	{"pidfd_getfd", killed, unix.SYS_PIDFD_GETFD, with(0, 3)},
	{"pidfd_send_signal", killed, unix.SYS_PIDFD_SEND_SIGNAL, with(0, uintptr(unix.SIGKILL))},

	// Rights.
	{"setuid 0", "EPERM", unix.SYS_SETUID, with()},
	{"setgid 0", "EPERM", unix.SYS_SETGID, with()},
	{"setresuid 0", "EPERM", unix.SYS_SETRESUID, with()},
	{"setgroups", "EPERM", unix.SYS_SETGROUPS, with()},
	{"capset", "EPERM", unix.SYS_CAPSET, with()},
	{"prctl PR_SET_DUMPABLE", killed, unix.SYS_PRCTL, with(unix.PR_SET_DUMPABLE, 1)},
	{"prctl PR_SET_SECCOMP", killed, unix.SYS_PRCTL, with(unix.PR_SET_SECCOMP, 0)},
	{"seccomp", killed, unix.SYS_SECCOMP, with(1)},
	{"personality", killed, unix.SYS_PERSONALITY, with(0x0040000)},
	{"keyctl", killed, unix.SYS_KEYCTL, with()},
	{"prlimit64", killed, unix.SYS_PRLIMIT64, with()},

	// The system.
	{"mount", killed, unix.SYS_MOUNT, with()},
	{"umount2", killed, unix.SYS_UMOUNT2, with()},
	{"pivot_root", killed, unix.SYS_PIVOT_ROOT, with()},
	{"chroot", killed, unix.SYS_CHROOT, with()},
	{"unshare", killed, unix.SYS_UNSHARE, with(unix.CLONE_NEWUSER)},
	{"setns", killed, unix.SYS_SETNS, with()},
	{"bpf", killed, unix.SYS_BPF, with()},
	{"userfaultfd", killed, unix.SYS_USERFAULTFD, with()},
	{"perf_event_open", killed, unix.SYS_PERF_EVENT_OPEN, with()},
	{"io_uring_setup", killed, unix.SYS_IO_URING_SETUP, with(1)},
	{"init_module", killed, unix.SYS_INIT_MODULE, with()},

	// Code.
	{"mmap executable", killed, unix.SYS_MMAP, with(0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0))},
	{"mmap writable and executable", killed, unix.SYS_MMAP, with(0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0))},
	{"mprotect executable", killed, unix.SYS_MPROTECT, with(0, 4096, unix.PROT_EXEC)},
	{"getpid of x32", killed, unix.SYS_GETPID | x32, with()},
}

// try makes one call.
func (c *call) try(v *villain) error {
	a := c.args(v)
	n, _, errno := syscall.RawSyscall6(c.nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	if n == 0 && (c.nr == unix.SYS_FORK || c.nr == unix.SYS_VFORK || c.nr == unix.SYS_CLONE) {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

// refusedCalls makes all calls that a villain survives.
func (v *villain) refusedCalls() error {
	for i := range calls {
		if calls[i].want != killed {
			v.say(attempt, calls[i].name, calls[i].try(v))
		}
	}
	return v.finish()
}

// deadlyCall makes the one that is named; a villain that survives says so.
func (v *villain) deadlyCall() error {
	i := slices.IndexFunc(calls, func(c call) bool { return c.name == v.plan.S })
	v.say(attempt, calls[i].name, calls[i].try(v))
	return v.finish()
}

// outcomes are what became of the calls, by call and role.
type outcomes struct {
	mu    sync.Mutex
	found map[string]map[string]string
}

func (o *outcomes) add(call, role, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found[call] == nil {
		o.found[call] = map[string]string{}
	}
	o.found[call][role] = outcome
}

// attempts takes over what a villain said of its attempts.
func (o *outcomes) attempts(role string) func(*testing.T, *broker, int) {
	return func(_ *testing.T, b *broker, pid int) {
		for _, l := range b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == attempt }) {
			o.add(l.Str("reason"), role, l.Str("err"))
		}
	}
}

// death takes over how a villain ended that said nothing.
func (o *outcomes) death(call, role string) func(*testing.T, *broker, int) {
	said := o.attempts(role)
	return func(t *testing.T, b *broker, pid int) {
		for _, l := range b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == "role died" }) {
			if strings.HasPrefix(l.Str("reason"), "its sandbox ended it") {
				o.add(call, role, killed)
			}
		}
		said(t, b, pid)
	}
}

// TestCalls tries every call from inside every role, in its real sandbox.
func TestCalls(t *testing.T) {
	t.Parallel()
	o := &outcomes{found: map[string]map[string]string{}}
	var jobs []job
	names := []string{"dispatcher", "cm", "router", "auth", "tlsd", "console"}
	for _, role := range names {
		jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "refused calls"}, check: o.attempts(role)})
		for _, c := range calls {
			if c.want == killed {
				jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "deadly call", S: c.name},
					death: sandboxed(role), check: o.death(c.name, role)})
			}
		}
	}
	t.Run("roles", func(t *testing.T) { campaign(t, jobs) })
	for _, c := range calls {
		row := fmt.Sprintf("%-30s", c.name)
		for _, role := range names {
			got := o.found[c.name][role]
			want := c.want
			if role == "tlsd" && c.nr == unix.SYS_CONNECT { // which it may: see outwards
				want = "EINVAL"
			}
			if got != want {
				t.Errorf("%s from %s: %q, want %s", c.name, role, got, want)
			}
			row += fmt.Sprintf("  %s %-7s", role, got)
		}
		t.Log(row)
		delete(o.found, c.name)
	}
	if len(o.found) > 0 {
		t.Errorf("outcomes of calls that are not in the list: %v", slices.Collect(maps.Keys(o.found)))
	}
}

// sandboxed is how the parent says that a role's filter ended it.
func sandboxed(role string) string {
	return fmt.Sprintf("its sandbox ended it: a system call that role %s may not make; privsep.seccomp = \"trap\" shows which", role)
}

// segments tries to write where others do: by the fds of the segments that its
// role may read only; and to read at all what it only keeps.
func (v *villain) segments() error {
	n := 0
	for _, s := range v.set.Segments {
		if s.Writable {
			continue
		}
		n++
		name := s.Kind.String()
		if privsep.Keeps(v.id, s.Kind, s.Index) {
			_, err := unix.Mmap(s.FD, 0, int(s.Size), unix.PROT_READ, unix.MAP_SHARED)
			v.say(attempt, name+" mapped, kept", err)
			_, err = unix.Read(s.FD, make([]byte, 1))
			v.say(attempt, name+" read, kept", err)
			continue
		}
		_, err := unix.Mmap(s.FD, 0, int(s.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		v.say(attempt, name+" mapped writable", err)
		_, err = unix.Write(s.FD, []byte{1})
		v.say(attempt, name+" written", err)
		if v.id.Role != privsep.RoleCM {
			continue // no mprotect at all
		}
		b, err := unix.Mmap(s.FD, 0, int(s.Size), unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			err = unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
		}
		v.say(attempt, name+" made writable", err)
	}
	if n == 0 {
		return fmt.Errorf("nothing that is read-only")
	}
	return v.finish()
}

// TestSegments: what a role may only read it cannot write.
func TestSegments(t *testing.T) {
	t.Parallel()
	var jobs []job
	for _, role := range []string{"dispatcher", "cm", "router"} {
		jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "segments"}, check: func(t *testing.T, b *broker, pid int) {
			said := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == attempt })
			for _, l := range said {
				want := "EACCES"
				if strings.HasSuffix(l.Str("reason"), " written") || strings.HasSuffix(l.Str("reason"), " kept") {
					want = "EBADF"
				}
				if l.Str("err") != want {
					t.Errorf("%s: %s: %s, want %s", role, l.Str("reason"), l.Str("err"), want)
				}
			}
			if len(said) < 2 {
				t.Errorf("%s: %d attempts", role, len(said))
			}
		}})
	}
	campaign(t, jobs)
}
