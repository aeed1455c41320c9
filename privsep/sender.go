package privsep

import "fmt"

// Sender is the one process that may speak on a channel, as its record has it.
type Sender struct {
	PID    int
	PidIno uint64 // inode of its pidfd; every process has its own since Linux 6.9
	UID    int    // that it drops to
	Before int    // uid that it may still have before SETUP_DONE

	pidfds bool // the kernel was asked for one with each message
}

// ImpostorError says that a message did not come from the process that the
// channel was given to, but from one that got hold of its socket.
type ImpostorError struct {
	Want   Sender
	PID    int // who sent it, as the kernel says
	UID    int
	PidIno uint64
}

// Error names both.
func (e *ImpostorError) Error() string {
	return fmt.Sprintf("privsep: message from another process: pid %d uid %d pidfd %d, not pid %d uid %d pidfd %d",
		e.PID, e.UID, e.PidIno, e.Want.PID, e.Want.UID, e.Want.PidIno)
}

// check holds the kernel's word about one message against s. As long as the
// process has not been waited for, its pid is nobody else's.
func (s *Sender) check(p *packet, phase Phase) error {
	same := p.told && p.pid == s.PID && (p.uid == s.UID || phase <= PhaseSetup && p.uid == s.Before) &&
		p.pidfd == s.pidfds && (!p.pidfd || p.pidIno == s.PidIno)
	if same {
		return nil
	}
	return &ImpostorError{*s, p.pid, p.uid, p.pidIno}
}
