package roles

import (
	"errors"
	"fmt"
	"io"
	"time"

	"gatehouse/privsep"
)

// This file is the driver as a role's parent: what comes over the role's
// channel, and the lines of input that go there.

func (d *driver) print(line []byte) { d.out.Write(line) } // its error comes with Flush

func errorLine(number int, err error) []byte {
	c := &coder{out: []byte{'{'}}
	c.put("error", quote(fmt.Sprintf("line %d: %v", number, err)))
	return c.line()
}

// send says something to the role. One that has ended is none of the sender's
// business: its channel tells.
func (d *driver) send(k privsep.Kind, payload []byte, fds ...int) error {
	err := d.role.SendWait(patience, k, payload, fds...)
	if err == io.EOF || err == privsep.ErrClosed {
		return nil
	}
	return err
}

// patience bounds the wait for a role that does not read its channel.
const patience = 10 * time.Second

func (d *driver) fromRole() error {
	for {
		err := d.role.Recv(&d.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			d.gone = true
			return d.poll.Del(d.role.FD())
		case err != nil:
			return err
		}
		if err := d.heard(&d.msg); err != nil {
			return fmt.Errorf("%v: %w", d.msg.Kind, err)
		}
	}
}

func (d *driver) heard(m *privsep.Message) error {
	switch m.Kind {
	case privsep.KindSetupDone:
		d.ready = true
		d.role.SetPhase(privsep.PhaseRun)
	case privsep.KindLog:
		l, err := privsep.DecodeLog(m.Payload)
		if err != nil {
			return err
		}
		d.print(logLine(&l))
	case privsep.KindStats:
		var err error
		d.answered, d.stats, err = privsep.ParseRoleStats(m.Payload)
		return err
	case privsep.KindCMFault:
		var f privsep.CMFault
		if err := f.Parse(m.Payload); err != nil {
			return err
		}
		c := newLine(m.Kind.String())
		cm := uint16(f.CM)
		ident(c, "cm", &cm)
		c.put("reason", quote(f.Reason.String()))
		d.print(c.line())
		d.refused[f.CM] = f.Reason == privsep.FaultCorrupt
	case privsep.KindTicketSign:
		line, err := ticketSign(m)
		if err != nil {
			return err
		}
		d.print(line)
	case privsep.KindStatusGet:
		line, err := statusGet(m)
		if err != nil {
			return err
		}
		d.print(line)
	case privsep.KindTLSSign:
		line, err := tlsSign(m)
		if err != nil {
			return err
		}
		d.print(line)
	case privsep.KindKicked:
		line, err := kicked(m)
		if err != nil {
			return err
		}
		d.print(line)
	case privsep.KindDrained:
		d.print(newLine(m.Kind.String()).line())
	}
	return nil
}

// parentLines are what any role's parent can say.
func (d *driver) parentLines() map[string]func(*coder) error {
	return map[string]func(*coder) error{
		privsep.KindStatsGet.String(): d.lineStats,
		privsep.KindShutdown.String(): d.lineShutdown,
	}
}

// carryOut does what a line says. Its error is for the one who wrote the line.
func (d *driver) carryOut(l inputLine) error {
	if len(trim(l.text)) == 0 {
		return nil
	}
	c, err := parseLine(l.text)
	if err != nil {
		return err
	}
	do := d.parentLines()[c.kind]
	if do == nil {
		do = d.peers.lines()[c.kind]
	}
	if do == nil {
		return fmt.Errorf("unknown kind %q", c.kind)
	}
	return do(c)
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r' || b[len(b)-1] == ' ') {
		b = b[:len(b)-1]
	}
	return b
}

func (d *driver) lineStats(c *coder) error {
	if err := c.end(); err != nil {
		return err
	}
	if err := d.settle(); err != nil || d.gone {
		return err
	}
	answer := newLine(privsep.KindStats.String())
	stats(answer, &d.stats)
	d.print(answer.line())
	return nil
}

func (d *driver) lineShutdown(c *coder) error {
	var ms uint32
	number(c, "drain_ms", &ms)
	if err := c.end(); err != nil {
		return err
	}
	s := privsep.Shutdown{Drain: time.Duration(ms) * time.Millisecond}
	return d.send(privsep.KindShutdown, s.Append(nil))
}

var errNoRoom = errors.New("too long for a ring")
