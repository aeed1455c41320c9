package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// foreign is the first number that is another ABI's: x32 shares ours but for
// this bit.
const foreign = 0x40000000

// archCalls are the same calls as elsewhere under this processor's older names.
var archCalls = []call{
	always("epoll_wait", unix.SYS_EPOLL_WAIT),
}

var archDenied = []call{
	always("open", unix.SYS_OPEN),
	always("creat", unix.SYS_CREAT),
	always("stat", unix.SYS_STAT),
	always("lstat", unix.SYS_LSTAT),
	always("newfstatat", unix.SYS_NEWFSTATAT),
	always("access", unix.SYS_ACCESS),
	always("readlink", unix.SYS_READLINK),
}
