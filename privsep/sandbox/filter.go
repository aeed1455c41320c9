package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// struct seccomp_data (linux/seccomp.h): what a program looks at.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16 // 8 bytes each, low word first: both processors are little endian
)

const (
	resultKill  = unix.SECCOMP_RET_KILL_PROCESS
	resultTrap  = unix.SECCOMP_RET_TRAP
	resultAllow = unix.SECCOMP_RET_ALLOW
	resultDeny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func and(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
}

func result(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

// skipIf skips n instructions if the accumulator equals k.
func skipIf(k uint32, n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(n), K: k}
}

// skipUnless skips n instructions if it does not.
func skipUnless(k uint32, n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(n), K: k}
}

// skipBelow skips n instructions if the accumulator is less than k.
func skipBelow(k uint32, n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: uint8(n), K: k}
}

// program is role's filter: each row of its table is a block that either ends
// in a result or leaves the number in the accumulator for the next block.
func program(role privsep.Role, pid uint32, trap bool) []unix.SockFilter {
	other := uint32(resultKill)
	if trap {
		other = resultTrap
	}
	prog := []unix.SockFilter{
		load(offArch),
		skipIf(auditArch, 1),
		result(resultKill),
		load(offNumber),
		skipBelow(foreign, 1),
		result(resultKill),
	}
	for _, c := range allowed(role) {
		prog = append(prog, c.block(resultAllow, pid)...)
	}
	for _, c := range refused(role) {
		prog = append(prog, c.block(resultDeny, pid)...)
	}
	return append(prog, result(other))
}

// allowed is all that role may call.
func allowed(role privsep.Role) []call {
	return slices.Concat(hot, archCalls, floor, profiles[role])
}

// refused are those of denied that role may not make in any form: what is left of a
// call that it may make in some is among them.
func refused(role privsep.Role) []call {
	return slices.DeleteFunc(slices.Concat(denied, archDenied), func(d call) bool {
		return slices.ContainsFunc(profiles[role], func(c call) bool { return c.nr == d.nr && len(c.when) == 0 })
	})
}

// block gives then if the number is c's and all conditions hold.
func (c *call) block(then, pid uint32) []unix.SockFilter {
	if len(c.when) == 0 {
		return []unix.SockFilter{skipUnless(c.nr, 1), result(then)}
	}
	var body []unix.SockFilter
	for i, test := range c.when {
		want := test.want
		if want == ownPID {
			want = pid
		}
		left := 3*(len(c.when)-1-i) + 1 // to the reload of the number
		body = append(body, load(offArgs+8*uint32(test.arg)), and(test.mask), skipUnless(want, left))
	}
	body = append(body, result(then), load(offNumber))
	return append([]unix.SockFilter{skipUnless(c.nr, len(body))}, body...)
}
