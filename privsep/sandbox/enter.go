package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// Options are what differs from one start of a role to the next.
type Options struct {
	OwnUID bool // no other component has this uid: threads can be counted
	Trap   bool // a forbidden call ends the role with a trace, not silently
	// Connect are the TCP ports that the role may connect to, where its table has the
	// calls for it.
	Connect []uint16
}

// Enter confines the whole process, for good, to what role needs. It must have
// dropped its privileges (privsep.Drop or NoNewPrivs) and have everything open.
// On error the process is in no defined state and must exit. The report says
// what this kernel did not have.
func Enter(role privsep.Role, o Options) (privsep.Sandbox, error) {
	var report privsep.Sandbox
	if _, ok := profiles[role]; !ok {
		return report, fmt.Errorf("sandbox: no profile for %v", role)
	}
	if !setLimits(role, o) {
		report.Missing |= privsep.MissingLimits
	}
	// No page that was writable becomes executable (PR_SET_MDWE(2const)).
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		report.Missing |= privsep.MissingMDWE
	}
	abi, err := restrict(o.Connect)
	if err != nil {
		return report, fmt.Errorf("sandbox: landlock: %w", err)
	}
	report.Missing |= missingAt(abi, o.Connect)
	report.Landlock = uint8(abi)
	if err := privsep.SetFilter(program(role, uint32(os.Getpid()), o.Trap)); err != nil {
		return report, fmt.Errorf("sandbox: %w", err)
	}
	if err := selfTest(); err != nil {
		return report, fmt.Errorf("sandbox: %w", err)
	}
	return report, nil
}

// missingAt is what an ABI of Landlock lacks, for a role with ports to connect to.
func missingAt(abi int, connect []uint16) (m privsep.Missing) {
	if abi == 0 {
		m |= privsep.MissingLandlock
	}
	if abi < tcpABI && len(connect) > 0 {
		m |= privsep.MissingPorts
	}
	return m
}

var errOpen = errors.New("the filter does not hold")

// selfTest tries the four ways out. Only the filter says EPERM to all of them:
// the other walls give other errors, or none without root.
func selfTest() error {
	tries := []struct {
		name string
		try  func() error
	}{
		{"openat", func() error { return opened(unix.Openat(unix.AT_FDCWD, "/", unix.O_RDONLY|unix.O_CLOEXEC, 0)) }},
		{"socket", func() error { return opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) }},
		{"socket mptcp", func() error { return opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)) }},
		{"setresuid", setRoot},
		{"execve", func() error {
			return unix.Exec("/proc/self/exe", []string{"gatehouse", privsep.ChildFlag, "none"}, nil)
		}},
	}
	for _, t := range tries {
		if err := t.try(); err != unix.EPERM {
			return fmt.Errorf("%w: %s: %v", errOpen, t.name, err)
		}
	}
	return nil
}

// opened closes what should not have come.
func opened(fd int, err error) error {
	if err == nil {
		privsep.CloseFD(fd)
	}
	return err
}

// setRoot is raw: it may act on one thread, since an outcome other than EPERM
// ends the process.
func setRoot() error {
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
