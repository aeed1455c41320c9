package cm

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

func newPlainRig(t *testing.T) *rig {
	g := newRig(t, nil)
	g.do(func() { g.plain = true })
	return g
}

// retire tells the cm to retire in that time, and gives the successor's end of the
// channel.
func (g *rig) retire(drain time.Duration) *privsep.Channel {
	g.t.Helper()
	mine, theirs, err := privsep.Socketpair()
	g.check(err)
	r := privsep.Retire{To: 1, Generation: 1, Key: privsep.NewKey(), Drain: drain}
	ch := privsep.NewChannel(mine, privsep.RoleCM, privsep.RoleCM, r.Key)
	ch.SetPhase(privsep.PhaseRun)
	g.t.Cleanup(ch.Close)
	g.do(func() { g.send(privsep.KindRetire, r.Append(nil), theirs) })
	privsep.CloseFD(theirs)
	return ch
}

// moved receives one connection whole.
func (g *rig) moved(ch *privsep.Channel) (privsep.MoveConn, []byte, net.Conn) {
	g.t.Helper()
	var m privsep.Message
	var mv privsep.MoveConn
	g.check(ch.RecvWait(&m, 10*time.Second))
	if m.Kind != privsep.KindMoveConn {
		g.t.Fatalf("%v", m.Kind)
	}
	g.check(mv.Parse(m.Payload))
	f := os.NewFile(uintptr(m.FDs[0]), "moved")
	conn, err := net.FileConn(f)
	g.check(err)
	f.Close()
	g.t.Cleanup(func() { conn.Close() })
	want := int(mv.Parser + mv.Subject + mv.Reply + mv.Body + mv.Rest + mv.Output)
	var all []byte
	for len(all) < want {
		g.check(ch.RecvWait(&m, 10*time.Second))
		if m.Kind != privsep.KindMoveBytes {
			g.t.Fatalf("%v after %d bytes of %d", m.Kind, len(all), want)
		}
		all = append(all, m.Payload...)
	}
	if len(all) != want {
		g.t.Fatalf("%d bytes, want %d", len(all), want)
	}
	return mv, all, conn
}

// A connection in the middle of a message leaves with all of it, and the process
// ends when the last has left and no more can come.
func TestDeparture(t *testing.T) {
	g := newPlainRig(t)
	g.do(func() { g.leaves = true })
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	io.WriteString(c, "PUB a.b reply 10\r\n0123")
	g.until("the part to be read", func() bool { return g.cols.Row(0).InBytes.Load() == 6+22 })
	ch := g.retire(time.Minute)
	mv, b, conn := g.moved(ch)
	if mv.UID != 1 || mv.Slot != 0 || mv.Flags != privsep.MoveConnected|privsep.MoveMessage || mv.Size != 10 || mv.HeaderLen != -1 ||
		mv.InBytes != 28 || mv.Deadline != 0 || mv.Output != 0 {
		t.Errorf("%+v", mv)
	}
	if text := string(b[mv.Parser:]); text != "a.breply0123" {
		t.Errorf("parts %q", text)
	}
	var p wire.Parser
	if !p.Restore(b[:mv.Parser], &wire.Limits{ControlLine: 4096, Connect: 4096, Payload: 4096}) || p.Remaining() != 6 {
		t.Errorf("parser %x", b[:mv.Parser])
	}
	io.WriteString(conn, "hello\r\n")
	if line, err := readInfo(c); err != nil || line != "hello\r\n" {
		t.Errorf("%q, %v through the moved socket", line, err)
	}
	g.until("the word that it has moved", func() bool { return g.cols.Row(0).MovedUID.Load() == 1 && g.cols.Row(0).ClosedUID.Load() == 0 })
	select {
	case err := <-g.ended:
		t.Fatalf("ended with %v while connections may come", err)
	default:
	}
	g.disp.Close()
	select {
	case err := <-g.ended:
		g.ended <- err
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("does not end")
	}
}

// Who may not move yet goes on, and moves later.
func TestDepartureRefused(t *testing.T) {
	g := newPlainRig(t)
	g.do(func() { g.stays = true })
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	ch := g.retire(time.Minute)
	g.until("two tries", func() bool { return len(g.moves) >= 2 })
	ping(t, c)
	g.do(func() { g.stays = false })
	if mv, _, _ := g.moved(ch); mv.UID != 1 {
		t.Errorf("%+v", mv)
	}
}

// When the time of those who stay is up the log tells what they have not had.
func TestDepartureTooLate(t *testing.T) {
	g := newRig(t, nil)
	g.do(func() { g.buffer, g.leaves = 4096, true })
	c := g.client(trusting(g.certificate(1, newKey(t, "p256"))))
	const n, size = 100, 32 << 10
	msg := fmt.Appendf(nil, "PUB x %d\r\n%s\r\n", size, make([]byte, size))
	for range n {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	g.until("all to wait for the reader", func() bool { return g.cols.Row(0).OutMsgs.Load() == n })
	g.retire(time.Millisecond)
	g.until("its end", func() bool { return len(g.closed) == 1 })
	g.until("the report", func() bool { return len(g.logs) >= 2 })
	g.do(func() {
		one, all := g.logs[0], g.logs[1]
		if len(g.logs) != 2 || one.Event != "messages not delivered" || all.Event != "stopped before all was delivered" {
			t.Fatalf("%+v", g.logs)
		}
		if cid, left := one.Fields[0], one.Fields[2]; cid != privsep.Int(privsep.KeyCID, 1) || left.Int < n*size/2 || left != all.Fields[1] {
			t.Errorf("%+v", g.logs)
		}
	})
}

// A successor that says anything loses its channel; connections stay.
func TestSuccessorSpeaks(t *testing.T) {
	g := newPlainRig(t)
	g.do(func() { g.stays = true })
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	ch := g.retire(time.Minute)
	g.check(ch.Send(privsep.KindMoveBytes, []byte("x")))
	var m privsep.Message
	if err := ch.RecvWait(&m, 10*time.Second); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
	ping(t, c)
}

// mover is the process before, as the cm sees it.
type mover struct {
	*rig
	ch *privsep.Channel
}

func newMover(t *testing.T) *mover {
	g := newPlainRig(t)
	mine, theirs, err := privsep.Socketpair()
	g.check(err)
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleCM, Index: 1}, Key: privsep.NewKey(), Generation: 1}
	ch := privsep.NewChannel(mine, privsep.RoleCM, privsep.RoleCM, peer.Key)
	ch.SetPhase(privsep.PhaseRun)
	t.Cleanup(ch.Close)
	g.do(func() { g.send(privsep.KindPeer, peer.Append(nil), theirs) })
	privsep.CloseFD(theirs)
	return &mover{g, ch}
}

// announce is the router's.
func (v *mover) announce(uid uint64, slot uint32) store.Conn {
	c := store.Conn{Slot: slot, Gen: uint32(uid)}
	v.do(func() { v.tell(&store.InsArriving{Conn: c, UID: uid, Flags: store.ArrivingHeaders}) })
	return c
}

// socket is a connection: the client's end, and what is moved.
func (v *mover) socket() (client net.Conn, fd int) {
	v.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	v.check(err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	v.check(err)
	v.t.Cleanup(func() { client.Close() })
	v.check(client.SetDeadline(time.Now().Add(20 * time.Second)))
	there, err := l.Accept()
	v.check(err)
	defer there.Close()
	f, err := there.(*net.TCPConn).File()
	v.check(err)
	v.t.Cleanup(func() { f.Close() })
	fd = int(f.Fd())
	v.check(unix.SetNonblock(fd, true))
	return client, fd
}

// saved is a parser in the middle of in.
func saved(in string) []byte {
	var p wire.Parser
	var f wire.Frame
	lim := wire.Limits{ControlLine: 4096, Connect: 4096, Payload: 1 << 20}
	for b := []byte(in); len(b) > 0; {
		n, _, err := p.Next(b, &lim, &f)
		if err != nil {
			panic(err)
		}
		b = b[n:]
	}
	return p.Save(nil)
}

// A connection arrives in the middle of a message, with output that comes before
// what the router has instructed since.
func TestArrival(t *testing.T) {
	v := newMover(t)
	client, fd := v.socket()
	c := v.announce(1000, 7)
	v.do(func() { v.tell(&store.InsSend{Conn: c, Data: []byte("late\r\n")}) })
	p := saved("PUB a 6\r\nabc")
	mv := privsep.MoveConn{UID: 1000, Slot: 7, Flags: privsep.MoveConnected | privsep.MoveMessage, HeaderLen: -1, Size: 6,
		Parser: uint32(len(p)), Subject: 1, Body: 3, Rest: 2, Output: 7, InMsgs: 5}
	v.check(v.ch.Send(privsep.KindMoveConn, mv.Append(nil), fd))
	for _, part := range [][]byte{p, []byte("aa"), []byte("bcd"), []byte("eearly\r"), []byte("\n")} {
		v.check(v.ch.Send(privsep.KindMoveBytes, part))
	}
	if line, err := readInfo(client); err != nil || line != "early\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := readInfo(client); err != nil || line != "late\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	io.WriteString(client, "f\r\nPING\r\n")
	want := "MSG a 1 6\r\nabcdef\r\nPONG\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	v.do(func() {
		if row := v.cols.Row(7); row.UID.Load() != 1000 || row.InMsgs.Load() != 6 {
			t.Errorf("row: %d, %d messages", row.UID.Load(), row.InMsgs.Load())
		}
	})
}

// The socket may come before the router's word, and the client may have gone.
func TestArrivalBeforeItsWord(t *testing.T) {
	v := newMover(t)
	client, fd := v.socket()
	p := saved("")
	mv := privsep.MoveConn{UID: 1000, Slot: 7, Parser: uint32(len(p))}
	v.check(v.ch.Send(privsep.KindMoveConn, mv.Append(nil), fd))
	v.check(v.ch.Send(privsep.KindMoveBytes, p))
	other := v.dial()
	if _, err := readInfo(other); err != nil {
		t.Fatal(err)
	}
	v.announce(1000, 7)
	ping(t, client)
	client.Close()
	v.until("its end", func() bool { return len(v.closed) == 1 && v.closed[0].Slot == 7 })
	ping(t, other)
}

// What makes no sense costs the connection it is about, or the channel and all
// that have not arrived; never anybody else.
func TestArrivalOfNonsense(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	empty, body := saved(""), saved("PUB a 6\r\nabc")
	sized := func(p []byte) privsep.MoveConn {
		return privsep.MoveConn{UID: 1000, Slot: 7, Parser: uint32(len(p)), HeaderLen: 0}
	}
	message := func(p []byte, size, have uint32, flags privsep.MoveFlags) privsep.MoveConn {
		mv := sized(p)
		mv.Flags, mv.HeaderLen, mv.Size, mv.Subject, mv.Body = privsep.MoveMessage|flags, -1, size, 3, have
		return mv
	}
	for name, c := range map[string]struct {
		mv   privsep.MoveConn
		b    []byte
		fd   int  // 0: a sound one
		hang bool // the channel ends as well
		ok   bool
	}{
		"sound":                    {mv: sized(empty), b: empty, ok: true},
		"sound with a message":     {mv: message(body, 6, 3, 0), b: append(bytes.Clone(body), "a.babc"...), ok: true},
		"sound and waiting":        {mv: message(empty, 3, 3, privsep.MoveWaiting), b: append(bytes.Clone(empty), "a.babc"...), ok: true},
		"no parser":                {mv: sized(nil)},
		"a parser that is none":    {mv: sized([]byte("xxxxxxxxx")), b: []byte("xxxxxxxxx")},
		"a line with an end":       {mv: sized(append(saved("SUB a"), "\nb"...)), b: append(saved("SUB a"), "\nb"...)},
		"a payload of no message":  {mv: sized(body), b: body},
		"a message not begun":      {mv: message(empty, 6, 3, 0), b: append(bytes.Clone(empty), "a.babc"...)},
		"a message of other size":  {mv: message(body, 7, 3, 0), b: append(bytes.Clone(body), "a.babc"...)},
		"a subject with a blank":   {mv: message(body, 6, 3, 0), b: append(bytes.Clone(body), "a babc"...)},
		"a message above the most": {mv: message(body, 1<<30, 3, 0), b: append(bytes.Clone(body), "a.babc"...)},
		"a file":                   {mv: sized(empty), b: empty, fd: int(file.Fd())},
		"standard error":           {mv: sized(empty), b: empty, fd: 2},
		"more than announced":      {mv: sized(empty), b: append(bytes.Clone(empty), 0), hang: true},
		"another slot":             {mv: privsep.MoveConn{UID: 1000, Slot: 8}, hang: true},
		"a slot that is none":      {mv: privsep.MoveConn{UID: 1000, Slot: 1 << 30}, hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newMover(t)
			other := v.dial()
			if _, err := readInfo(other); err != nil {
				t.Fatal(err)
			}
			v.announce(1000, 7)
			v.announce(1001, 9)
			client, fd := v.socket()
			if c.fd != 0 {
				fd = c.fd
			}
			v.check(v.ch.Send(privsep.KindMoveConn, c.mv.Append(nil), fd))
			if len(c.b) > 0 {
				v.check(v.ch.Send(privsep.KindMoveBytes, c.b))
			}
			if c.ok {
				if c.mv.Flags&privsep.MoveMessage != 0 && c.mv.Flags&privsep.MoveWaiting == 0 {
					io.WriteString(client, "def\r\n")
				}
				io.WriteString(client, "PING\r\n")
				v.until("the connection at work", func() bool { return len(v.closed) == 0 && v.cols.Row(7).InBytes.Load() > 0 })
			} else if !c.hang {
				v.until("the end of one", func() bool { return len(v.closed) == 1 && v.closed[0].Slot == 7 })
			}
			if c.hang {
				v.ch.Close()
				v.until("the end of both", func() bool { return len(v.closed) == 2 })
			} else { // the next one arrives
				client, fd := v.socket()
				mv := privsep.MoveConn{UID: 1001, Slot: 9, Parser: uint32(len(empty))}
				v.check(v.ch.Send(privsep.KindMoveConn, mv.Append(nil), fd))
				v.check(v.ch.Send(privsep.KindMoveBytes, empty))
				ping(t, client)
			}
			ping(t, other)
		})
	}
}

// Who has been announced and does not come ends with the process that had it.
func TestPredecessorDies(t *testing.T) {
	v := newMover(t)
	for i := range uint32(20) {
		v.announce(1000+uint64(i), 10+i)
	}
	v.until("20 places", func() bool { return v.cols.Row(29).UID.Load() == 1019 })
	v.ch.Close()
	v.until("their end", func() bool { return len(v.closed) == 20 })
	v.announce(2000, 50)
	v.until("the end of one that comes too late", func() bool { return len(v.closed) == 21 })
}
