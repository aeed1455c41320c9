package tlsd

import (
	"bytes"
	"encoding/binary"
	"errors"

	"gatehouse/roles/tlsd/protocol"
)

const (
	// mostOwed bounds the answers that one caller may wait for, before nothing more is
	// read from it, and mostOrder those to all of a session, the dead among them.
	mostOwed  = 1024
	mostOrder = 1 << 16
	// mostOut is how much may wait for a caller that does not read, beside one frame, in
	// bytes.
	mostOut = 1 << 20
)

// collectFrames passes on whole frames.
func (c *caller) collectFrames(s *session) error {
	frames := newSplitter(s.frame, s.policy.MaxFrame, c.account)
	defer frames.close()
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		n, err := c.read(buf[:])
		if n > 0 {
			if !c.can.write {
				return errProtocol
			}
			if err := frames.feed(buf[:n], func(frame []byte) error { return c.sendFrame(s, frame) }); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// sendFrame passes on one, and notes whose the answer is in the order in which they
// go.
func (c *caller) sendFrame(s *session, frame []byte) error {
	if s.read != protocol.ReadOrder {
		return s.send(c, frame, nil)
	}
	c.awaitAnswers(s)
	return s.send(c, frame, func() {
		s.order = append(s.order, c)
		c.owed++
	})
}

// awaitAnswers waits until one more answer may be waited for. A caller that goes
// meanwhile is stopped.
func (c *caller) awaitAnswers(s *session) {
	s.mu.Lock()
	full := s.full(c, mostOwed)
	s.mu.Unlock()
	if !full {
		return
	}
	done := c.watch(func() {
		s.mu.Lock()
		c.stop = true
		c.wake.Broadcast()
		s.mu.Unlock()
	})
	s.mu.Lock()
	for s.full(c, mostOwed/2+1) && !s.over && !c.stop { // not for each answer anew
		c.wake.Wait()
	}
	s.mu.Unlock()
	done()
}

// full tells whether a caller waits for so many answers, or all together for too many.
// The lock is held.
func (s *session) full(c *caller, most int) bool {
	return c.owed >= most || len(s.order) >= mostOrder
}

// route gives a frame of the server to whose it is.
func (s *session) route(frame []byte) error {
	if s.read == protocol.ReadAll {
		if !s.keep(frame) {
			return errOver
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		s.unasked++
		return nil
	}
	c := s.order[0]
	s.order[0] = nil
	s.order = s.order[1:]
	c.owed--
	if len(s.order) == mostOrder-1 {
		for other := range s.callers { // awaitAnswers
			other.wake.Broadcast()
		}
	}
	if c.stop {
		s.dropped++
		return nil
	}
	if len(c.out) == 0 && s.hand(c, frame) {
		c.wake.Broadcast() // awaitAnswers
		return nil
	}
	defer s.rouse(c)
	if len(c.out) > mostOut || !c.account.charge(len(frame)) { // it does not read
		s.dropped++
		c.stop, c.lost = true, true
		c.file.SetReadDeadline(past)
		return nil
	}
	c.out = append(c.out, frame...)
	return nil
}

// nextFrame takes what there is of one frame for who reads for all. The lock is held.
func (s *session) nextFrame(c *caller, b []byte) int {
	if c.frame == 0 {
		c.frame, _ = (&splitter{kind: s.frame, most: s.policy.MaxFrame}).size(s.unread)
	}
	n := s.takeUnread(b[:min(len(b), c.frame)])
	c.frame -= n
	return n
}

// splitter cuts a stream into frames. It keeps what is not whole, for which an account
// is charged.
type splitter struct {
	kind    protocol.Frame
	most    int // bytes of a frame
	account *account
	part    []byte
	charged int
}

func newSplitter(kind protocol.Frame, most int, a *account) *splitter {
	return &splitter{kind: kind, most: most, account: a}
}

var (
	errLongFrame = errors.New("a frame is too long")
	errMemory    = errors.New("too much is waiting")
)

// size gives the length of the frame that b begins with: 0, it is not known yet.
func (f *splitter) size(b []byte) (int, error) {
	n := 0
	if f.kind == protocol.FrameLine {
		if n = bytes.IndexByte(b, '\n') + 1; n == 0 && len(b) > f.most {
			return 0, errLongFrame
		}
	} else if len(b) >= 4 {
		length := binary.BigEndian.Uint32(b)
		if uint64(length) > uint64(f.most) {
			return 0, errLongFrame
		}
		n = 4 + int(length)
	}
	if f.kind == protocol.FrameLine && n > f.most {
		return 0, errLongFrame
	}
	return n, nil
}

// feed takes the next bytes and gives each frame that is whole to use. After an error
// nothing more may be fed.
func (f *splitter) feed(b []byte, use func(frame []byte) error) error {
	for len(b) > 0 {
		if len(f.part) > 0 {
			rest, err := f.complete(b, use)
			if err != nil {
				return err
			}
			b = rest
			continue
		}
		n, err := f.size(b)
		switch {
		case err != nil:
			return err
		case n == 0 || n > len(b):
			return f.hold(b)
		}
		if err := use(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// complete adds bytes to the part that there is, as far as its frame goes, and gives
// the rest.
func (f *splitter) complete(b []byte, use func(frame []byte) error) (rest []byte, err error) {
	n, err := f.size(f.part)
	if err != nil {
		return nil, err
	}
	want := 1 // of a length; more is not known
	if f.kind == protocol.FrameLine {
		if want = bytes.IndexByte(b, '\n') + 1; want == 0 {
			want = len(b)
		}
	} else if n > 0 {
		want = n - len(f.part)
	}
	want = min(want, len(b))
	if err := f.hold(b[:want]); err != nil {
		return nil, err
	}
	if n, err = f.size(f.part); err != nil {
		return nil, err
	}
	if n == 0 || n > len(f.part) {
		return b[want:], nil
	}
	err = use(f.part)
	f.release()
	return b[want:], err
}

// hold keeps bytes of a frame that is not whole.
func (f *splitter) hold(b []byte) error {
	if !f.account.charge(len(b)) {
		return errMemory
	}
	f.charged += len(b)
	f.part = append(f.part, b...)
	return nil
}

// release forgets the part, and gives large memory back.
func (f *splitter) release() {
	f.account.refund(f.charged)
	f.charged, f.part = 0, f.part[:0]
	if cap(f.part) > 64<<10 {
		f.part = nil
	}
}

func (f *splitter) close() { f.release() }

// amid tells whether a frame has begun and is not whole.
func (f *splitter) amid() bool { return len(f.part) > 0 }
