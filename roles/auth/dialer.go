package auth

import (
	"errors"
	"sync"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/auth/directory"
)

// dialer has the parent make connections: goroutines ask, the loop says so, and hears the
// answers.
type dialer struct {
	bell int

	mu      sync.Mutex
	number  uint32 // of the directory
	next    uint64
	unsent  []privsep.Dial
	waiting map[uint64]chan dialled
	pace    privsep.Pace
}

type dialled struct {
	fd  int
	err error
}

// mostDials a second are asked for; the rules allow twice as many.
const mostDials = 50

var (
	errNoParent = errors.New("no parent to connect by")
	errTooMany  = errors.New("too many connections a second")
	errNoAnswer = errors.New("no connection in time")
)

func (d *dialer) use(number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.number = number
}

func (d *dialer) dial(server int, by time.Time) (directory.Stream, error) {
	id, answer, err := d.ask(server)
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(time.Until(by))
	defer late.Stop()
	select {
	case a := <-answer:
		if a.err != nil {
			return nil, a.err
		}
		return privsep.Stream(a.fd), nil
	case <-late.C:
	}
	d.mu.Lock()
	delete(d.waiting, id)
	d.mu.Unlock()
	select {
	case a := <-answer: // just now
		if a.err == nil {
			privsep.CloseFD(a.fd)
		}
	default:
	}
	return nil, errNoAnswer
}

func (d *dialer) ask(server int) (uint64, chan dialled, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.pace.Take(mostDials, time.Now()) {
		return 0, nil, errTooMany
	}
	d.next++
	answer := make(chan dialled, 1)
	if d.waiting == nil {
		d.waiting = make(map[uint64]chan dialled)
	}
	d.waiting[d.next] = answer
	d.unsent = append(d.unsent, privsep.Dial{ID: d.next, Number: d.number, Server: uint16(server)})
	privsep.Ring(d.bell)
	return d.next, answer, nil
}

// answer gives the answer to whoever waits for it, and tells whether somebody does.
func (d *dialer) answer(id uint64, a dialled) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	waits, ok := d.waiting[id]
	if ok {
		delete(d.waiting, id)
		waits <- a
	}
	return ok
}

func (d *dialer) take() []privsep.Dial {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.unsent
	d.unsent = nil
	return all
}

// dials asks the parent for what goroutines want.
func (a *auth) dials() {
	for _, m := range a.dialer.take() {
		err := errNoParent
		if !a.parent.Orphaned() {
			err = a.parent.Send(privsep.KindDial, m.Append(nil))
		}
		if err != nil {
			a.dialer.answer(m.ID, dialled{err: err})
		}
	}
}

// noDials tells all who wait for the parent that it is gone.
func (a *auth) noDials() {
	a.dialer.mu.Lock()
	defer a.dialer.mu.Unlock()
	for id, waits := range a.dialer.waiting {
		delete(a.dialer.waiting, id)
		waits <- dialled{err: errNoParent}
	}
}

func (a *auth) dialed(m *privsep.Message) error {
	var p privsep.Dialed
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	if !a.dialer.answer(p.ID, dialled{fd: m.FDs[0]}) {
		m.CloseFDs()
	}
	return nil
}

func (a *auth) dialFailed(m *privsep.Message) error {
	var p privsep.DialFailed
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	a.dialer.answer(p.ID, dialled{err: privsep.ErrnoError(p.Errno)})
	return nil
}
