package tlsd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// Callers come one after the other and all at once: the server sees one handshake.
func TestExclusive(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	for i := range 50 {
		c := r.mustDial(to, client.Options{Session: "s"})
		must(t, ask(c, fmt.Sprintf("request %d", i)))
		must(t, c.Close())
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				c, err := r.dial(to, client.Options{Session: "s"})
				if err == nil {
					err = ask(c, fmt.Sprintf("caller %d request %d", i, n))
				}
				if err == nil {
					err = c.Detach()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := to.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

// What a caller has not read the next one gets.
func TestUnreadStays(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s"})
	must(t, ask(c, "one"))
	must(t, c.Close())
	s := r.sessions()[0]
	_, err := s.conn.Write([]byte("two\n")) // as if the answer to the last one had come late
	must(t, err)
	r.await("unread", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.unread) == 4 })
	c = r.mustDial(to, client.Options{Session: "s"})
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "two\n" {
		t.Fatalf("%q %v", b, err)
	}
	must(t, c.Close())
}

// A caller that goes without a word ends the session, unless that is to be kept.
func TestDirty(t *testing.T) {
	for _, keep := range []bool{false, true} {
		r := newRig(t)
		to := r.serve(echo)
		r.policy("s", to, func(p *privsep.TLSPolicyText) { p.Keep = keep })
		conn := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\n")
		if a := r.answer(conn); a.Code != protocol.OK || a.Text != "opened" || a.Get("Verify") != "ok" || a.Get("Version") != "1.3" {
			t.Fatalf("%+v", a)
		}
		must(t, ask(conn, "one"))
		conn.Close()
		c := r.mustDial(to, client.Options{Session: "s"})
		must(t, ask(c, "two"))
		must(t, c.Close())
		want := int32(2)
		if keep {
			want = 1
		}
		if n := to.shakes.Load(); n != want {
			t.Errorf("keep %v: %d handshakes", keep, n)
		}
	}
}

// One that has done nothing leaves nothing behind, and one that waits for its turn has
// the session when the holder is gone.
func TestTurn(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	idle := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\n")
	r.answer(idle)
	if _, err := r.dial(to, client.Options{Session: "s", Timeout: 1}); code(err) != protocol.Late {
		t.Fatalf("%v", err)
	}
	gone := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\nunsent")
	s := r.sessions()[0]
	r.await("waits", s.lease.wanted)
	gone.Close()
	r.await("waits no more", func() bool { return !s.lease.wanted() })
	waits := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\none\n")
	r.await("waits", s.lease.wanted)
	idle.Close()
	if a := r.answer(waits); a.Text != "joined" {
		t.Fatalf("%+v", a)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(waits, b); err != nil || string(b) != "one\n" {
		t.Fatalf("%q %v", b, err)
	}
	if n := to.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

func code(err error) protocol.Code {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Everybody is told of the end: that of the server, one without a word, and CLOSE.
func TestEnd(t *testing.T) {
	r := newRig(t)
	bye := r.serve(echoLines)
	r.policy("*", bye, nil)
	c := r.mustDial(bye, client.Options{Session: "broken"})
	must(t, ask(c, "one"))
	bye.drop()
	if _, err := c.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("dropped: %v", err)
	}
	c.Close()
	c = r.mustDial(bye, client.Options{Session: "closed"})
	must(t, ask(c, "one"))
	other := r.raw("CLOSE closed GATEHOUSE-TLS/1\n\n")
	if a := r.answer(other); a.Code != protocol.OK {
		t.Errorf("%+v", a)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("closed: %v", err)
	}
	c.Close()
	if a := r.answer(r.raw("CLOSE closed GATEHOUSE-TLS/1\n\n")); a.Code != protocol.NoSession {
		t.Errorf("%+v", a)
	}
	c = r.mustDial(bye, client.Options{Session: "closed"}) // opens again
	must(t, ask(c, "two"))
	must(t, c.Close())
}

// The server says that it ends: what it had sent is read, then that it is over.
func TestServerEnds(t *testing.T) {
	r := newRig(t)
	to := r.serve(once)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s"})
	_, err := io.WriteString(c, "x\n")
	must(t, err)
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "x\nbye\n" {
		t.Errorf("%q %v", got, err)
	}
	must(t, c.Close())
	conn := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\n\ny\n")
	r.answer(conn)
	if got, err := io.ReadAll(conn); err != nil || string(got) != "y\nbye\n" {
		t.Errorf("%q %v", got, err)
	}
}

// 8 callers at once, each with frames of its own: each gets its answers, in order, and
// nobody another's byte.
func TestFramed(t *testing.T) {
	r := newRig(t)
	var bad atomic.Int32
	to := r.serve(echoFrames(&bad))
	r.policy("s", to, nil)
	const frames = 2000
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			c, err := r.dial(to, client.Options{Session: "s", Mode: protocol.Framed})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			go func() {
				for n := range frames {
					if _, err := c.Write(frameOf(w, n)); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			for n := range frames {
				got, err := readFrame(c)
				if err != nil || string(got) != string(frameOf(w, n)) {
					t.Errorf("writer %d frame %d: %v", w, n, err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := to.shakes.Load(); n != 1 || bad.Load() != 0 {
		t.Errorf("%d handshakes, %d bad frames", n, bad.Load())
	}
}

// Callers die in the middle of frames and with answers to come; the others notice
// nothing.
func TestFramedDeaths(t *testing.T) {
	r := newRig(t)
	var bad atomic.Int32
	to := r.serve(echoFrames(&bad))
	r.policy("s", to, nil)
	var all, mortal sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		mortal.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := net.Dial("unix", r.socket)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "CONNECT "+to.addr+" GATEHOUSE-TLS/1\nSession: s\nMode: framed\n\n")
				r.answer(conn)
				conn.Write(append(frameOf(100+w, n), frameOf(100+w, n)[:5+n%7]...))
				if n%2 == 0 {
					readFrame(conn)
				}
				conn.Close()
			}
		})
	}
	for w := range 4 {
		all.Go(func() {
			c, err := r.dial(to, client.Options{Session: "s", Mode: protocol.Framed})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := range 300 {
				if _, err := c.Write(frameOf(w, n)); err != nil {
					t.Error(err)
					return
				}
				if got, err := readFrame(c); err != nil || string(got) != string(frameOf(w, n)) {
					t.Errorf("writer %d frame %d: %v", w, n, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(stop)
	mortal.Wait()
	if n := to.shakes.Load(); n != 1 || bad.Load() != 0 {
		t.Errorf("%d handshakes, %d bad frames", n, bad.Load())
	}
}

// One reads for all, in frames of lines, and the next one goes on with the frame after.
func TestReader(t *testing.T) {
	r := newRig(t)
	to := r.serve(echoLines)
	r.policy("s", to, nil)
	write := client.Options{Session: "s", Mode: protocol.Framed, Frame: protocol.FrameLine, Read: protocol.ReadNone}
	read := write
	read.Read = protocol.ReadAll
	w := r.mustDial(to, write)
	reader := r.mustDial(to, read)
	if _, err := r.dial(to, read); code(err) != protocol.Conflict {
		t.Errorf("a second reader: %v", err)
	}
	if _, err := r.dial(to, client.Options{Session: "s", Mode: protocol.Framed, Frame: protocol.FrameLine}); code(err) != protocol.Conflict {
		t.Errorf("one for answers: %v", err)
	}
	_, err := io.WriteString(w, "one\n")
	must(t, err)
	b := make([]byte, 4)
	if _, err := io.ReadFull(reader, b); err != nil || string(b) != "one\n" {
		t.Fatalf("%q %v", b, err)
	}
	must(t, reader.Close())
	_, err = io.WriteString(w, "two\n")
	must(t, err)
	reader = r.mustDial(to, read)
	if _, err := io.ReadFull(reader, b); err != nil || string(b) != "two\n" {
		t.Fatalf("%q %v", b, err)
	}
	must(t, reader.Close())
	must(t, w.Close())
}

// Each write goes at once, and each read that is wanted gets a piece.
func TestRaw(t *testing.T) {
	r := newRig(t)
	var bad atomic.Int32
	to := r.serve(echoFrames(&bad))
	r.policy("s", to, nil)
	o := client.Options{Session: "s", Mode: protocol.Raw}
	var all sync.WaitGroup
	var total, want atomic.Int64
	for w := range 4 {
		all.Go(func() {
			c, err := r.dial(to, o)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := range 200 {
				k, err := c.Write(frameOf(w, n))
				if err != nil {
					t.Error(err)
					return
				}
				want.Add(int64(k))
			}
		})
	}
	reader := r.mustDial(to, o)
	defer reader.Close()
	all.Wait()
	for b := make([]byte, 1<<10); total.Load() < want.Load(); {
		n, err := reader.Read(b)
		must(t, err)
		total.Add(int64(n))
	}
	if bad.Load() != 0 || to.shakes.Load() != 1 {
		t.Errorf("%d bad frames, %d handshakes", bad.Load(), to.shakes.Load())
	}
}

// An unshared session by the socket ends with its connection.
func TestUnshared(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("*", to, nil)
	for range 3 {
		conn := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nShared: no\n\n")
		r.answer(conn)
		must(t, ask(conn, "one"))
		conn.Close()
	}
	r.await("no session", func() bool { return len(r.sessions()) == 0 })
	if n := to.shakes.Load(); n != 3 {
		t.Errorf("%d handshakes", n)
	}
}

// A session that has had its records gets a successor; who has it goes on.
func TestWorn(t *testing.T) {
	r := newRig(t)
	r.hub.mostRecords = 100
	to := r.serve(echoLines)
	r.policy("s", to, nil)
	o := client.Options{Session: "s", Mode: protocol.Framed, Frame: protocol.FrameLine}
	c := r.mustDial(to, o)
	for range 150 {
		must(t, ask(c, "x"))
	}
	next := r.mustDial(to, o)
	must(t, ask(next, "y"))
	must(t, ask(c, "z"))
	_, first := c.Session()
	_, second := next.Session()
	if first == second || to.shakes.Load() != 2 {
		t.Errorf("%s, %s, %d handshakes", first, second, to.shakes.Load())
	}
	must(t, c.Close())
	r.await("the first one ends", func() bool { return len(r.sessions()) == 1 })
	must(t, next.Close())
}

// A session that is ended in the very moment in which it could not be opened has no
// connection to close.
func TestEndOfFailed(t *testing.T) {
	r := newRig(t)
	s := &session{hub: r.hub, owner: &account{}, opened: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{})}
	s.room = sync.NewCond(&s.mu)
	close(s.opened)
	s.end("unused", false)
	select {
	case <-s.closed:
	case <-time.After(patience):
		t.Error("it has not ended")
	}
}
