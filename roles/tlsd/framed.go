package tlsd

import (
	"bytes"
	"encoding/binary"
	"errors"

	"gatehouse/roles/tlsd/protocol"
)

const (
	// mostOwed bounds the answers that one caller may wait for, before nothing more is
	// read from it.
	mostOwed = 1024
	// mostOut is how much may wait for a caller that does not read, beside one frame, in
	// bytes.
	mostOut = 1 << 20
)

// collectFrames passes on whole frames.
func (c *caller) collectFrames(s *session) error {
	frames := newSplitter(s.frame, s.policy.MaxFrame, c.account)
	defer frames.close()
	buf := make([]byte, 16<<10)
	for {
		n, err := c.read(buf)
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
	s.mu.Lock()
	for c.owed >= mostOwed && !s.over && !c.stop {
		c.wake.Wait()
	}
	s.mu.Unlock()
	return s.send(c, frame, func() {
		s.order = append(s.order, c)
		c.owed++
	})
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
	if c.stop {
		s.dropped++
		return nil
	}
	defer c.wake.Broadcast()
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
