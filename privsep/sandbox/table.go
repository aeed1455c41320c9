package sandbox

import (
	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// call is a system call in one of its permitted forms; one with several forms
// has a row for each.
type call struct {
	name string
	nr   uint32
	when []is // all of them; none: whatever the arguments
}

// is holds when argument arg, under mask, equals want. The kernel looks at the
// low word alone of every argument named here, and so do we.
type is struct {
	arg        int
	mask, want uint32
}

func option(level, name uint32) []is         { return []is{equals(1, level), equals(2, name)} }
func equals(arg int, want uint32) is         { return is{arg, whole, want} }
func without(arg int, bits uint32) is        { return is{arg, bits, 0} }
func mapped(name string, nr uint32) call     { return call{name, nr, []is{without(2, unix.PROT_EXEC)}} }
func control(cmd uint32, name string) call   { return call{name, unix.SYS_FCNTL, []is{equals(1, cmd)}} }
func always(name string, nr uint32) call     { return call{name, nr, nil} }
func when(name string, nr uint32, c is) call { return call{name, nr, []is{c}} }

const whole = ^uint32(0)

// ownPID in a condition stands for the pid of the process.
const ownPID = whole

// threadFlags are exactly what the Go runtime clones with; on some processors
// it adds CLONE_SETTLS. clone3 it does not use.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND |
	unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// hot is what roles call for every batch of messages; it is found first, though
// a kernel from 5.11 on keeps a bitmap of what is always allowed and does not
// run the program for it.
var hot = []call{
	always("epoll_pwait", unix.SYS_EPOLL_PWAIT),
	always("read", unix.SYS_READ),
	always("write", unix.SYS_WRITE),
	always("writev", unix.SYS_WRITEV),
	always("futex", unix.SYS_FUTEX),
	always("nanosleep", unix.SYS_NANOSLEEP),
	always("sched_yield", unix.SYS_SCHED_YIELD),
	always("epoll_ctl", unix.SYS_EPOLL_CTL),
	always("recvmsg", unix.SYS_RECVMSG),
	// That flag connects, which no role may by itself.
	when("sendmsg", unix.SYS_SENDMSG, without(2, unix.MSG_FASTOPEN)),
	always("close", unix.SYS_CLOSE),
}

// floor is what the Go runtime needs under any program.
var floor = []call{
	// Memory, never executable.
	mapped("mmap", unix.SYS_MMAP),
	always("munmap", unix.SYS_MUNMAP),
	always("madvise", unix.SYS_MADVISE),
	when("prctl", unix.SYS_PRCTL, equals(0, unix.PR_SET_VMA)), // names of mappings
	// Threads, and signals to our own.
	{"clone", unix.SYS_CLONE, []is{{0, ^uint32(unix.CLONE_SETTLS), threadFlags}}},
	when("tgkill", unix.SYS_TGKILL, equals(0, ownPID)),
	always("getpid", unix.SYS_GETPID),
	always("gettid", unix.SYS_GETTID),
	always("rt_sigreturn", unix.SYS_RT_SIGRETURN),
	always("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK),
	always("rt_sigaction", unix.SYS_RT_SIGACTION),
	always("sigaltstack", unix.SYS_SIGALTSTACK),
	always("restart_syscall", unix.SYS_RESTART_SYSCALL), // after SIGSTOP and SIGCONT
	always("sched_getaffinity", unix.SYS_SCHED_GETAFFINITY),
	always("exit", unix.SYS_EXIT),
	always("exit_group", unix.SYS_EXIT_GROUP),
	// Time, where the vDSO has no clock to read; chance.
	always("clock_gettime", unix.SYS_CLOCK_GETTIME),
	always("getrandom", unix.SYS_GETRANDOM),
	// A full channel is waited for; x/sys makes it of poll.
	always("ppoll", unix.SYS_PPOLL),
	// The runtime's own poller, which it makes with the first timer.
	always("epoll_create1", unix.SYS_EPOLL_CREATE1),
	always("eventfd2", unix.SYS_EVENTFD2),
	always("fstat", unix.SYS_FSTAT),
}

// A role without a parent waits for a new one: it accepts at that one socket,
// and asks who it is.
var (
	adoption = call{"accept4 of a new parent", unix.SYS_ACCEPT4,
		[]is{equals(0, privsep.AdoptFD), equals(3, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)}}
	peerCredentials = call{"getsockopt SO_PEERCRED", unix.SYS_GETSOCKOPT, option(unix.SOL_SOCKET, unix.SO_PEERCRED)}
)

// tcpSocket is a socket that speaks TCP and nothing else: Landlock knows where it may
// go.
func tcpSocket(name string, domain uint32) call {
	return call{"socket " + name, unix.SYS_SOCKET, []is{equals(0, domain),
		equals(1, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK), equals(2, unix.IPPROTO_TCP)}}
}

func setOption(name string, level, opt uint32) call {
	return call{"setsockopt " + name, unix.SYS_SETSOCKOPT, option(level, opt)}
}

// profiles are what each role needs beside hot and floor. Later roles get a row
// before they start.
var profiles = map[privsep.Role][]call{
	privsep.RoleDispatcher: {
		always("accept4", unix.SYS_ACCEPT4),
		peerCredentials,
		{"getsockopt SO_PEERPIDFD", unix.SYS_GETSOCKOPT, option(unix.SOL_SOCKET, unix.SO_PEERPIDFD)},
		when("shutdown SHUT_WR", unix.SYS_SHUTDOWN, equals(1, unix.SHUT_WR)),
	},
	privsep.RoleRouter: {
		adoption,
		peerCredentials,
	},
	privsep.RoleAuth: {
		adoption,
		peerCredentials,
		always("pread64", unix.SYS_PREAD64), // who vouches for certificates, in memfds of the parent's; executables of clients
		// Sockets that the parent connects to the directory become files of Go's.
		control(unix.F_GETFL, "fcntl F_GETFL"),
	},
	privsep.RoleTLSD: {
		// Local callers, and who they are.
		when("accept4", unix.SYS_ACCEPT4, equals(3, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)),
		peerCredentials,
		when("shutdown SHUT_WR", unix.SYS_SHUTDOWN, equals(1, unix.SHUT_WR)),
		{"getsockopt SO_PEERPIDFD", unix.SYS_GETSOCKOPT, option(unix.SOL_SOCKET, unix.SO_PEERPIDFD)},
		{"getsockopt SO_PEERGROUPS", unix.SYS_GETSOCKOPT, option(unix.SOL_SOCKET, unix.SO_PEERGROUPS)},
		always("getsockname", unix.SYS_GETSOCKNAME), // where one was accepted that another tlsd passes on
		control(unix.F_GETFL, "fcntl F_GETFL"),
		always("pread64", unix.SYS_PREAD64), // certificates: in memfds of the parent's
		// Connections to others.
		tcpSocket("IPv4", unix.AF_INET),
		tcpSocket("IPv6", unix.AF_INET6),
		always("connect", unix.SYS_CONNECT), // to the ports that Landlock allows
		setOption("SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE),
		setOption("TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY),
		setOption("TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
		setOption("TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL),
		setOption("TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
		setOption("TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT),
	},
	privsep.RoleConsole: {
		// Those who watch; what they send is read by net/http, over files of Go's. It
		// ends its side of a connection on which more was sent than it reads.
		when("accept4", unix.SYS_ACCEPT4, equals(3, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)),
		peerCredentials,
		when("shutdown SHUT_WR", unix.SYS_SHUTDOWN, equals(1, unix.SHUT_WR)),
		control(unix.F_GETFL, "fcntl F_GETFL"),
		always("pread64", unix.SYS_PREAD64), // the parent's word, in a memfd
	},
	privsep.RoleCM: {
		adoption,
		peerCredentials,
		when("shutdown SHUT_WR", unix.SYS_SHUTDOWN, equals(1, unix.SHUT_WR)),
		when("ioctl SIOCOUTQ", unix.SYS_IOCTL, equals(1, unix.SIOCOUTQ)),
		// Certificates and, if it is released, the key: in memfds of the
		// parent's, or in locked memory that no core or swap shows.
		always("pread64", unix.SYS_PREAD64),
		always("mlock", unix.SYS_MLOCK),
		always("munlock", unix.SYS_MUNLOCK),
		mapped("mprotect", unix.SYS_MPROTECT),
		control(unix.F_GETFL, "fcntl F_GETFL"),
		control(unix.F_GET_SEALS, "fcntl F_GET_SEALS"),
	},
}

// denied get EPERM: what libraries and confused code may try, what the
// self-test tries, and what changes nothing by failing.
var denied = []call{
	always("openat", unix.SYS_OPENAT),
	always("openat2", unix.SYS_OPENAT2),
	always("readlinkat", unix.SYS_READLINKAT),
	always("faccessat", unix.SYS_FACCESSAT),
	always("faccessat2", unix.SYS_FACCESSAT2),
	always("statx", unix.SYS_STATX),
	always("socket", unix.SYS_SOCKET),
	always("socketpair", unix.SYS_SOCKETPAIR),
	always("connect", unix.SYS_CONNECT),
	always("bind", unix.SYS_BIND),
	always("listen", unix.SYS_LISTEN),
	always("execve", unix.SYS_EXECVE),
	always("execveat", unix.SYS_EXECVEAT),
	always("setuid", unix.SYS_SETUID),
	always("setgid", unix.SYS_SETGID),
	always("setreuid", unix.SYS_SETREUID),
	always("setregid", unix.SYS_SETREGID),
	always("setresuid", unix.SYS_SETRESUID),
	always("setresgid", unix.SYS_SETRESGID),
	always("setfsuid", unix.SYS_SETFSUID),
	always("setfsgid", unix.SYS_SETFSGID),
	always("setgroups", unix.SYS_SETGROUPS),
	always("capset", unix.SYS_CAPSET),
}
