package tlsd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// caller is a connection of a local process. One goroutine reads from it, from the head
// to the end; a second one writes to it while it has a session.
type caller struct {
	hub     *hub
	file    *os.File
	raw     syscall.RawConn // of the same
	who     *identity
	account *account
	word    *byte  // of who has passed it on
	early   []byte // was read behind the head
	req     protocol.Request
	can     rights
	piece   int    // of the chunk that is being read, what is still to come
	has     uint64 // bytes that it says, with RELEASE, it has read

	// With a session, and under its lock.
	wake  *sync.Cond
	live  bool          // it has its answer
	stop  bool          // it has gone, or is to go
	done  chan struct{} // closed when deliver is over; nil: nobody has needed it yet
	busy  bool          // deliver has something in hand
	begun []byte        // goes to it before all else: the rest of what it has a part of
	out   []byte        // framed: what is to be written
	owed  int           // framed: answers to come
	frame int           // framed: who reads for all has so much of one still to get
	asked bool          // raw: it is among the session's readers
	used  bool          // exclusive: bytes have gone either way
	http  *exchange     // exclusive: where it is, if it does not know
	lost  bool          // bytes were taken for it that it has not got
	got   uint64        // bytes that were written to it
}

const (
	// headTime is how long a caller has for its head.
	headTime = 5 * time.Second
	// stallTime is how long the holder of a session may take nothing when others want it.
	stallTime = 30 * time.Second
	// partTime is how long what is under way to a caller that lets go may take.
	partTime = 5 * time.Second
)

// serve is a caller's life.
func (c *caller) serve() {
	defer c.hub.dismiss(c)
	switch {
	case c.passed():
		return
	case c.word != nil && *c.word == passList:
		c.identify()
		c.list()
		return
	}
	if code := c.readHead(); code != protocol.OK {
		if code != 0 {
			c.refuse(&refusal{code: code})
		}
		return
	}
	c.identify()
	if c.hub.shards.serves(&c.req) != c.hub.shards.self { // passed to where it does not belong
		c.refuse(&refusal{code: protocol.NoSession})
		return
	}
	switch c.req.Verb {
	case protocol.List:
		c.list()
	case protocol.Close:
		c.closeSession()
	default:
		c.use()
	}
}

// readHead reads up to the end of the head and what has come with it. 0: the caller
// has gone.
func (c *caller) readHead() protocol.Code {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	b := buf[:0:protocol.MaxHead]
	c.file.SetReadDeadline(time.Now().Add(c.hub.headTime))
	defer c.file.SetReadDeadline(time.Time{})
	for {
		n, foreign, err := c.readFrom(b[len(b):cap(b)])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return protocol.Late
		case err != nil || n == 0:
			return 0
		case foreign: // whoever has got hold of the connection, it is not who opened it
			c.hub.log.Warn("caller refused", privsep.Str(privsep.KeyReason, "sender"), privsep.Int(privsep.KeyUID, int64(c.who.UID)))
			return protocol.Refused
		}
		b = b[:len(b)+n]
		end := protocol.End(b)
		if end == 0 && len(b) < cap(b) {
			continue
		}
		if c.req, err = protocol.Parse(b[:end]); err != nil {
			c.hub.malformed.Add(1)
			return protocol.Malformed
		}
		c.early = append([]byte(nil), b[end:]...)
		return protocol.OK
	}
}

// readFrom reads once, and tells whether another process has sent it than the one that
// opened the connection.
func (c *caller) readFrom(b []byte) (n int, foreign bool, err error) {
	var errno syscall.Errno
	err = c.raw.Read(func(fd uintptr) bool {
		var pid, uid int
		n, pid, uid, errno = privsep.ReadFrom(int(fd), b)
		foreign = n > 0 && (pid != c.who.PID || uid != c.who.UID)
		return errno != syscall.EAGAIN && errno != syscall.EINTR
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return n, foreign, err
}

// awaitHangup waits until the caller has closed the connection; an error is that of
// the deadline.
func (c *caller) awaitHangup() error {
	return c.raw.Read(func(fd uintptr) bool { return privsep.HungUp(int(fd)) })
}

// wait is for how long a caller waits: until its time is up or it has gone. Most
// callers wait for nothing, and have none of it.
type wait struct {
	caller *caller
	ctx    context.Context
	done   func()
}

// context is that of the wait, which begins with the first call.
func (w *wait) context() context.Context {
	if w.ctx == nil {
		timeout := w.caller.req.Timeout
		if timeout == 0 { // what it wants has none
			timeout = headTime
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		watched := w.caller.watch(cancel)
		w.ctx, w.done = ctx, func() {
			watched()
			cancel()
		}
	}
	return w.ctx
}

// end must be called before anything is read.
func (w *wait) end() {
	if w.done != nil {
		w.done()
	}
}

// watch calls gone if the caller goes before done is called, which must be before
// anything is read.
func (c *caller) watch(gone func()) (done func()) {
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if c.awaitHangup() == nil {
			gone()
		}
	}()
	return func() {
		c.file.SetReadDeadline(past)
		<-watched
		c.file.SetReadDeadline(time.Time{})
	}
}

var past = time.Unix(1, 0)

// use finds a session and has the caller use it.
func (c *caller) use() {
	w := wait{caller: c}
	s, how, no := c.acquire(&w)
	w.end()
	if no != nil {
		c.refuse(no)
		return
	}
	defer c.hub.leave(s, c)
	if c.answer(s, how) != nil {
		c.part(s, nil)
		return
	}
	c.part(s, c.pump(s))
}

// acquire joins a session, waits until it is there and, in exclusive mode, until it is
// the caller's turn. One that has ended meanwhile is followed by another.
func (c *caller) acquire(w *wait) (*session, string, *refusal) {
	for {
		s, fresh, no := c.hub.join(c)
		if no != nil {
			if no.code == protocol.Refused {
				c.noteRefused(privsep.Str(privsep.KeySession, c.req.Session), privsep.Str(privsep.KeyAddr, c.req.Target))
			}
			return nil, "", no
		}
		turn, no := c.await(w, s)
		if no == nil && s.attach(c) {
			return s, how(c, fresh), nil
		}
		if turn {
			s.lease.give()
		}
		c.hub.leave(s, c)
		if no != nil {
			return nil, "", no
		}
	}
}

func how(c *caller, fresh bool) string {
	switch {
	case fresh:
		return "opened"
	case c.req.Verb == protocol.Attach:
		return "attached"
	}
	return "joined"
}

// await waits for the session and, in exclusive mode, for the caller's turn, which it
// has to give back; or for the session's end.
func (c *caller) await(w *wait, s *session) (turn bool, no *refusal) {
	select {
	case <-s.opened:
	default:
		select {
		case <-s.opened:
		case <-w.context().Done():
			return false, &refusal{code: protocol.Late}
		}
	}
	if s.failure != nil {
		return false, &refusal{protocol.NotConnected, s.failure}
	}
	if s.mode == protocol.Exclusive && !s.lease.takeFree() {
		ctx := w.context()
		if !s.lease.take(ctx, s.ended) {
			if ctx.Err() != nil {
				no = &refusal{code: protocol.Late}
			}
			return false, no
		}
	}
	return s.mode == protocol.Exclusive, nil
}

// attach makes the caller one of the session's; false: that is over.
func (s *session) attach(c *caller) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	c.wake, c.stop = sync.NewCond(&s.mu), false
	if c.req.HTTP {
		c.http = new(exchange)
	}
	s.callers[c] = struct{}{}
	if s.mode == protocol.Exclusive {
		s.holder = c
	}
	return true
}

// refuse says why there is no session.
func (c *caller) refuse(no *refusal) {
	code := c.excused(no.code)
	a := protocol.Answer{Code: code, Text: code.String()}
	if no.why != nil {
		a.Add("Verify", no.why.verify)
		a.Add("Reason", no.why.reason)
	}
	c.write(a.Append(nil), partTime)
	c.settle()
}

// settle lets a caller read what was written to it last: a connection that is closed
// with something unread in it may lose that.
func (c *caller) settle() {
	c.raw.Control(func(fd uintptr) { privsep.ShutdownWrite(int(fd)) })
	c.file.SetReadDeadline(time.Now().Add(settleTime))
	io.CopyN(io.Discard, c.file, 1<<20)
}

// settleTime is how long that may take.
const settleTime = 100 * time.Millisecond

// answer describes the session.
func (c *caller) answer(s *session, how string) error {
	a := protocol.Answer{Code: protocol.OK, Text: how, Fields: slices.Clip(s.about)}
	head := a.Append(nil)
	if c.req.Chain {
		for _, cert := range s.state.PeerCertificates {
			a.Add("Certificate", base64.StdEncoding.EncodeToString(cert.Raw))
		}
		if whole := a.Append(nil); len(whole) <= protocol.MaxAnswer {
			head = whole
		}
	}
	return c.write(head, partTime)
}

// facts are what every caller is told of a session that is there.
func (s *session) facts() []protocol.Field {
	var a protocol.Answer
	a.Add("Session-Id", s.id)
	a.Add("Session", s.name)
	a.Add("Mode", s.mode.String())
	a.Add("Version", strings.TrimPrefix(tls.VersionName(s.state.Version), "TLS "))
	a.Add("Cipher", tls.CipherSuiteName(s.state.CipherSuite))
	a.Add("ALPN", s.state.NegotiatedProtocol)
	a.Add("Verify", "ok")
	a.Add("Subject", s.state.PeerCertificates[0].Subject.String())
	return a.Fields
}

// write writes all of b to the caller, who may take so long for it.
func (c *caller) write(b []byte, patience time.Duration) error {
	c.file.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.file.Write(b)
	return err
}
