package tlsd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// shard.go is for several tlsds. The sessions of a name are one's, by the name; so is
// what has an id. Each accepts callers, looks at a head without taking it, and passes
// those on that are another's: who they are, and what they say, that one hears from the
// kernel and from them.

// What is said of a caller that is passed on.
const (
	passHead byte = iota // it has said nothing yet that was taken
	passList             // it has been told of the sessions of those before
)

// shards is which one this is, of how many, and the ways to the others.
type shards struct {
	self, of int

	mu sync.Mutex
	to []int // by number; -1: none, or none yet
}

func newShards(self, of int) *shards {
	s := &shards{self: self, of: max(of, 1)}
	for range s.of {
		s.to = append(s.to, -1)
	}
	return s
}

// alone tells whether there is no other.
func (s *shards) alone() bool { return s.of == 1 }

// whose is the number of the one that a name or an id belongs to.
func (s *shards) whose(name string) int {
	if s.alone() {
		return s.self
	}
	h := fnv.New32a()
	io.WriteString(h, name)
	return int(h.Sum32() % uint32(s.of))
}

// newID gives the id of a session that is one of ours.
func (s *shards) newID() string {
	for {
		var b [16]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); s.whose(id) == s.self {
			return id
		}
	}
}

// serves is the number of the one that serves a request.
func (s *shards) serves(r *protocol.Request) int {
	switch {
	case r.Verb == protocol.List:
		return 0 // and all others after it
	case r.Verb == protocol.Attach || r.Verb == protocol.Close:
		return s.whose(r.Target)
	case r.Shared:
		return s.whose(r.Session)
	}
	return s.self
}

// set has callers for a number go by a way from now on. It gives the one before, -1 if
// there was none.
func (s *shards) set(number, way int) (before int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.to[number] = s.to[number], way
	return before
}

// lost forgets a way that is nobody's any more, and closes it.
func (s *shards) lost(way int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.to {
		if s.to[i] == way {
			s.to[i] = -1
		}
	}
	privsep.CloseFD(way)
}

// passTime is how long a caller is kept for one that takes it, and passAgain how soon
// that is tried again at first, passSeldom after a while: there may be thousands.
const (
	passTime   = headTime
	passAgain  = 5 * time.Millisecond
	passSeldom = 100 * time.Millisecond
)

// pass gives a caller to another one.
func (s *shards) pass(c *caller, to int, word byte) bool {
	end, pause := time.Now().Add(passTime), passAgain
	for ; ; pause = min(2*pause, passSeldom) {
		switch s.send(c, to, word) {
		case 0:
			return true
		case syscall.EAGAIN, syscall.EINTR, syscall.EPIPE, syscall.ECONNRESET, syscall.ETOOMANYREFS: // full, or there is to be another way
		default:
			return false
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
	}
}

func (s *shards) send(c *caller, to int, word byte) (errno syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to[to] < 0 {
		return syscall.EAGAIN
	}
	if c.raw.Control(func(fd uintptr) { errno = privsep.PassOn(s.to[to], int(fd), word) }) != nil {
		return syscall.EBADF
	}
	return errno
}

// passed tells whether the caller is another one's, who has it now, or is to be let go
// for another reason. One whose head is not to be understood is served here: it is told.
func (c *caller) passed() bool {
	s := c.hub.shards
	if s.alone() || c.word != nil {
		return false
	}
	r, code := c.peekHead()
	switch code {
	case protocol.OK:
	case protocol.Late:
		c.refuse(&refusal{code: code})
		return true
	default:
		return false
	}
	to := s.serves(&r)
	if to == s.self {
		return false
	}
	if !s.pass(c, to, passHead) {
		c.refuse(&refusal{code: protocol.Full})
	}
	return true
}

// peekHead waits for the whole head, and leaves it where it is. Late: that was in vain. 0:
// there is none to come.
func (c *caller) peekHead() (r protocol.Request, code protocol.Code) {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	b := buf[:protocol.MaxHead]
	c.file.SetReadDeadline(time.Now().Add(c.hub.headTime))
	defer c.file.SetReadDeadline(time.Time{})
	err := c.raw.Read(func(fd uintptr) bool {
		gone := privsep.HungUp(int(fd)) // and has said all, whatever there is then
		n, errno := privsep.PeekFrom(int(fd), b)
		switch end := protocol.End(b[:n]); {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
			return false
		case errno != 0 || n == 0:
		case end > 0:
			var err error
			if r, err = protocol.Parse(b[:end]); err == nil {
				code = protocol.OK
			}
		default:
			return n == len(b) || gone
		}
		return true
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		code = protocol.Late
	}
	return r, code
}

// shard takes a way to another one.
func (t *tlsd) shard(f privsep.ShardFD) error {
	s := t.hub.shards
	if f.Of != s.of || f.Number == s.self {
		privsep.CloseFD(f.FD)
		return privsep.ErrShape
	}
	if err := t.watch(f.FD); err != nil {
		privsep.CloseFD(f.FD)
		return err
	}
	if before := s.set(f.Number, f.FD); before >= 0 {
		privsep.ShutdownWrite(before) // the other one closes it when it has read all, and so do we
	}
	return nil
}

// watch has what comes by a way taken, unless nobody is any more.
func (t *tlsd) watch(way int) error {
	t.ways = append(t.ways, way)
	if t.listener < 0 {
		return nil
	}
	return t.poll.Add(way, tokenWay+uint64(way), privsep.In)
}

// unwatch has nobody taken from the ways any more.
func (t *tlsd) unwatch() {
	for _, way := range t.ways {
		t.poll.Del(way)
	}
}

// takeOver takes callers that another one passes on.
func (t *tlsd) takeOver(way int) {
	if t.listener < 0 { // told to stop since the poller has spoken: the next one takes them
		return
	}
	for range acceptTurn {
		fd, word, err := privsep.TakeOver(way, t.path)
		switch {
		case err == privsep.ErrAgain:
			return
		case err != nil:
			t.poll.Del(way)
			t.ways = slices.DeleteFunc(t.ways, func(w int) bool { return w == way })
			t.hub.shards.lost(way)
			return
		case fd < 0:
			t.hub.log.Warn("caller refused", privsep.Str(privsep.KeyReason, "passed"))
		default:
			t.hub.admit(fd, &word)
		}
	}
}
