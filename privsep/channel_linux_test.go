package privsep

import (
	"errors"
	"io"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openFDs counts this process's fds.
func openFDs(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// noLeak fails t unless as many fds are open at its end as now.
func noLeak(t *testing.T) {
	t.Helper()
	before := openFDs(t)
	t.Cleanup(func() {
		if after := openFDs(t); after != before {
			t.Errorf("%d fds open, %d before", after, before)
		}
	})
}

func socketpair(t testing.TB) (a, b int) {
	t.Helper()
	a, b, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// channels gives both ends of a channel between two roles in phase p.
func channels(t testing.TB, here, there Role, p Phase) (a, b *Channel) {
	t.Helper()
	key := NewKey()
	afd, bfd := socketpair(t)
	a, b = NewChannel(afd, here, there, key), NewChannel(bfd, there, here, key)
	a.SetPhase(p)
	b.SetPhase(p)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// null opens something to pass on.
func null(t testing.TB) int {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(fd) })
	return fd
}

func TestChannelPassesMessagesAndFDs(t *testing.T) {
	noLeak(t)
	a, b := channels(t, RoleDispatcher, RoleCM, PhaseRun)
	fd := null(t)
	var m Message
	if err := b.Recv(&m); err != ErrAgain {
		t.Fatalf("nothing sent: %v", err)
	}
	for uid := range uint64(3) {
		if err := a.Send(KindConnHandoff, (&ConnHandoff{UID: uid}).Append(nil), fd); err != nil {
			t.Fatal(err)
		}
	}
	for uid := range uint64(3) {
		var h ConnHandoff
		if err := b.Recv(&m); err != nil || m.Kind != KindConnHandoff || len(m.FDs) != 1 {
			t.Fatalf("%+v %v", m, err)
		}
		if err := h.Parse(m.Payload); err != nil || h.UID != uid {
			t.Fatalf("%+v %v", h, err)
		}
		if flags, err := unix.FcntlInt(uintptr(m.FDs[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 || m.FDs[0] == fd {
			t.Fatalf("received fd %v: flags %d, %v", m.FDs, flags, err)
		}
		m.CloseFDs()
	}
	a.Close()
	if err := b.Recv(&m); err != io.EOF || m.Kind != KindNone || m.Payload != nil || len(m.FDs) != 0 {
		t.Fatalf("peer closed: %+v %v", m, err)
	}
	if err := b.Send(KindDrained, nil); err == nil {
		t.Fatal("sent to nobody")
	}
	b.Close()
	if err := b.Recv(&m); err != ErrClosed || b.FD() != -1 {
		t.Fatal(err)
	}
	if err := b.Send(KindDrained, nil); err != ErrClosed {
		t.Fatal(err)
	}
}

// What a peer had sent before it died without reading is not lost.
func TestChannelLastWords(t *testing.T) {
	noLeak(t)
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	if err := b.Send(KindStatsGet, (&StatsGet{ID: 1}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	NewLogger(a).Error("last words")
	a.Close() // with STATS_GET unread: the kernel resets the connection
	var m Message
	if err := b.Recv(&m); err != nil || m.Kind != KindLog {
		t.Fatalf("%v %v", m.Kind, err)
	}
	if err := b.Send(KindStatsGet, (&StatsGet{ID: 2}).Append(nil)); err != io.EOF {
		t.Fatalf("sent to the dead: %v", err)
	}
	if err := b.Recv(&m); err != io.EOF {
		t.Fatal(err)
	}
}

func TestChannelFull(t *testing.T) {
	noLeak(t)
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	payload := make([]byte, 512)
	sent := 0
	for {
		err := a.Send(KindStats, payload)
		if err == ErrAgain {
			break
		}
		if err != nil || sent > 1e6 {
			t.Fatal(sent, err)
		}
		sent++
	}
	if err := a.SendWait(time.Millisecond, KindStats, payload); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("no room: %v", err)
	}
	var m Message
	for range sent {
		if err := b.Recv(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RecvWait(&m, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("nothing there: %v", err)
	}
	// What was refused took no sequence number.
	if err := a.SendWait(-1, KindStats, payload); err != nil {
		t.Fatal(err)
	}
	if err := b.RecvWait(&m, -1); err != nil || len(m.Payload) != len(payload) {
		t.Fatal(err)
	}
}

// Law: however many are sent at a pace to a peer that does not read, there is more
// room left than they took.
func TestSendPacedLeavesRoom(t *testing.T) {
	noLeak(t)
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	payload := make([]byte, 512)
	paced, more := 0, 0
	for a.SendPaced(0, KindStats, payload) == nil {
		paced++
	}
	if err := a.SendPaced(time.Millisecond, KindStats, payload); paced == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after %d: %v", paced, err)
	}
	for a.Send(KindStats, payload) == nil {
		more++
	}
	if more <= 2*paced {
		t.Errorf("%d sent, then room for %d", paced, more)
	}
	var m Message
	for range paced + more {
		if err := b.Recv(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SendPaced(0, KindStats, payload); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := a.SendPaced(-1, KindStats, payload); err != io.EOF {
		t.Fatalf("sent to the dead: %v", err)
	}
	a.Close()
	if err := a.SendPaced(-1, KindStats, payload); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestPhaseOnlyForward(t *testing.T) {
	a, _ := channels(t, RoleParent, RoleCM, PhaseRun)
	a.SetPhase(PhaseSetup)
	if a.Phase() != PhaseRun || a.Peer() != RoleCM {
		t.Fatalf("back to %v", a.Phase())
	}
	var pe *PermitError
	if err := a.Send(KindConfig, nil); !errors.As(err, &pe) || pe.Reason != "phase" || a.FD() < 0 {
		t.Fatalf("CONFIG in run: %v", err)
	}
}

// hostile seals whatever it is told to, past every check of a sender.
type hostile struct {
	fd int
	d  direction
}

func (h *hostile) frame(k Kind, payload []byte, nfds int) []byte {
	f := frame{nfds: nfds, kind: k, seq: h.d.seq + 1, payload: payload}
	b := f.append(nil)
	copy(b[frameSigned:headerSize], h.d.tag(b))
	h.d.seq++
	return b
}

func (h *hostile) send(t testing.TB, b []byte, fds ...int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(h.fd, b, oob, nil, unix.MSG_NOSIGNAL); err != nil {
		t.Fatal(err)
	}
}

// versus gives a receiving channel and a hostile peer that has its key.
func versus(t testing.TB, self, peer Role, p Phase) (*Channel, *hostile) {
	t.Helper()
	key := NewKey()
	afd, bfd := socketpair(t)
	c := NewChannel(afd, self, peer, key)
	c.SetPhase(p)
	t.Cleanup(func() { c.Close(); closeFD(bfd) })
	return c, &hostile{bfd, newDirection(key, peer, self)}
}

// refused checks that what h sent closes c with the right error, that nobody
// gets anything, and that not one fd stays.
func refused(t *testing.T, c *Channel, want error) {
	t.Helper()
	var m Message
	err := c.Recv(&m)
	var pe *PermitError
	if want == nil && !errors.As(err, &pe) || want != nil && !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	if m.Kind != KindNone || m.Payload != nil || len(m.FDs) != 0 || c.FD() != -1 {
		t.Fatalf("refused, but got %+v, fd %d", m, c.FD())
	}
	if err := c.Recv(&m); err != ErrClosed {
		t.Fatalf("afterwards %v", err)
	}
}

// Law: over a real socket, for every (kind, from, to, phase), a peer with the
// right key gets through exactly what the golden permits; everything else
// closes the channel, and no fd stays behind.
func TestChannelEveryCell(t *testing.T) {
	noLeak(t)
	cells := goldenCells(t)
	fd := null(t)
	passed := 0
	for k := range numKinds + 1 {
		for from := range numRoles {
			for to := range numRoles {
				for _, p := range []Phase{PhaseBoot, PhaseAdopt, PhaseSetup, PhaseRun, PhaseDrain} {
					l, allowed := cells[cell{k, from, to, p}]
					if oneCell(t, k, from, to, p, l.fds, fd) != allowed {
						t.Fatalf("%v from %v to %v in %v: golden says %v", k, from, to, p, allowed)
					}
					if allowed {
						passed++
					}
				}
			}
		}
	}
	if passed != len(cells) {
		t.Fatalf("%d cells passed, golden has %d", passed, len(cells))
	}
}

func oneCell(t *testing.T, k Kind, from, to Role, p Phase, nfds, fd int) bool {
	key := NewKey()
	afd, bfd := socketpair(t)
	defer closeFD(bfd)
	c := NewChannel(afd, to, from, key)
	defer c.Close()
	c.SetPhase(p)
	h := &hostile{bfd, newDirection(key, from, to)}
	fds := make([]int, nfds)
	for i := range fds {
		fds[i] = fd
	}
	h.send(t, h.frame(k, nil, nfds), fds...)
	var m Message
	err := c.Recv(&m)
	m.CloseFDs()
	if err != nil && c.FD() != -1 {
		t.Fatalf("%v, and still open", err)
	}
	return err == nil
}

func TestChannelRefuses(t *testing.T) {
	fd := null(t)
	many := make([]int, 253)
	for i := range many {
		many[i] = fd
	}
	payload := (&ConnHandoff{}).Append(nil)
	for name, c := range map[string]struct {
		want error
		send func(t *testing.T, h *hostile)
	}{
		"no fd":         {nil, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 0)) }},
		"two fds":       {nil, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 2), fd, fd) }},
		"hidden fd":     {ErrShape, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 1), fd, fd) }},
		"missing fd":    {ErrShape, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 1)) }},
		"253 fds":       {ErrTruncated, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 253), many...) }},
		"253 claimed 1": {ErrTruncated, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, payload, 1), many...) }},
		"over the row":  {ErrTruncated, func(t *testing.T, h *hostile) { h.send(t, h.frame(KindConnHandoff, make([]byte, 129), 1), fd) }},
		"64 KiB + 1": {ErrTruncated, func(t *testing.T, h *hostile) {
			h.send(t, h.frame(KindConnHandoff, make([]byte, MaxPayload+1), 1), fd)
		}},
		"short header": {ErrShape, func(t *testing.T, h *hostile) { h.send(t, make([]byte, headerSize-1), fd) }},
		"one byte":     {ErrShape, func(t *testing.T, h *hostile) { h.send(t, []byte{frameVersion}) }},
		"version": {ErrShape, func(t *testing.T, h *hostile) {
			b := h.frame(KindConnHandoff, payload, 1)
			b[0]++
			h.send(t, b, fd)
		}},
		"length": {ErrShape, func(t *testing.T, h *hostile) {
			b := h.frame(KindConnHandoff, payload, 1)
			b[4]++
			h.send(t, b, fd)
		}},
		"forged": {ErrForged, func(t *testing.T, h *hostile) {
			b := h.frame(KindConnHandoff, payload, 1)
			b[len(b)-1]++
			h.send(t, b, fd)
		}},
		"unsealed": {ErrForged, func(t *testing.T, h *hostile) {
			f := frame{nfds: 1, kind: KindConnHandoff, seq: 1, payload: payload}
			h.send(t, f.append(nil), fd)
		}},
		"gap": {ErrReplayed, func(t *testing.T, h *hostile) {
			h.d.seq = 1
			h.send(t, h.frame(KindConnHandoff, payload, 1), fd)
		}},
		"zero number": {ErrReplayed, func(t *testing.T, h *hostile) {
			h.d.seq--
			h.send(t, h.frame(KindConnHandoff, payload, 1), fd)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			ch, h := versus(t, RoleCM, RoleDispatcher, PhaseRun)
			c.send(t, h)
			refused(t, ch, c.want)
		})
	}
}

func TestChannelReplay(t *testing.T) {
	noLeak(t)
	c, h := versus(t, RoleCM, RoleDispatcher, PhaseRun)
	fd := null(t)
	b := h.frame(KindConnHandoff, nil, 1)
	h.send(t, b, fd)
	h.send(t, b, fd)
	var m Message
	if err := c.Recv(&m); err != nil {
		t.Fatal(err)
	}
	m.CloseFDs()
	refused(t, c, ErrReplayed)
}

// A frame sent back at its sender is forged there, whatever the rules say.
func TestChannelReflection(t *testing.T) {
	noLeak(t)
	key := NewKey()
	afd, bfd := socketpair(t)
	defer closeFD(bfd)
	c := NewChannel(afd, RoleParent, RoleCM, key)
	c.SetPhase(PhaseRun)
	if err := c.Send(KindStatsGet, (&StatsGet{}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := unix.Read(bfd, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(bfd, b[:n]); err != nil {
		t.Fatal(err)
	}
	refused(t, c, ErrForged)
}

// A packet without a byte looks like the end, and its fds do not stay. x/sys
// adds a byte on any socket but a datagram one, which receives the same way.
func TestChannelEmptyPacketWithFDs(t *testing.T) {
	noLeak(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(pair[1])
	c := NewChannel(pair[0], RoleCM, RoleDispatcher, NewKey())
	defer c.Close()
	if err := unix.Sendmsg(pair[1], nil, unix.UnixRights(null(t)), nil, 0); err != nil {
		t.Fatal(err)
	}
	var m Message
	if err := c.Recv(&m); err != io.EOF || len(m.FDs) != 0 {
		t.Fatalf("%+v %v", m, err)
	}
}

// What the kernel adds when asked to, and nobody asked for, is refused, and
// the fds behind it are closed all the same.
func TestChannelStrayControl(t *testing.T) {
	noLeak(t)
	c, h := versus(t, RoleCM, RoleDispatcher, PhaseRun)
	if err := unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	h.send(t, h.frame(KindConnHandoff, nil, 1), null(t))
	refused(t, c, ErrShape)
}

func TestLoggerCountsWhatIsLost(t *testing.T) {
	noLeak(t)
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	l := NewLogger(a)
	l.SetLevel(LevelInfo)
	l.Debug("below the level")
	const lines = 20000
	for i := range int64(lines) {
		l.pace = Pace{} // as if they came slowly
		l.Info("many", Int(KeyN, i))
	}
	var m Message
	next := int64(0)
	for b.Recv(&m) == nil {
		line, err := DecodeLog(m.Payload)
		if err != nil || line.Dropped != 0 || line.Fields[0].Int != next {
			t.Fatalf("line %d: %+v %v", next, line, err)
		}
		next++
	}
	l.pace = Pace{}
	l.Warn("room again")
	if err := b.Recv(&m); err != nil {
		t.Fatal(err)
	}
	line, err := DecodeLog(m.Payload)
	want := LogLine{Level: LevelWarn, Dropped: uint32(lines - next), Event: "room again"}
	if err != nil || !reflect.DeepEqual(line, want) || next == lines || next == 0 {
		t.Fatalf("%+v %v, want %+v", line, err, want)
	}
	l.Error("count starts again")
	if err := b.Recv(&m); err != nil {
		t.Fatal(err)
	}
	if line, err = DecodeLog(m.Payload); err != nil || line.Dropped != 0 {
		t.Fatalf("%+v %v", line, err)
	}
}

// A role that logs in a loop loses lines, not its channel.
func TestLoggerKeepsItsPace(t *testing.T) {
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	l := NewLogger(a)
	start := time.Now()
	for range 3000 {
		l.Info("many")
	}
	got, m := 0, Message{}
	for b.Recv(&m) == nil {
		got++
	}
	most := logPace + int(time.Since(start).Seconds()*logPace) + 1
	if got < logPace || got > most || b.FD() < 0 {
		t.Fatalf("%d lines came of 3000, want %d to %d", got, logPace, most)
	}
}

// Whoever sends more often than the rule allows is refused.
func TestRate(t *testing.T) {
	a, b := channels(t, RoleCM, RoleParent, PhaseRun)
	var m Message
	rate := 0
	for i := range rules {
		if rules[i].kind == KindDrained {
			rate = rules[i].rate
		}
	}
	start, n := time.Now(), 0
	var err error
	for ; err == nil && n < 100*rate; n++ {
		if err = a.Send(KindDrained, nil); err != nil {
			t.Fatal(err)
		}
		err = b.Recv(&m)
	}
	var pe *PermitError
	if !errors.As(err, &pe) || pe.Reason != "rate" || b.FD() >= 0 {
		t.Fatalf("after %d: %v", n, err)
	}
	if most := rate + int(time.Since(start).Seconds()*float64(rate)) + 2; n <= rate || n > most {
		t.Fatalf("refused after %d, the rate is %d", n, rate)
	}
}

func BenchmarkChannel(b *testing.B) {
	x, y := channels(b, RoleDispatcher, RoleCM, PhaseRun)
	fd := null(b)
	payload := (&ConnHandoff{UID: 1}).Append(nil)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(KindConnHandoff, payload, fd); err != nil {
			b.Fatal(err)
		}
		if err := y.Recv(&m); err != nil {
			b.Fatal(err)
		}
		m.CloseFDs()
	}
}
