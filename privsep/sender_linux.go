package privsep

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Identify has the kernel say with each message that fd receives who sent it
// (SCM_CREDENTIALS and SCM_PIDFD, unix(7)), and refuse fds (SO_PASSRIGHTS). It
// holds for what is sent from now on: call it before the other end is given
// away. missing names what this kernel cannot do; pid and uid it always can.
func Identify(fd int) (missing []string, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return nil, fmt.Errorf("so_passcred: %w", err)
	}
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"so_passpidfd", unix.SO_PASSPIDFD, 1},   // Linux 6.5
		{"so_passrights", unix.SO_PASSRIGHTS, 0}, // Linux 6.16
	} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.opt, o.value)
		if errors.Is(err, unix.ENOPROTOOPT) {
			missing = append(missing, o.name)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", o.name, err)
		}
	}
	return missing, nil
}

// Expect refuses every message that does not come from s. Identify must have
// been called for the socket.
func (c *Channel) Expect(s Sender) error {
	on, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PASSPIDFD)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("so_passpidfd: %w", err)
	}
	s.pidfds = err == nil && on == 1
	c.sender = &s
	return nil
}

// pidfdInode says whose pidfd fd is, and closes it. 0: nobody's, the sender is
// gone and so was not the one that we have not waited for.
func pidfdInode(fd int) uint64 {
	if fd < 0 {
		return 0
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0
	}
	return st.Ino
}
