package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// foreign: no second ABI hides behind a bit of the number here.
const foreign = 0x40000000

// archCalls are what has another name elsewhere.
var archCalls = []call{}

var archDenied = []call{
	always("fstatat", unix.SYS_FSTATAT),
}
