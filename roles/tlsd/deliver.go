package tlsd

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// What a server sends goes to the caller at once, by whoever has read it (hand). What
// the caller's socket has no room for, what was there before the caller, and the end are
// a goroutine's (deliver), which there is only where somebody needs it.

// buffer is for what is read from a caller, or written to it, in one piece.
type buffer [16 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// rouse has a caller's writer look what there is. The lock is held.
func (s *session) rouse(c *caller) {
	c.wake.Broadcast()
	if !c.live || c.stop || c.done != nil {
		return
	}
	done := make(chan struct{})
	c.done = done
	go func() {
		defer close(done)
		c.deliver(s)
		c.file.SetReadDeadline(past) // nothing more is read for a session that is over
	}()
}

// hand writes b to a caller for whom nothing else is waiting, and tells whether that is
// done. The lock is held, nothing waits: the rest of what was begun is the writer's.
func (s *session) hand(c *caller, b []byte) bool {
	if !c.live || c.stop || c.lost || c.busy || len(c.begun) > 0 || len(b) > len(buffer{}) { // for which nobody would be charged
		return false
	}
	var head []byte
	if c.req.Chunks {
		head = binary.BigEndian.AppendUint32(make([]byte, 0, protocol.ChunkHeader), uint32(len(b)))
	}
	n := c.writeNow(head, b)
	if n == 0 {
		return false
	}
	c.got += uint64(len(b))
	if n < len(head)+len(b) {
		c.begun = slices.Concat(head, b)[n:]
		s.rouse(c)
	}
	return true
}

// writeNow writes what there is room for of two pieces, and gives the number of bytes.
func (c *caller) writeNow(head, b []byte) (n int) {
	c.raw.Control(func(fd uintptr) {
		if len(head) == 0 {
			n, _ = privsep.RawWrite(int(fd), b)
			return
		}
		iov := [2]privsep.Iovec{{Base: &head[0]}, {Base: &b[0]}}
		iov[0].SetLen(len(head))
		iov[1].SetLen(len(b))
		n, _ = privsep.RawWritev(int(fd), iov[:])
	})
	return max(n, 0)
}

// deliver gives the caller what is for it, until there is nothing more to come. It
// ends with the session, too.
func (c *caller) deliver(s *session) {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		b := c.take(s, buf[:])
		if b == nil {
			return
		}
		passed := c.pass(s, b)
		s.mu.Lock()
		c.busy, c.lost = false, c.lost || !passed
		s.mu.Unlock()
		if !passed {
			return
		}
	}
}

// take waits for what is to be written next, nil: nothing more is.
func (c *caller) take(s *session, buf []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if b := c.begun; len(b) > 0 {
			c.begun, c.busy = nil, true
			return b
		}
		if c.stop {
			return nil
		}
		if n := s.next(c, buf[protocol.ChunkHeader:]); n > 0 {
			c.busy = true
			c.got += uint64(n)
			if c.req.Chunks {
				binary.BigEndian.PutUint32(buf, uint32(n))
				return buf[:protocol.ChunkHeader+n]
			}
			return buf[protocol.ChunkHeader : protocol.ChunkHeader+n]
		}
		if s.exhausted(c) {
			return nil
		}
		c.wake.Wait()
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
		if len(c.out) == 0 && cap(c.out) > 64<<10 { // for which nobody is charged
			c.out = nil
		}
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
