package privsep

import (
	"fmt"
	"math/bits"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kept are the capabilities without which the parent could not start a child
// again, end one, or hold a key.
const kept = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | // Drop in the child; reading the unlocking secret as its user
	1<<unix.CAP_SETPCAP | // the child empties its bounding set
	1<<unix.CAP_SYS_CHROOT | // EmptyRoot in the child
	1<<unix.CAP_SYS_ADMIN | // the child's namespaces
	1<<unix.CAP_KILL | // children have other uids
	1<<unix.CAP_IPC_LOCK // secret memory beyond RLIMIT_MEMLOCK

// Need is a capability that the parent keeps only where it is needed: if Works
// fails without it.
type Need struct {
	Cap   uintptr
	Works func() bool
}

// Keep gives up, on every thread and for whatever is executed later, all
// capabilities of a root process but those that its children are started with,
// and gains none back by any exec. Works is called on this thread without the
// capabilities in question. The result is what is kept. ENOTSUP: built with
// cgo.
func Keep(needs ...Need) (set uint64, err error) {
	have, err := ReadPosture(os.Getpid())
	if err != nil {
		return 0, err
	}
	set = kept & have.CapPrm
	for _, n := range needs {
		ok, err := worksWith(set, have.CapPrm, n.Works)
		if err != nil {
			return 0, fmt.Errorf("keep capabilities: %w", err)
		}
		if !ok {
			set |= 1 << n.Cap & have.CapPrm
		}
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"no_new_privs", noNewPrivs},
		{"ambient set", dropAmbient},
		{"bounding set", func() error { return limitBounding(set) }},
		{"capset", func() error { return setCapabilities(set) }},
		{"proof", func() error { return proveKept(set) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return 0, fmt.Errorf("keep capabilities: %s: %w", s.name, err)
		}
	}
	return set, nil
}

// worksWith tries works on this thread, which must be locked, with only set in
// effect, and puts all back.
func worksWith(set, all uint64, works func() bool) (bool, error) {
	if err := effective(set, all); err != nil {
		return false, err
	}
	ok := works()
	return ok, effective(all, all)
}

// effective sets this thread's effective and permitted capabilities.
func effective(eff, prm uint64) error {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(eff), Permitted: uint32(prm)},
		{Effective: uint32(eff >> 32), Permitted: uint32(prm >> 32)},
	}
	return unix.Capset(hdr, &data[0])
}

// limitBounding drops all but set, up to the first that the kernel does not know.
func limitBounding(set uint64) error {
	for c := range uintptr(64) {
		if set&(1<<c) != 0 {
			continue
		}
		err := allThreads(unix.PR_CAPBSET_DROP, c)
		if err == syscall.EINVAL && c > unix.CAP_AUDIT_READ {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endingWait bounds how long a thread may take to end.
const endingWait = time.Second

// proveKept holds every thread against what Keep promises. A thread that is
// ending has left the Go runtime's list, so that no call reached it: it is
// waited for.
func proveKept(set uint64) error {
	for end := time.Now().Add(endingWait); ; time.Sleep(time.Millisecond) {
		p, err := ReadPosture(os.Getpid())
		if err != nil {
			return err
		}
		if p.Uniform && p.NoNewPrivs && p.CapEff == set && p.CapPrm == set && p.CapBnd == set && p.CapInh|p.CapAmb == 0 {
			return nil
		}
		if p.Uniform || time.Now().After(end) {
			return fmt.Errorf("%w: %+v", errUnproved, p)
		}
	}
}

// CapabilityNames lists the names of a set as capabilities(7) has them, in
// lower case without "cap_".
func CapabilityNames(set uint64) []string {
	names := []string{}
	for ; set != 0; set &= set - 1 {
		c := bits.TrailingZeros64(set)
		if c < len(capabilityNames) {
			names = append(names, capabilityNames[c])
		} else {
			names = append(names, fmt.Sprint(c))
		}
	}
	return names
}

// capabilityNames by number (linux/capability.h).
var capabilityNames = [...]string{"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
	"setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource",
	"sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin",
	"syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"}
