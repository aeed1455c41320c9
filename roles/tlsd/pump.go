package tlsd

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"gatehouse/roles/tlsd/protocol"
)

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
	s.mu.Lock()
	if c.live = true; len(s.unread) > 0 || s.over {
		s.rouse(c)
	}
	s.mu.Unlock()
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
	over, clean, lost := c.delivered(s)
	if over && !lost {
		c.sayEnd(clean)
	}
	if err == errRelease && s.mode != protocol.Framed && c.has != c.got {
		err = errUnread // which is lost to the next one
	}
	return err
}

// delivered waits until nobody writes to the caller any more, and tells how the session
// is.
func (c *caller) delivered(s *session) (over, clean, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done := c.done; done != nil {
		s.mu.Unlock()
		<-done
		s.mu.Lock()
	}
	c.stop = true
	return s.over, s.clean, c.lost
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
		s.room.Broadcast()
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
