package tlsd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// session is one TLS session with a server.
//
//	opening --handshake--> open --(server's end, policy, idle, CLOSE, dirty)--> over
//	   \---------------- failed ------------------------------------------------^
//
// No caller's deadline reaches its connection: a write that is cut short would end it
// for all.
type session struct {
	hub    *hub
	id     string
	name   string
	host   string
	port   uint16
	sni    string
	alpn   []string
	mode   protocol.Mode
	frame  protocol.Frame
	read   protocol.Read // ReadOrder, or ReadAll: somebody reads for all
	shared bool
	policy *policy
	owner  *account
	began  time.Time

	opened  chan struct{} // closed when it is known whether there is a session
	ended   chan struct{} // when it is over
	closed  chan struct{} // and when its connection is closed
	failure *failure      // written before opened is closed, as the next four
	conn    *tls.Conn
	wire    *transport
	state   tls.ConnectionState
	about   []protocol.Field // that callers are told

	lease line // exclusive: whose it is
	turns line // of writes

	inBytes, outBytes atomic.Uint64
	lastUse           atomic.Int64 // Unix time, nanoseconds
	worn              atomic.Bool  // it has had its records: nobody joins any more

	// The hub's.
	users int
	idle  *time.Timer // runs while there are none

	mu      sync.Mutex
	over    bool
	clean   bool // the server has said that it ends
	why     string
	again   *time.Timer // until the certificate is looked at
	room    *sync.Cond  // something that was unread has been taken
	callers map[*caller]struct{}
	holder  *caller   // exclusive
	unread  []byte    // exclusive, raw; framed: for the one who reads for all
	readers []*caller // raw: who waits for a piece
	reader  *caller   // framed: who reads for all
	order   []*caller // framed: whose answers come, one entry each
	unasked uint64    // frames that came when nobody had asked
	dropped uint64    // frames for callers who had gone
}

// maxUnread bounds what is kept of a session for whoever reads next, in bytes; beyond
// it TCP slows the server down.
const maxUnread = 64 << 10

func newSession(h *hub, c *caller, p *policy) *session {
	r := &c.req
	s := &session{hub: h, id: h.shards.newID(), name: r.Session, host: p.Host, port: p.Port, sni: sniOf(r), alpn: r.ALPN, mode: r.Mode,
		frame: r.Frame, read: readOf(r), shared: r.Shared, policy: p, owner: c.account, began: time.Now(),
		opened: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{}), callers: map[*caller]struct{}{}}
	s.room = sync.NewCond(&s.mu)
	s.lastUse.Store(s.began.UnixNano())
	return s
}

func sniOf(r *protocol.Request) string {
	if r.SNI != "" {
		return r.SNI
	}
	host, _, _ := protocol.SplitTarget(r.Target)
	return host
}

// readOf tells whether a session is one in which somebody reads for all.
func readOf(r *protocol.Request) protocol.Read {
	if r.Read == protocol.ReadNone {
		return protocol.ReadAll
	}
	return r.Read
}

// remote is HOST:PORT.
func (s *session) remote() string { return protocol.JoinTarget(s.host, s.port) }

// asked is the same for all who ask for the same.
func (s *session) asked() string {
	return strings.Join([]string{s.name, s.remote(), s.sni, strings.Join(s.alpn, ",")}, "\n")
}

// admits says why a caller may not use the session, nil if it may. The hub's lock is
// held.
func (s *session) admits(c *caller) *refusal {
	r, can := &c.req, s.policy.rightsOf(c.who, s.owner.uid)
	may := can.read && can.write
	switch s.mode {
	case protocol.Framed:
		may = (can.write || r.Read == protocol.ReadAll) && (can.read || r.Read == protocol.ReadNone)
	case protocol.Raw:
		may = can.read || can.write
	}
	if !may {
		return &refusal{code: protocol.Refused}
	}
	if why := s.differs(r); why != "" {
		return &refusal{protocol.Conflict, &failure{reason: why}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Read == protocol.ReadAll && s.reader != nil {
		return &refusal{protocol.Conflict, &failure{reason: "somebody reads for all already"}}
	}
	c.can = can
	if r.Read == protocol.ReadAll {
		s.reader = c
	}
	return nil
}

// differs says in what a session is another one than a caller wants, "" if in nothing.
func (s *session) differs(r *protocol.Request) string {
	named := r.Verb == protocol.Connect // else it takes what there is
	switch {
	case named && r.Target != s.remote():
		return "the session of that name is with " + s.remote()
	case named && sniOf(r) != s.sni:
		return "the session has another SNI, " + s.sni
	case named && !slices.Equal(r.ALPN, s.alpn):
		return "the session was made with another ALPN, " + cmp.Or(strings.Join(s.alpn, ","), "none")
	case named && r.Mode != s.mode:
		return "the session has another Mode, " + s.mode.String()
	case named && r.Frame != s.frame:
		return "the session has another Frame, " + s.frame.String()
	case readOf(r) != s.read && s.read == protocol.ReadAll:
		return "the session is one in which somebody reads for all: Read must be all or none"
	case readOf(r) != s.read:
		return "the session is one in which everybody reads his own answers: Read must be order"
	case s.mode == protocol.Raw && !r.Chunks:
		return "Mode raw needs Encoding: chunks"
	}
	return ""
}

// enter counts a user. The hub's lock is held.
func (s *session) enter() {
	s.users++
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
}

func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// end ends the session, once, and tells everybody. clean: the server has said so.
func (s *session) end(why string, clean bool) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over, s.clean, s.why = true, clean, why
	close(s.ended)
	s.wakeAll()
	s.room.Broadcast()
	if s.again != nil {
		s.again.Stop()
	}
	s.mu.Unlock()
	s.hub.forget(s, nil)
	select {
	case <-s.opened:
		if s.conn == nil { // it has failed at this moment
			close(s.closed)
			break
		}
		go func() {
			s.conn.Close() // which may wait for the server
			close(s.closed)
		}()
	default: // open sees that it is over
		close(s.closed)
	}
	s.hub.log.Info("session ended", privsep.Str(privsep.KeySession, s.name), privsep.Str(privsep.KeyAddr, s.remote()),
		privsep.Str(privsep.KeyReason, why), privsep.Int(privsep.KeyUID, int64(s.owner.uid)))
}

// wakeAll has all callers look what has changed. The lock is held.
func (s *session) wakeAll() {
	for c := range s.callers {
		s.rouse(c)
	}
}

// send writes for a caller, all of b at once, in turn with others. before is called
// when the turn has come, under the session's lock.
func (s *session) send(c *caller, b []byte, before func()) error {
	s.turns.take(context.Background(), nil)
	defer s.turns.give()
	s.mu.Lock()
	if s.over || c.stop {
		cut := c.stop
		s.mu.Unlock()
		if cut {
			return errCut
		}
		return errOver
	}
	if before != nil {
		before()
	}
	s.mu.Unlock()
	n, err := s.conn.Write(b)
	s.note(&s.outBytes, &s.hub.outBytes, n)
	if err != nil {
		s.end(reasonOf(err), false)
		return errOver
	}
	s.wear()
	return nil
}

var (
	errOver = errors.New("the session is over")
	errCut  = errors.New("the caller is cut off")
)

// note counts what went by.
func (s *session) note(mine, all *atomic.Uint64, n int) {
	mine.Add(uint64(n))
	all.Add(uint64(n))
	s.lastUse.Store(time.Now().UnixNano())
}

// wear looks whether the session has had its records. Who has it then may go on for as
// many again as lie between the limit and that of its keys.
func (s *session) wear() {
	most := max(s.wire.in.records.Load(), s.wire.out.records.Load())
	if most < s.hub.mostRecords {
		return
	}
	if !s.worn.Swap(true) {
		s.hub.unname(s)
		s.hub.log.Info("session is worn", privsep.Str(privsep.KeySession, s.name), privsep.Int(privsep.KeyN, int64(most)))
		s.hub.mu.Lock()
		unused := s.users == 0
		s.hub.mu.Unlock()
		if unused {
			s.end("worn", false)
		}
	}
	if most >= s.hub.mostRecords+(1<<24-recordLimit) {
		s.end("worn", false)
	}
}

// receive takes what the server sends, as long as there is somebody for whom to keep
// it.
func (s *session) receive() {
	buf := make([]byte, 16<<10) // a record's
	var frames *splitter
	if s.mode == protocol.Framed {
		frames = newSplitter(s.frame, s.policy.MaxFrame, s.owner)
		defer frames.close()
	}
	for {
		n, err := s.conn.Read(buf)
		s.note(&s.inBytes, &s.hub.inBytes, n)
		if n > 0 && frames != nil {
			if bad := frames.feed(buf[:n], s.route); bad != nil {
				s.end(bad.Error(), false)
				return
			}
		} else if n > 0 && !s.keep(buf[:n]) {
			return
		}
		if err == io.EOF && (s.wire.cut || frames != nil && frames.amid()) { // no close_notify came before, or in the middle
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			s.end(reasonOf(err), err == io.EOF)
			return
		}
		s.wear()
	}
}

// reasonOf is a short word for the log.
func reasonOf(err error) string {
	switch {
	case err == io.EOF:
		return "server"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "truncated"
	}
	return err.Error()
}

// keep adds bytes for whoever reads next; false: the session is over.
func (s *session) keep(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) == 0 && !s.over && s.handOn(b) {
		return true
	}
	for len(s.unread) > 0 && len(s.unread)+len(b) > maxUnread && !s.over {
		s.room.Wait()
	}
	if s.over {
		return false
	}
	s.unread = append(s.unread, b...)
	s.callReader()
	return true
}

// handOn hands b to who is to have it, if that is possible. The lock is held.
func (s *session) handOn(b []byte) bool {
	switch {
	case s.holder != nil:
		if s.hand(s.holder, b) {
			s.holder.used = true
			return true
		}
	case len(s.readers) > 0:
		c := s.readers[0]
		if s.hand(c, b) {
			s.dropReader(c)
			return true
		}
	}
	return false
}

// callReader wakes who is to have what is unread. The lock is held.
func (s *session) callReader() {
	switch {
	case s.holder != nil:
		s.rouse(s.holder)
	case s.reader != nil && s.reader.wake != nil:
		s.rouse(s.reader)
	case len(s.readers) > 0:
		s.rouse(s.readers[0])
	}
}

// takeUnread moves what is unread to b. The lock is held.
func (s *session) takeUnread(b []byte) int {
	n := copy(b, s.unread)
	if s.unread = s.unread[:copy(s.unread, s.unread[n:])]; len(s.unread) == 0 && cap(s.unread) > 16<<10 {
		s.unread = nil
	}
	s.room.Broadcast()
	if s.over && len(s.unread) == 0 {
		s.wakeAll()
	}
	return n
}
