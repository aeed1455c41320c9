package console

import (
	"io"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// console is the loop: the parent's channel and new connections. Requests are the
// server's, in goroutines of their own.
type console struct {
	cfg       *privsep.Settings
	parent    *privsep.Channel
	poll      *privsep.Poller
	log       journal
	word      *word
	subs      *subs
	view      *view
	server    *server
	listeners map[uint16]*listener
	system    system
	bell      int // the last request has been answered, or a connection of system's has ended
	walls     privsep.Sandbox

	listening bool      // the poller watches the listeners
	pause     time.Time // when to accept again, zero: now
	stopBy    time.Time // when a stop is over, zero: there is none
	until     time.Time // when an orphan stops, zero: there is a parent
	msg       privsep.Message
}

// listener is one socket to accept at.
type listener struct {
	fd      int
	local   bool   // a Unix socket
	address string // as bound
}

const (
	tokenParent = iota
	tokenBell
	tokenRouter
	tokenListener // + its number
)

// run serves until the parent says stop and what was asked is answered.
func (c *console) run() error {
	c.server.start()
	c.listening = true
	for n, l := range c.listeners {
		if err := c.poll.Add(l.fd, tokenListener+uint64(n), privsep.In); err != nil {
			return err
		}
	}
	for !c.over() {
		c.tendSystem()
		ready, err := c.poll.Wait(c.timeout())
		if err != nil {
			return err
		}
		for _, e := range ready {
			if err := c.event(e); err != nil {
				return err
			}
		}
		if !c.pause.IsZero() && !time.Now().Before(c.pause) {
			c.pause = time.Time{}
			c.listen(true)
		}
	}
	c.server.close()
	c.dropRouter()
	if c.parent.Orphaned() {
		return nil
	}
	return c.parent.Send(privsep.KindDrained, nil)
}

func (c *console) event(e privsep.Ready) error {
	switch {
	case e.Token >= tokenListener:
		if l := c.listeners[uint16(e.Token-tokenListener)]; l != nil {
			c.accept(l)
		}
		return nil
	case e.Token == tokenBell:
		privsep.DrainBell(c.bell)
		return nil
	case e.Token == tokenRouter:
		c.fromRouter()
		return nil
	case c.parent.Orphaned():
		c.heard()
		return nil
	}
	return c.fromParent()
}

// acceptTurn is how many connections are taken before anything else has its turn.
const acceptTurn = 16

// breath is how long nobody is accepted when there are no descriptors left.
const breath = 100 * time.Millisecond

func (c *console) accept(l *listener) {
	for range acceptTurn {
		fd, from, errno := privsep.Accept(l.fd)
		switch errno {
		case 0:
			c.server.admit(newTransport(fd, from, l))
		case syscall.EAGAIN:
			return
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
			c.listen(false)
			c.pause = time.Now().Add(breath)
			return
		}
	}
}

// listen has connections come, or wait.
func (c *console) listen(yes bool) {
	if yes == c.listening || !c.stopBy.IsZero() {
		return
	}
	c.listening = yes
	for n, l := range c.listeners {
		var err error
		if yes {
			err = c.poll.Add(l.fd, tokenListener+uint64(n), privsep.In)
		} else {
			err = c.poll.Del(l.fd)
		}
		if err != nil {
			c.log.Error("poll", privsep.Err(err))
		}
	}
}

// listenAt takes a listening socket from the parent. One that has come before stays.
func (c *console) listenAt(m *privsep.Listener, fd int) error {
	if m.Network != privsep.NetConsole && m.Network != privsep.NetConsoleUnix {
		privsep.CloseFD(fd)
		return privsep.ErrShape
	}
	if c.listeners[m.Number] != nil {
		privsep.CloseFD(fd)
		return nil
	}
	c.listeners[m.Number] = &listener{fd: fd, local: m.Network.Local(), address: m.Address}
	if c.listening {
		return c.poll.Add(fd, tokenListener+uint64(m.Number), privsep.In)
	}
	return nil
}

// leave closes one. Those who have connected there may stay.
func (c *console) leave(number uint16) {
	l := c.listeners[number]
	if l == nil {
		return
	}
	if c.listening {
		c.poll.Del(l.fd)
	}
	privsep.CloseFD(l.fd)
	delete(c.listeners, number)
}

func (c *console) fromParent() error {
	for {
		err := c.parent.Recv(&c.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			return c.lost()
		case err != nil:
			return err
		}
		if err := c.handle(&c.msg); err != nil {
			return err
		}
	}
}

// fromRouter reads what the router says. Its end is nothing: the next one comes by a new
// channel.
func (c *console) fromRouter() {
	if c.subs.router == nil {
		return
	}
	if err := c.subs.heard(&c.msg); err != nil {
		if err != io.EOF {
			c.log.Error("channel closed", privsep.Str(privsep.KeyPeer, privsep.RoleRouter.String()), privsep.Err(err))
		}
		c.dropRouter()
	}
}

func (c *console) dropRouter() {
	if ch := c.subs.disconnect(); ch != nil {
		c.poll.Del(ch.FD())
		ch.Close()
	}
}

func (c *console) newRouter(m *privsep.Message) error {
	c.dropRouter()
	ch, err := c.subs.connect(m)
	if err != nil {
		return err
	}
	return c.poll.Add(ch.FD(), tokenRouter, privsep.In)
}

func (c *console) handle(m *privsep.Message) error {
	switch m.Kind {
	case privsep.KindStatus:
		return c.word.take(m)
	case privsep.KindSystemConn:
		c.takeSystem(m.FDs[0])
	case privsep.KindPeer:
		return c.newRouter(m)
	case privsep.KindListener:
		var l privsep.Listener
		if err := l.Parse(m.Payload); err != nil {
			return err
		}
		return c.listenAt(&l, m.FDs[0])
	case privsep.KindListenerGone:
		var g privsep.ListenerGone
		if err := g.Parse(m.Payload); err != nil {
			return err
		}
		c.leave(g.Number)
	case privsep.KindSettings:
		if err := c.cfg.Live.Parse(m.Payload); err != nil {
			return err
		}
		c.server.settle(&c.cfg.Live)
		c.log.SetLevel(c.cfg.LogLevel)
	case privsep.KindStatsGet:
		return privsep.AnswerStats(c.parent, m, c.server.stats())
	case privsep.KindShutdown:
		c.stop()
	}
	return nil
}

// lastAnswer is how long answers that are under way may take at the end.
const lastAnswer = time.Second

// stop takes no more connections and requests.
func (c *console) stop() {
	for n := range c.listeners {
		c.leave(n)
	}
	c.stopBy = time.Now().Add(lastAnswer)
	c.server.finish()
}

// over tells whether there is nothing left to do.
func (c *console) over() bool {
	now := time.Now()
	switch {
	case !c.stopBy.IsZero():
		return c.server.deserted() || !now.Before(c.stopBy)
	case !c.until.IsZero():
		return !now.Before(c.until)
	}
	return false
}

// timeout is how long there is nothing to do but for what comes.
func (c *console) timeout() time.Duration {
	next := time.Duration(-1)
	for _, at := range []time.Time{c.pause, c.stopBy, c.until, c.systemDue()} {
		if at.IsZero() {
			continue
		}
		if d := max(time.Until(at), 0) + time.Millisecond; next < 0 || d < next {
			next = d
		}
	}
	return next
}
