package tlsd

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// What is no head is answered and closed.
func TestBadHeads(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	for name, head := range map[string]string{
		"HTTP":        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"long":        "CONNECT " + strings.Repeat("x", 2*protocol.MaxHead),
		"many lines":  strings.Repeat("a: b\n", 1000),
		"binary":      strings.Repeat("\x00\xff\n", 100) + "\n",
		"empty":       "\n",
		"wrong verbs": "DELETE s GATEHOUSE-TLS/1\n\n",
	} {
		c := r.raw(head)
		if a := r.answer(c); a.Code != protocol.Malformed {
			t.Errorf("%s: %+v", name, a)
		}
		if rest, _ := io.ReadAll(c); len(rest) > 0 {
			t.Errorf("%s: %q follows", name, rest)
		}
	}
}

// Who opens connections and says half of something fills what is his, and others are
// served.
func TestFlood(t *testing.T) {
	r := newRig(t)
	r.open()
	to := r.serve(echo)
	r.policy("s", to, func(p *privsep.TLSPolicyText) { p.Open = []privsep.TLSGrant{{To: privsep.GrantAll}} })
	var all []net.Conn
	as(t, 2001, func() {
		for range r.hub.limits.UIDCallers {
			c, err := net.Dial("unix", r.socket)
			if err != nil {
				t.Error(err)
				return
			}
			all = append(all, c)
			io.WriteString(c, "CONNECT "+to.addr+" GATEHOUSE-TLS/1\nSession:")
		}
		if got := r.asks("LIST GATEHOUSE-TLS/1\n\n"); got != protocol.TooMany {
			t.Errorf("one more: %d", got)
		}
	})
	c := r.mustDial(to, client.Options{Session: "s"})
	must(t, ask(c, "x"))
	must(t, c.Close())
	for _, c := range all {
		c.Close()
	}
	r.await("forgotten", func() bool { r.hub.mu.Lock(); defer r.hub.mu.Unlock(); return r.hub.accounts[2001] == nil })
}

// Sessions have a bound for each user, too.
func TestManySessions(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("*", to, nil)
	r.hub.setLimits(privsep.TLSDSettings{MaxSessions: 10, MaxCallers: 100, UIDSessions: 3, UIDCallers: 100, UIDMemory: 1 << 20})
	for i := range 3 {
		must(t, r.mustDial(to, client.Options{Session: string(rune('a' + i))}).Close())
	}
	if _, err := r.dial(to, client.Options{Session: "d"}); code(err) != protocol.TooMany {
		t.Errorf("%v", err)
	}
	must(t, r.mustDial(to, client.Options{Session: "a"}).Close())
	if a := r.answer(r.raw("CLOSE a GATEHOUSE-TLS/1\n\n")); a.Code != protocol.OK {
		t.Errorf("%+v", a)
	}
	must(t, r.mustDial(to, client.Options{Session: "d"}).Close())
}

// Who sends frames and reads no answer is cut off; the others of the session notice
// nothing.
func TestNeverReading(t *testing.T) {
	r := newRig(t)
	to := r.serve(echoAnyFrames)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s", Mode: protocol.Framed})
	defer c.Close()
	deaf := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\nMode: framed\n\n")
	r.answer(deaf)
	frame := binary.BigEndian.AppendUint32(nil, 60000)
	frame = append(frame, make([]byte, 60000)...)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := deaf.Write(frame); err != nil {
				failed <- err
				return
			}
		}
	}()
	for n := range 100 {
		_, err := c.Write(frameOf(1, n))
		must(t, err)
		if got, err := readFrame(c); err != nil || !bytes.Equal(got, frameOf(1, n)) {
			t.Fatalf("frame %d: %v", n, err)
		}
	}
	<-failed
	if n := to.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

// Frames that are too long, and pieces, end their caller alone.
func TestLong(t *testing.T) {
	r := newRig(t)
	to := r.serve(echoAnyFrames)
	r.policy("f", to, nil)
	r.policy("r", to, nil)
	keep := r.mustDial(to, client.Options{Session: "f", Mode: protocol.Framed})
	defer keep.Close()
	for name, head := range map[string]string{
		"frame":       "Session: f\nMode: framed\n\n\xff\xff\xff\xff",
		"piece":       "Session: r\nMode: raw\nEncoding: chunks\n\n\x7f\xff\xff\xff",
		"two reads":   "Session: r\nMode: raw\nEncoding: chunks\n\n\x00\x00\x00\x00\x00\x00\x00\x00",
		"read framed": "Session: f\nMode: framed\nEncoding: chunks\n\n\x00\x00\x00\x00",
	} {
		c := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\n" + head)
		if a := r.answer(c); a.Code != protocol.OK {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("%s: %q %v", name, rest, err)
		}
	}
	_, err := keep.Write(frameOf(1, 1))
	must(t, err)
	if _, err := readFrame(keep); err != nil {
		t.Error(err)
	}
}

// A server that sends frames nobody asked for, or longer ones than are allowed, harms
// its session.
func TestHostileServer(t *testing.T) {
	r := newRig(t)
	greeting := r.serve(greet)
	r.policy("g", greeting, nil)
	c := r.mustDial(greeting, client.Options{Session: "g", Mode: protocol.Framed, Frame: protocol.FrameLine})
	s := r.sessions()[0]
	r.await("dropped", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.unasked == 1 })
	must(t, ask(c, "x"))
	_, err := io.WriteString(c, "long\n")
	must(t, err)
	if _, err := c.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	c.Close()
}

// Law: however a stream is cut, the frames are the same; what is kept is charged, and
// given back.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01c"), uint8(1), false)
	f.Add([]byte("ab\n\nlonger than that\nx"), uint8(3), true)
	f.Add([]byte("\xff\xff\xff\xff"), uint8(2), false)
	f.Fuzz(func(t *testing.T, b []byte, step uint8, lines bool) {
		kind := protocol.FrameU32
		if lines {
			kind = protocol.FrameLine
		}
		split := func(step int) (frames [][]byte, err error) {
			var limit atomic.Int64
			limit.Store(1 << 20)
			a := newAccount(1, &limit)
			s := newSplitter(kind, 64, a)
			for rest := b; len(rest) > 0 && err == nil; {
				n := min(step, len(rest))
				err = s.feed(rest[:n], func(frame []byte) error {
					frames = append(frames, bytes.Clone(frame))
					return nil
				})
				rest = rest[n:]
			}
			if len(s.part) != s.charged || int64(s.charged) != a.bytes.Load() {
				t.Fatalf("%d kept, %d charged, %d in all", len(s.part), s.charged, a.bytes.Load())
			}
			s.close()
			if a.bytes.Load() != 0 {
				t.Fatalf("%d not given back", a.bytes.Load())
			}
			return frames, err
		}
		whole, err := split(max(len(b), 1))
		parts, err2 := split(int(step)%16 + 1)
		if (err == nil) != (err2 == nil) || !bytes.Equal(bytes.Join(whole, []byte("|")), bytes.Join(parts, []byte("|"))) {
			t.Fatalf("%q %v, and in parts %q %v", whole, err, parts, err2)
		}
		if !bytes.HasPrefix(b, bytes.Join(whole, nil)) {
			t.Fatalf("%q is not the beginning of %q", whole, b)
		}
	})
}
