package roles

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"gatehouse/privsep"
	"gatehouse/roles/auth"
	"gatehouse/roles/cm"
	"gatehouse/roles/console"
	"gatehouse/roles/dispatcher"
	"gatehouse/roles/router"
	"gatehouse/roles/standin"
	"gatehouse/roles/tlsd"
)

// lone is a role that can run alone, with stand-ins for everybody else.
type lone struct {
	id  privsep.ID
	cms int // how many there are around it
	run func(*privsep.Boot, *privsep.Setup, *privsep.Channel) error
	// peers makes the stand-ins for the other children.
	peers func(*driver) (peers, error)
}

var loners = []lone{
	{privsep.ID{Role: privsep.RoleDispatcher}, 2, dispatcher.Run, newDispatcherPeers},
	{privsep.ID{Role: privsep.RoleCM}, 1, cm.Run, newCMPeers},
	{privsep.ID{Role: privsep.RoleRouter}, 2, router.Run, newRouterPeers},
	{privsep.ID{Role: privsep.RoleAuth}, 1, auth.Run, newAuthPeers},
	{privsep.ID{Role: privsep.RoleTLSD}, 1, tlsd.Run, newTLSDPeers},
	{privsep.ID{Role: privsep.RoleConsole}, 2, console.Run, newConsolePeers},
}

// peers stands in for the children that a role works with. Its methods are
// called from the driver's loop.
type peers interface {
	// listeners is what the role is handed beside its shared memory.
	listeners() []privsep.ListenerFD
	// start makes the ways to the role, which is ready.
	start(*privsep.Boot) error
	// address is where clients can connect, if anywhere.
	address() netip.AddrPort
	// lines are the kinds that standard input may hold for these peers. An
	// error is the line's, not the program's.
	lines() map[string]func(*coder) error
	// event takes note of a ready fd.
	event(token uint64) error
	// read takes what the role has said and tells whether there was anything.
	read() (bool, error)
	// settle waits for all that the role has to say about what it was told.
	settle() error
	// sleep announces that the peers will wait; false: there is more to read.
	sleep() bool
	awake()
}

// Debug runs one role alone in the foreground, until the end of standard input.
func Debug(role string) error { return debug(role, os.Stdin, os.Stdout) }

func debug(role string, in io.Reader, out io.Writer) error {
	for i := range loners {
		if l := &loners[i]; l.id.Role.String() == role {
			d, err := newDriver(l, out)
			if err != nil {
				return fmt.Errorf("%s: %w", role, err)
			}
			defer d.close()
			return d.drive(in)
		}
	}
	return fmt.Errorf("bad role %q", role)
}

// driver plays the parent of a role and reads the program's input.
type driver struct {
	*lone
	mem   *standin.Memory
	peers peers
	role  *privsep.Channel // to the role
	boot  *privsep.Boot
	poll  *privsep.Poller
	out   *bufio.Writer

	input chan inputLine // each announced by a byte on bell
	bell  int
	more  bool // an input line is announced

	ended chan error // takes what the role's life ended with
	ready bool       // the role has said SETUP_DONE
	gone  bool       // the role's channel has ended
	// refused are the cms that the role listens to no more.
	refused map[int]bool

	asked, answered uint64 // STATS_GET
	stats           privsep.RoleStats
	msg             privsep.Message
}

type inputLine struct {
	number int
	text   []byte
	err    error // ends the input
}

const (
	tokenRole = iota
	tokenInput
	tokenPeers // the first of the peers' own
)

func newDriver(l *lone, out io.Writer) (*driver, error) {
	d := &driver{lone: l, out: bufio.NewWriter(out), input: make(chan inputLine), ended: make(chan error, 1), refused: make(map[int]bool)}
	var err error
	if d.mem, err = standin.New(debugSettings(l.cms)); err != nil {
		return nil, err
	}
	if d.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if d.peers, err = l.peers(d); err != nil {
		return nil, err
	}
	child, ch, err := d.mem.Child(l.id, d.peers.listeners()...)
	if err != nil {
		return nil, err
	}
	d.role, d.boot = ch, child.Boot
	for _, f := range d.peers.listeners() {
		privsep.CloseFD(f.FD)
	}
	go func() {
		err := l.run(child.Boot, child.Setup, child.Parent)
		child.Parent.Close()
		d.ended <- err
	}()
	return d, d.poll.Add(ch.FD(), tokenRole, privsep.In)
}

func debugSettings(cms int) privsep.Settings {
	s := standin.Settings(cms)
	s.LogLevel = privsep.LevelDebug
	return s
}

// close gives back what is large, and files; descriptors go with the process.
func (d *driver) close() {
	d.role.Close()
	d.poll.Close()
	d.mem.Close()
	if c, ok := d.peers.(io.Closer); ok {
		c.Close()
	}
}

// drive is the program's life: get the role ready, then carry out one line of
// input after the other until there is none, or no role.
func (d *driver) drive(in io.Reader) error {
	if err := d.readInput(in); err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return err
	}
	if err := d.follow(); err != nil {
		return err
	}
	d.role.Close() // the role ends without its parent
	d.gone = true
	err := <-d.ended
	if last := d.peers.settle(); err == nil {
		err = last
	}
	if failed := d.out.Flush(); err == nil || errors.Is(err, privsep.ErrOrphan) {
		return failed
	}
	return fmt.Errorf("%v ended: %w", d.id.Role, err)
}

func (d *driver) begin() error {
	for !d.ready {
		if err := d.turn(); err != nil || d.gone {
			return err
		}
	}
	if err := d.peers.start(d.boot); err != nil {
		return err
	}
	if err := d.settle(); err != nil {
		return err
	}
	if addr := d.peers.address(); addr.IsValid() {
		c := &coder{out: []byte{'{'}}
		c.put("listen", quote(addr.String()))
		d.print(c.line())
	}
	return nil
}

func (d *driver) follow() error {
	for !d.gone {
		if !d.more {
			if err := d.turn(); err != nil {
				return err
			}
			continue
		}
		d.more = false
		l := <-d.input
		if l.err == io.EOF && len(l.text) == 0 {
			return nil
		}
		if l.err != nil && l.err != io.EOF {
			return l.err
		}
		if err := d.carryOut(l); err != nil {
			d.print(errorLine(l.number, err))
		}
		if err := d.settle(); err != nil {
			return err
		}
		if l.err == io.EOF {
			return nil
		}
	}
	return nil
}

// readInput has a goroutine read lines, since not everything that can be
// standard input can be polled. It rings before it hands over.
func (d *driver) readInput(in io.Reader) error {
	near, far, err := privsep.Doorbell()
	if err != nil {
		return err
	}
	d.bell = near
	if err := d.poll.Add(near, tokenInput, privsep.In); err != nil {
		return err
	}
	go func() {
		r := bufio.NewReader(in)
		for n := 1; ; n++ {
			text, err := r.ReadBytes('\n')
			privsep.Ring(far)
			d.input <- inputLine{n, text, err}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// turn takes what there is and, if there was nothing, waits for more.
func (d *driver) turn() error {
	if worked, err := d.peers.read(); worked || err != nil {
		return err
	}
	if !d.peers.sleep() {
		return nil
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	ready, err := d.poll.Wait(-1)
	d.peers.awake()
	if err != nil {
		return err
	}
	for _, e := range ready {
		switch e.Token {
		case tokenRole:
			err = d.fromRole()
		case tokenInput:
			privsep.DrainBell(d.bell)
			d.more = true
		default:
			err = d.peers.event(e.Token)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the role has dealt with everything that it was told, and
// prints what it said about that.
func (d *driver) settle() error {
	if err := d.ask(); err != nil || d.gone {
		return err
	}
	return d.peers.settle()
}

// ask has the role answer a STATS_GET: it has then heard everything that was
// said to it over the channel before, and everything that it said there before
// is printed.
func (d *driver) ask() error {
	d.asked++
	get := privsep.StatsGet{ID: d.asked}
	if err := d.send(privsep.KindStatsGet, get.Append(nil)); err != nil {
		return err
	}
	for d.answered != d.asked && !d.gone {
		if err := d.turn(); err != nil {
			return err
		}
	}
	return nil
}
