package tlsd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// callers counts them.
func (r *rig) callers() int {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.hub.callers
}

// waitsIn tells whether a goroutine waits in a method until another one wakes it.
func waitsIn(method string) bool {
	b := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "sync.(*Cond).Wait") && strings.Contains(g, method) {
			return true
		}
	}
	return false
}

// A caller in raw mode that writes to a session which is over, and wants none of what
// is left, is forgotten when it goes. Who wants it gets it.
func TestRawAfterEnd(t *testing.T) {
	r := newRig(t)
	to := r.serve(once)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s", Mode: protocol.Raw})
	deaf := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\nMode: raw\nEncoding: chunks\n\n")
	r.answer(deaf)
	s := r.sessions()[0]
	_, err := io.WriteString(c, "x\n")
	must(t, err)
	r.await("over", s.isOver)
	_, err = deaf.Write([]byte("\x00\x00\x00\x01y"))
	must(t, err)
	must(t, deaf.Close())
	r.await("gone", func() bool { return r.callers() == 1 })
	if got, err := io.ReadAll(c); err != nil || string(got) != "x\nbye\n" {
		t.Errorf("%q %v", got, err)
	}
	must(t, c.Close())
}

// Who may read and not write ends no session by writing.
func TestRawReadOnly(t *testing.T) {
	const reader = 2001
	r := newRig(t)
	r.open()
	to := r.serve(echoLines)
	r.policy("s", to, func(p *privsep.TLSPolicyText) { p.Read = []privsep.TLSGrant{{To: privsep.GrantUID, ID: reader}} })
	c := r.mustDial(to, client.Options{Session: "s", Mode: protocol.Raw})
	as(t, reader, func() {
		conn, err := net.Dial("unix", r.socket)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "ATTACH s GATEHOUSE-TLS/1\nEncoding: chunks\n\n\x00\x00\x00\x05")
		if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), " 200 ") {
			t.Errorf("%q %v", got, err)
		}
	})
	must(t, ask(c, "x"))
	must(t, c.Close())
}

// A reader for all that goes in the middle of a frame makes room for the next one.
func TestReaderGoesAmid(t *testing.T) {
	c := &caller{account: newAccount(1, new(atomic.Int64))}
	s := newSession(&hub{shards: newShards(0, 1)}, c, &policy{TLSPolicyText: privsep.TLSPolicyText{TLSPolicy: privsep.TLSPolicy{MaxFrame: maxUnread}}})
	s.mode, s.read, s.reader = protocol.Framed, protocol.ReadAll, c
	frame := binary.BigEndian.AppendUint32(nil, maxUnread-4)
	frame = append(frame, make([]byte, maxUnread-4)...)
	s.keep(frame)
	s.mu.Lock()
	s.nextFrame(c, make([]byte, 100))
	s.mu.Unlock()
	kept := make(chan bool)
	go func() { kept <- s.keep(frame) }()
	(&rig{t: t}).await("waits", func() bool { return waitsIn("(*session).keep(") })
	s.mu.Lock()
	s.detach(c, false, false)
	s.mu.Unlock()
	select {
	case <-kept:
	case <-time.After(patience):
		t.Fatal("the next frame is not taken")
	}
	if !slices.Equal(s.unread, frame) {
		t.Errorf("%d bytes are left", len(s.unread))
	}
}

// What an answer has taken is not kept when the caller has it.
func TestAnswersGiveBack(t *testing.T) {
	c := &caller{account: newAccount(1, new(atomic.Int64)), out: make([]byte, 1<<20)}
	s := newSession(&hub{shards: newShards(0, 1)}, c, &policy{})
	s.mode = protocol.Framed
	for b := make([]byte, 32<<10); s.next(c, b) > 0; {
	}
	if cap(c.out) > 0 {
		t.Errorf("%d bytes are kept", cap(c.out))
	}
}

// A session that ends leaves no timer, which would keep all of it.
func TestEndedIsForgotten(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	must(t, r.mustDial(to, client.Options{Session: "s"}).Close())
	s := r.sessions()[0]
	waits := func() bool { r.hub.mu.Lock(); defer r.hub.mu.Unlock(); return s.idle != nil }
	r.await("idle", waits)
	if a := r.answer(r.raw("CLOSE s GATEHOUSE-TLS/1\n\n")); a.Code != protocol.OK {
		t.Errorf("%+v", a)
	}
	if waits() {
		t.Error("its timer runs")
	}
}

// A server that answers nothing lets no more wait than it may, however many have gone;
// who goes while it waits is forgotten, and who stays is answered at last.
func TestUnanswered(t *testing.T) {
	r := newRig(t)
	answers := make(chan struct{})
	to := r.serve(func(c *tls.Conn) {
		var all []byte
		for range mostOrder {
			frame, err := readFrame(c)
			if err != nil {
				return
			}
			all = append(all, frame...)
		}
		<-answers
		c.Write(all)
		io.Copy(c, c)
	})
	r.policy("s", to, nil)
	head := "CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\nMode: framed\n\n"
	frames := make([]byte, 4*(mostOwed+10))
	waiting := func(s *session) int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.order) }
	for i := range mostOrder / mostOwed {
		conn := r.raw(head)
		r.answer(conn)
		_, err := conn.Write(frames)
		must(t, err)
		s := r.sessions()[0]
		r.await("waits", func() bool { return waiting(s) == (i+1)*mostOwed })
		must(t, conn.Close())
		r.await("gone", func() bool { return r.callers() == 0 })
	}
	s := r.sessions()[0]
	impatient := r.raw(head + "\x00\x00\x00\x00")
	r.answer(impatient)
	must(t, impatient.Close())
	r.await("gone", func() bool { return r.callers() == 0 })
	if n := waiting(s); n != mostOrder {
		t.Errorf("%d answers are waited for", n)
	}
	c := r.mustDial(to, client.Options{Session: "s", Mode: protocol.Framed})
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := c.Write(frameOf(1, 1))
	must(t, err)
	r.await("waits", func() bool { return waitsIn("(*caller).awaitAnswers(") })
	close(answers)
	if got, err := readFrame(c); err != nil || string(got) != string(frameOf(1, 1)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	must(t, c.Close())
}

// Servers that accept and say nothing hold nobody up but whoever has chosen them.
func TestMuteServers(t *testing.T) {
	r := newRig(t)
	r.open()
	everybody := func(p *privsep.TLSPolicyText) { p.Open = []privsep.TLSGrant{{To: privsep.GrantAll}} }
	good := r.serve(echo)
	r.policy("good", good, everybody)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var conns []net.Conn
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-accepted
		for _, c := range conns {
			c.Close()
		}
	})
	mute := &remote{addr: l.Addr().String(), port: uint16(l.Addr().(*net.TCPAddr).Port)}
	r.policy("mute*", mute, everybody)
	for i := range handshakesAtOnce + 8 {
		r.raw("CONNECT " + mute.addr + " GATEHOUSE-TLS/1\nSession: mute" + string(rune('0'+i)) + "\n\n")
	}
	r.await("all ask", func() bool { return len(r.sessions()) == handshakesAtOnce+8 })
	r.await("handshakes", func() bool { return len(r.hub.handshakes) >= uidHandshakes })
	as(t, 2001, func() {
		if got := r.asks("CONNECT " + good.addr + " GATEHOUSE-TLS/1\nSession: good\nTimeout: 5s\n\n"); got != protocol.OK {
			t.Errorf("another user: %d", got)
		}
	})
	r.hub.endAll("stop")
}

// Who waits for the turn in a session that ends does not wait for the holder, who
// reads nothing.
func TestEndPassesHolderBy(t *testing.T) {
	r := newRig(t)
	to := r.serve(func(c *tls.Conn) {
		for b := make([]byte, 16<<10); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	r.policy("s", to, nil)
	head := "CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\n"
	r.answer(r.raw(head))
	s := r.sessions()[0]
	r.await("full", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.unread) > maxUnread/2 })
	waits := r.raw(head)
	r.await("waits", s.lease.wanted)
	if a := r.answer(r.raw("CLOSE s GATEHOUSE-TLS/1\n\n")); a.Code != protocol.OK {
		t.Errorf("%+v", a)
	}
	if a := r.answer(waits); a.Code != protocol.OK || a.Get("Session-Id") == s.id {
		t.Errorf("%+v", a)
	}
}

// A server that says goodbye in the middle of a frame has broken off.
func TestFrameCutShort(t *testing.T) {
	r := newRig(t)
	to := r.serve(func(c *tls.Conn) {
		readFrame(c)
		c.Write([]byte("\x00\x00\x00\x05hal"))
	})
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s", Mode: protocol.Framed})
	_, err := c.Write(frameOf(1, 1))
	must(t, err)
	if _, err := c.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	c.Close()
}

// A certificate with a lot in it fills no answer.
func TestLongReason(t *testing.T) {
	r := newRig(t)
	var names []string
	for range 90 {
		names = append(names, strings.Repeat("x", 60)+".example")
	}
	to := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{newAuthority(t).server(t, names...)}}, echo)
	r.policy("s", to, nil)
	_, err := r.dial(to, client.Options{Session: "s", ServerName: "other.example"})
	if e, ok := err.(*client.Error); !ok || e.Verify != "hostname" || len(e.Reason) != maxReason {
		t.Errorf("%v", err)
	}
}

// Who reads late, of more than sockets have room for, has all of it, in order, in every
// way to read.
func TestReadsLate(t *testing.T) {
	r := newRig(t)
	const size = 512 << 10
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(i * i >> 7)
	}
	to := r.serve(func(c *tls.Conn) {
		for {
			frame, err := readFrame(c)
			if err != nil {
				return
			}
			n := int(binary.BigEndian.Uint32(frame[4:])) // bytes a piece
			for rest := text; len(rest) > 0; rest = rest[min(n, len(rest)):] {
				piece := rest[:min(n, len(rest))]
				c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(piece))), piece...))
			}
		}
	})
	r.policy("*", to, nil)
	for name, o := range map[string]client.Options{
		"exclusive": {Session: "exclusive"},
		"all":       {Session: "all", Mode: protocol.Framed, Read: protocol.ReadAll},
		"raw":       {Session: "raw", Mode: protocol.Raw},
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{700, 5000, 60000} {
				c := r.mustDial(to, o)
				_, err := c.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 4}, uint32(piece)))
				must(t, err)
				s := r.sessionOf(o.Session)
				r.await("no room", func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return len(s.unread) > 0 && (s.mode == protocol.Raw || slices.ContainsFunc(slices.Collect(maps.Keys(s.callers)), func(c *caller) bool { return c.busy }))
				})
				for rest, in := text, bufio.NewReader(c); len(rest) > 0; {
					frame, err := readFrame(in)
					must(t, err)
					if n := len(frame) - 4; n > len(rest) || !bytes.Equal(frame[4:], rest[:n]) {
						t.Fatalf("%d bytes before the end: another frame, of %d", len(rest), n)
					}
					rest = rest[len(frame)-4:]
				}
				must(t, c.Close())
			}
		})
	}
}

// Of what a socket has taken a part of the rest goes first. Unix sockets take all or
// nothing of a piece, but nobody promises that; a pipe does otherwise.
func TestTakesPart(t *testing.T) {
	reader, writer, err := os.Pipe()
	must(t, err)
	defer reader.Close()
	defer writer.Close()
	s := &session{callers: map[*caller]struct{}{}}
	s.room = sync.NewCond(&s.mu)
	c := &caller{req: protocol.Request{Chunks: true}, file: writer}
	c.raw, err = writer.SyscallConn()
	must(t, err)
	s.attach(c)
	s.mu.Lock()
	c.live = true
	var sent []byte
	for begun := false; !begun; {
		piece := bytes.Repeat([]byte{byte(len(sent) >> 9)}, 9999)
		if !s.hand(c, piece) {
			t.Fatal("a piece was taken whole, and of the next one nothing")
		}
		sent = append(sent, piece...)
		begun = len(c.begun) > 0
	}
	s.unread = []byte("after it")
	sent = append(sent, s.unread...)
	s.mu.Unlock()
	var got []byte
	for len(got) < len(sent) {
		frame, err := readFrame(reader)
		must(t, err)
		got = append(got, frame[4:]...)
	}
	if !bytes.Equal(got, sent) {
		t.Error("not what was sent")
	}
	s.mu.Lock()
	c.stop = true
	c.wake.Broadcast()
	if c.lost || c.got != uint64(len(sent)) {
		t.Error(c.lost, c.got)
	}
	s.mu.Unlock()
	<-c.done
}

// sessionOf is the session of a name.
func (r *rig) sessionOf(name string) *session {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.hub.named[name]
}
