package tlsd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"os"
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
	who     *privsep.Caller
	account *account
	early   []byte // was read behind the head
	req     protocol.Request
	can     rights
	piece   int    // of the chunk that is being read, what is still to come
	has     uint64 // bytes that it says, with RELEASE, it has read

	// With a session, and under its lock.
	wake  *sync.Cond
	stop  bool   // it has gone, or is to go
	out   []byte // framed: what is to be written
	owed  int    // framed: answers to come
	frame int    // framed: who reads for all has so much of one still to get
	asked bool   // raw: it is among the session's readers
	used  bool   // exclusive: bytes have gone either way
	lost  bool   // bytes were taken for it that it has not got
	got   uint64 // bytes that were written to it
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
	if code := c.readHead(); code != protocol.OK {
		if code != 0 {
			c.refuse(&refusal{code: code})
		}
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
	b := make([]byte, 0, protocol.MaxHead)
	c.file.SetReadDeadline(time.Now().Add(headTime))
	defer c.file.SetReadDeadline(time.Time{})
	for {
		n, foreign, err := c.readFrom(b[len(b):cap(b)])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return protocol.Late
		case err != nil || n == 0:
			return 0
		case foreign: // whoever has got hold of the connection, it is not who opened it
			c.hub.log.warn("caller refused", privsep.Str(privsep.KeyReason, "sender"), privsep.Int(privsep.KeyUID, int64(c.who.UID)))
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
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var errno syscall.Errno
	err = raw.Read(func(fd uintptr) bool {
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
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool { return privsep.HungUp(int(fd)) })
}

// patience gives a context for as long as the caller waits: until its time is up or it
// has gone. done must be called before anything is read.
func (c *caller) patience() (ctx context.Context, done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), c.req.Timeout)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if c.awaitHangup() == nil {
			cancel()
		}
	}()
	return ctx, func() {
		c.file.SetReadDeadline(past)
		<-watched
		c.file.SetReadDeadline(time.Time{})
		cancel()
	}
}

var past = time.Unix(1, 0)

// use finds a session and has the caller use it.
func (c *caller) use() {
	ctx, done := c.patience()
	s, how, no := c.acquire(ctx)
	done()
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
func (c *caller) acquire(ctx context.Context) (*session, string, *refusal) {
	for {
		s, fresh, no := c.hub.join(c)
		if no != nil {
			if no.code == protocol.Refused {
				c.hub.log.warn("caller refused", privsep.Str(privsep.KeyReason, "policy"), privsep.Int(privsep.KeyUID, int64(c.who.UID)),
					privsep.Str(privsep.KeySession, c.req.Session), privsep.Str(privsep.KeyAddr, c.req.Target))
			}
			return nil, "", no
		}
		no = c.await(ctx, s)
		if no == nil && s.attach(c) {
			return s, how(c, fresh), nil
		}
		if no == nil && s.mode == protocol.Exclusive {
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

// await waits for the session and for the caller's turn.
func (c *caller) await(ctx context.Context, s *session) *refusal {
	select {
	case <-s.opened:
	case <-ctx.Done():
		return &refusal{code: protocol.Late}
	}
	if s.failure != nil {
		return &refusal{protocol.NotConnected, s.failure}
	}
	if s.mode == protocol.Exclusive && !s.lease.take(ctx) {
		return &refusal{code: protocol.Late}
	}
	return nil
}

// attach makes the caller one of the session's; false: that is over.
func (s *session) attach(c *caller) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	c.wake, c.stop = sync.NewCond(&s.mu), false
	s.callers[c] = struct{}{}
	if s.mode == protocol.Exclusive {
		s.holder = c
	}
	return true
}

// refuse says why there is no session.
func (c *caller) refuse(no *refusal) {
	a := protocol.Answer{Code: no.code, Text: no.code.String()}
	if no.err != nil {
		a.Add("Verify", verdict(no.err))
		a.Add("Reason", no.err.Error())
	}
	c.write(a.Append(nil), partTime)
	c.settle()
}

// settle lets a caller read what was written to it last: a connection that is closed
// with something unread in it may lose that.
func (c *caller) settle() {
	if raw, err := c.file.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { privsep.ShutdownWrite(int(fd)) })
	}
	c.file.SetReadDeadline(time.Now().Add(settleTime))
	io.CopyN(io.Discard, c.file, 1<<20)
}

// settleTime is how long that may take.
const settleTime = 100 * time.Millisecond

// answer describes the session.
func (c *caller) answer(s *session, how string) error {
	a := protocol.Answer{Code: protocol.OK, Text: how}
	a.Add("Session-Id", s.id)
	a.Add("Session", s.name)
	a.Add("Mode", s.mode.String())
	a.Add("Version", strings.TrimPrefix(tls.VersionName(s.state.Version), "TLS "))
	a.Add("Cipher", tls.CipherSuiteName(s.state.CipherSuite))
	a.Add("ALPN", s.state.NegotiatedProtocol)
	a.Add("Verify", "ok")
	a.Add("Subject", s.state.PeerCertificates[0].Subject.String())
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

// write writes all of b to the caller, who may take so long for it.
func (c *caller) write(b []byte, patience time.Duration) error {
	c.file.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.file.Write(b)
	return err
}

// Why a caller stops to read.
var (
	errRelease  = errors.New("released")
	errProtocol = errors.New("protocol")
	errHungUp   = errors.New("gone")
	errUnread   = errors.New("released with something unread")
)

// pump carries bytes both ways until the caller or the session ends, and gives the
// caller's reason.
func (c *caller) pump(s *session) error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.deliver(s)
		c.file.SetReadDeadline(past) // nothing more is read for a session that is over
	}()
	err := c.collect(s)
	if err == io.EOF { // it only writes no more
		if err = c.awaitHangup(); err == nil {
			err = errHungUp
		}
	}
	if err != errOver { // else what is there is still delivered
		s.mu.Lock()
		c.stop = true
		patience := partTime
		if c.lost { // it does not read
			patience = 0
		}
		c.wake.Broadcast()
		s.mu.Unlock()
		c.file.SetWriteDeadline(time.Now().Add(patience))
	}
	<-written
	s.mu.Lock()
	c.stop = true
	over, clean, lost := s.over, s.clean, c.lost
	s.mu.Unlock()
	if over && !lost {
		c.sayEnd(clean)
	}
	if err == errRelease && s.mode != protocol.Framed && c.has != c.got {
		err = errUnread // which is lost to the next one
	}
	return err
}

// sayEnd tells the caller that the session has ended.
func (c *caller) sayEnd(clean bool) {
	if c.req.Chunks {
		mark := protocol.Broken
		if clean {
			mark = protocol.Ended
		}
		c.write(binary.BigEndian.AppendUint32(nil, uint32(mark)), partTime)
	}
	c.settle()
}

// part takes the caller from the session. What it was in the middle of nobody knows,
// unless it has let go.
func (c *caller) part(s *session, err error) {
	s.mu.Lock()
	delete(s.callers, c)
	dirty := s.detach(c, err == errRelease, err == errUnread) && !s.over
	s.mu.Unlock()
	if dirty && (c.lost || err == errUnread || !s.policy.Keep) {
		s.end("dirty", false)
	}
	if s.mode == protocol.Exclusive {
		s.lease.give()
	}
	if err == errRelease && !c.lost {
		c.write(binary.BigEndian.AppendUint32(nil, uint32(protocol.Released)), partTime)
	}
}

// detach undoes attach, and tells whether the caller leaves something behind. The lock
// is held.
func (s *session) detach(c *caller, released, unread bool) (dirty bool) {
	switch s.mode {
	case protocol.Exclusive:
		s.holder = nil
		return c.lost || c.used && !released
	case protocol.Raw:
		s.dropReader(c)
		return c.lost || c.piece > 0 || unread
	}
	c.account.refund(len(c.out))
	c.out = nil
	if c.frame > 0 { // nobody else begins in the middle of one
		s.unread = s.unread[:copy(s.unread, s.unread[c.frame:])]
	}
	return false
}

// read reads bytes of the session: what came behind the head, then the rest, without
// the lengths of chunks. io.EOF: the caller sends no more.
func (c *caller) read(b []byte) (int, error) {
	if !c.req.Chunks {
		return c.readRaw(b)
	}
	if c.piece == 0 {
		n, err := c.readChunk()
		if err != nil {
			return 0, err
		}
		if n == protocol.ReadWanted { // which only raw has
			return 0, errProtocol
		}
	}
	n, err := c.readRaw(b[:min(len(b), c.piece)])
	c.piece -= n
	return n, err
}

// readChunk reads a length, which is then that of the piece.
func (c *caller) readChunk() (protocol.Chunk, error) {
	var h [protocol.ChunkHeader]byte
	if _, err := io.ReadFull(readerFunc(c.readRaw), h[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return 0, err
	}
	n := protocol.Chunk(binary.BigEndian.Uint32(h[:]))
	switch {
	case n == protocol.Release:
		return 0, c.readRelease()
	case n > protocol.MaxChunk:
		return 0, errProtocol
	}
	c.piece = int(n)
	return n, nil
}

// readRelease reads what stands behind RELEASE.
func (c *caller) readRelease() error {
	var b [protocol.ReleaseCount]byte
	if _, err := io.ReadFull(readerFunc(c.readRaw), b[:]); err != nil {
		return errHungUp
	}
	c.has = binary.BigEndian.Uint64(b[:])
	return errRelease
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (c *caller) readRaw(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.file.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = errHungUp
	}
	return n, err
}

// collect takes what the caller sends.
func (c *caller) collect(s *session) error {
	switch s.mode {
	case protocol.Framed:
		return c.collectFrames(s)
	case protocol.Raw:
		return c.collectRaw(s)
	}
	return c.collectBytes(s)
}

// deliver gives the caller what is for it, until there is nothing more to come. It
// ends with the session, too.
func (c *caller) deliver(s *session) {
	buf := make([]byte, protocol.ChunkHeader+32<<10)
	for {
		s.mu.Lock()
		n := 0
		for {
			if c.stop {
				s.mu.Unlock()
				return
			}
			if n = s.next(c, buf[protocol.ChunkHeader:]); n > 0 {
				break
			}
			if s.exhausted(c) {
				s.mu.Unlock()
				return
			}
			c.wake.Wait()
		}
		s.mu.Unlock()
		b := buf[protocol.ChunkHeader : protocol.ChunkHeader+n]
		if c.req.Chunks {
			binary.BigEndian.PutUint32(buf, uint32(n))
			b = buf[:protocol.ChunkHeader+n]
		}
		if !c.pass(s, b) {
			s.mu.Lock()
			c.lost = true
			s.mu.Unlock()
			return
		}
		c.got += uint64(n)
	}
}

// pass writes to the caller, as long as nobody else waits who has a right to the
// session.
func (c *caller) pass(s *session, b []byte) bool {
	for {
		c.file.SetWriteDeadline(time.Now().Add(stallTime))
		if c.stops(s) { // now or from now on pump's deadline holds
			c.file.SetWriteDeadline(time.Now().Add(partTime))
		}
		n, err := c.file.Write(b)
		if b = b[n:]; err == nil {
			return true
		}
		if c.stops(s) || !errors.Is(err, os.ErrDeadlineExceeded) || s.mode != protocol.Exclusive || s.lease.wanted() {
			return false
		}
	}
}

// stops tells whether the caller has gone, or is to go.
func (c *caller) stops(s *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.stop
}

// next takes what is for a caller into b; 0: nothing is. The lock is held.
func (s *session) next(c *caller, b []byte) int {
	switch {
	case s.mode == protocol.Framed && s.reader != c:
		n := copy(b, c.out)
		c.out = c.out[:copy(c.out, c.out[n:])]
		c.account.refund(n)
		return n
	case s.mode == protocol.Raw:
		return s.nextRaw(c, b)
	case len(s.unread) == 0:
		return 0
	case s.mode == protocol.Framed:
		return s.nextFrame(c, b)
	}
	c.used = true
	return s.takeUnread(b)
}

// exhausted tells whether nothing will come for a caller any more. The lock is held.
func (s *session) exhausted(c *caller) bool {
	return s.over && (s.mode != protocol.Raw || !c.can.read || len(s.unread) == 0)
}
