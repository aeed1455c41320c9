package privsep

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shortWait is how long Wait holds its processor before it lets the Go
// scheduler know that it sleeps, in milliseconds (BenchmarkPaced): below the 10
// after which the scheduler takes a goroutine for one that hogs its processor.
const shortWait = 8

// Poller tells which fds are ready: epoll for a loop. Wait is for one goroutine
// only; Add, Mod and Del for any, as long as there is no Close beside them.
type Poller struct {
	fd     int
	short  int      // shortWait, but for measurements; 0: none
	idle   bool     // the last wait was a long one
	file   *os.File // the same fd, of the Go runtime's poller; nil: Share was not called
	events []unix.EpollEvent
	ready  []Ready
}

// NewPoller makes a Poller that watches nothing.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	const batch = 256 // the kernel takes turns when more are ready
	return &Poller{
		fd:     fd,
		short:  shortWait,
		events: make([]unix.EpollEvent, batch),
		ready:  make([]Ready, 0, batch),
	}, nil
}

// Share has Wait take no thread while it waits: for a loop beside goroutines that do
// the work. It must be called before the walls are up, and not while anybody waits.
func (p *Poller) Share() error {
	if err := unix.SetNonblock(p.fd, true); err != nil { // or os takes it for a file that never waits
		return fmt.Errorf("poller: %w", err)
	}
	p.file = os.NewFile(uintptr(p.fd), "poller")
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("poller: %w", err)
	}
	return nil
}

// Close ends the Poller; the fds it watched stay open.
func (p *Poller) Close() {
	if p.file != nil {
		p.file.Close()
	} else {
		closeFD(p.fd)
	}
	p.fd = -1
}

// Add watches fd; Ready.Token will be token. An fd that is closed leaves by
// itself, unless a copy of it is open elsewhere: then Del it before.
func (p *Poller) Add(fd int, token uint64, mode Mode) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, token, mode)
}

// Mod changes token and mode of a watched fd.
func (p *Poller) Mod(fd int, token uint64, mode Mode) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, token, mode)
}

// Del stops watching fd.
func (p *Poller) Del(fd int) error {
	return p.control(unix.EPOLL_CTL_DEL, fd, 0, 0)
}

func (p *Poller) control(op, fd int, token uint64, mode Mode) error {
	ev := unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(token), Pad: int32(token >> 32)}
	if mode&In != 0 {
		ev.Events |= unix.EPOLLIN
	}
	if mode&Out != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	if mode&Edge != 0 {
		ev.Events |= unix.EPOLLET
	}
	if err := unix.EpollCtl(p.fd, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Wait waits until something is ready or timeout has passed, for ever when it
// is negative. The result is valid until the next Wait and empty when time is
// up or a signal came.
//
// Law: up to shortWait is waited in a raw system call, which hides the wait
// from the Go scheduler: telling it costs more than the wake-up itself. Beyond
// it is an honest blocking call, so that an idle process sleeps and holds up
// nobody's garbage collection. A raw wait that runs into its bound costs most
// of all, as the scheduler takes us for busy and looks again and again; so
// after a long wait the raw part is left out until one has been short.
func (p *Poller) Wait(timeout time.Duration) ([]Ready, error) {
	p.ready = p.ready[:0]
	n, err := p.wait(milliseconds(timeout))
	if err == syscall.EINTR {
		return p.ready, nil
	}
	if err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	for i := range p.events[:n] {
		p.ready = append(p.ready, ready(&p.events[i]))
	}
	return p.ready, nil
}

// wait waits ms milliseconds, for ever below 0, and gives the number of events.
func (p *Poller) wait(ms int) (int, error) {
	if p.file != nil && ms != 0 {
		return p.waitParked(ms)
	}
	var waited time.Duration
	raw := p.short
	if ms >= 0 {
		raw = min(raw, ms)
	}
	if ms == 0 || raw > 0 && !p.idle {
		n, errno := rawEpollWait(p.fd, p.events, raw)
		if errno != 0 {
			return 0, errno
		}
		if n > 0 || raw == ms {
			return n, nil
		}
		waited = time.Duration(raw) * time.Millisecond
		if ms > 0 {
			ms -= raw
		}
	}
	start := time.Now()
	n, err := unix.EpollWait(p.fd, p.events, ms)
	if err != syscall.EINTR {
		p.idle = waited+time.Since(start) > shortWait*time.Millisecond
	}
	return n, err
}

// waitParked is wait by the Go runtime's poller, of which ours is one fd.
func (p *Poller) waitParked(ms int) (n int, err error) {
	var deadline time.Time
	if ms >= 0 {
		deadline = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	if err := p.file.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	raw, err := p.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	err = raw.Read(func(fd uintptr) bool {
		for {
			if n, errno = rawEpollWait(int(fd), p.events, 0); n > 0 || errno != 0 {
				return true
			}
			// A wait for no time looks without a lock (ep_poll in fs/eventpoll.c): it can
			// miss what another thread has in its hands, as the runtime's poller has, whose
			// word on it we had already. poll(2) takes the lock.
			if is, err := pollNow(int(fd), unix.POLLIN); is == 0 || err != nil {
				return false
			}
		}
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil
	case err == nil && errno != 0:
		return 0, errno
	}
	return n, err
}

func ready(ev *unix.EpollEvent) Ready {
	return Ready{
		Token: uint64(uint32(ev.Pad))<<32 | uint64(uint32(ev.Fd)),
		In:    ev.Events&unix.EPOLLIN != 0,
		Out:   ev.Events&unix.EPOLLOUT != 0,
		Hup:   ev.Events&(unix.EPOLLHUP|unix.EPOLLRDHUP|unix.EPOLLERR) != 0,
	}
}
