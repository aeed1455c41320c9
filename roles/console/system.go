package console

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"gatehouse/privsep"
)

// system.go makes the console a client of the broker, which answers requests for its state
// ($SYS.REQ.). It asks the parent for a connection where a profile allows such requests;
// when that ends it asks for another one.
//
//	client --request--> cm --> router --> cm --> console: what HTTP would answer
//
// What comes in is what a client sent and a cm passed on, and either may be hostile: a line
// has a bound, a body has one, and what makes no sense ends the connection.

// systemPace is the least time between two questions for a connection: the rules allow a
// few more.
const systemPace = time.Second

// system is the loop's side.
type system struct {
	link  *link // nil: there is none
	asked time.Time
}

// link is a connection, which a goroutine has.
type link struct {
	file io.ReadWriteCloser
	over atomic.Bool
}

// wantsSystem tells whether there is to be a connection.
func (c *console) wantsSystem() bool { return c.cfg.System && c.stopBy.IsZero() }

// tendSystem asks for a connection where there is none, and closes one that is not wanted
// any more.
func (c *console) tendSystem() {
	s := &c.system
	if s.link != nil && s.link.over.Load() {
		s.link = nil
	}
	switch {
	case s.link != nil && !c.wantsSystem():
		s.link.file.Close()
	case !c.systemDue().IsZero() && !time.Now().Before(c.systemDue()):
		s.asked = time.Now()
		c.parent.Send(privsep.KindSystemGet, nil) // or again, when its time has come
	}
}

// systemDue is when a connection is to be asked for, zero: not at all.
func (c *console) systemDue() time.Time {
	if c.system.link != nil || !c.wantsSystem() || c.parent.Orphaned() {
		return time.Time{}
	}
	return c.system.asked.Add(systemPace)
}

// takeSystem takes a connection. One that comes beside another is of no use.
func (c *console) takeSystem(fd int) {
	if c.system.link != nil || !c.wantsSystem() {
		privsep.CloseFD(fd)
		return
	}
	l := &link{file: privsep.Stream(fd)}
	c.system.link = l
	go func() {
		s := talk{server: c.server, to: l.file}
		if err := s.run(l.file); err != nil && err != io.EOF && !errors.Is(err, fs.ErrClosed) {
			c.log.Warn("connection ended", privsep.Str(privsep.KeyPeer, "cm"), privsep.Err(bare(err)))
		}
		l.file.Close()
		l.over.Store(true)
		privsep.Ring(c.server.bell)
	}()
}
