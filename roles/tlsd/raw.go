package tlsd

import (
	"io"
	"slices"

	"gatehouse/roles/tlsd/protocol"
)

// collectRaw passes on writes, each at once, and notes reads that are wanted.
func (c *caller) collectRaw(s *session) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.readChunk()
		switch {
		case err != nil:
			return err
		case n == protocol.ReadWanted:
			if !c.can.read || !s.wantRead(c) {
				return errProtocol
			}
			continue
		case !c.can.write:
			c.piece = 0 // it was in the middle of nothing
			return errProtocol
		}
		if err := c.passWrite(s, buf, int(n)); err != nil && err != errOver { // what is unread can be had still
			return err
		}
	}
}

// passWrite passes on one write of n bytes. It goes when all of it is there.
func (c *caller) passWrite(s *session, buf []byte, n int) error {
	if n > len(buf) {
		if !c.account.charge(n) {
			return errMemory
		}
		defer c.account.refund(n)
		buf = nil
	}
	whole := buf[:0]
	for len(whole) < n {
		part := min(n-len(whole), 16<<10)
		whole = slices.Grow(whole, part)
		got, err := c.readRaw(whole[len(whole) : len(whole)+part])
		whole = whole[:len(whole)+got]
		if err == io.EOF {
			err = errHungUp // in the middle
		}
		if err != nil {
			return err
		}
	}
	c.piece = 0
	return s.send(c, whole, nil)
}

// wantRead puts a caller at the end of those who want to read; false: it is there
// already.
func (s *session) wantRead(c *caller) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.asked {
		return false
	}
	c.asked = true
	s.readers = append(s.readers, c)
	if len(s.unread) > 0 || s.over {
		s.rouse(c)
	}
	return true
}

// nextRaw takes a piece for a caller whose turn it is. The lock is held.
func (s *session) nextRaw(c *caller, b []byte) int {
	if len(s.readers) == 0 || s.readers[0] != c || len(s.unread) == 0 {
		return 0
	}
	s.dropReader(c)
	n := s.takeUnread(b)
	if len(s.unread) > 0 {
		s.callReader()
	}
	return n
}

// dropReader has a caller want to read no more. The lock is held.
func (s *session) dropReader(c *caller) {
	c.asked = false
	if i := slices.Index(s.readers, c); i >= 0 {
		s.readers = slices.Delete(s.readers, i, i+1)
	}
	if len(s.unread) > 0 {
		s.callReader()
	}
}
