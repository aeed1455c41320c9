package tlsd

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// The law: of several, exactly one serves what is somebody's; names are spread over all
// of them; and an id is one of who has given it.
func TestWhose(t *testing.T) {
	for of := 1; of <= 4; of++ {
		all := make([]*shards, of)
		for i := range all {
			all[i] = newShards(i, of)
		}
		count := make([]int, of)
		for i := range 1000 {
			name := fmt.Sprintf("session-%d", i)
			for _, r := range []protocol.Request{
				{Verb: protocol.Connect, Session: name, Shared: true},
				{Verb: protocol.Attach, Target: name}, {Verb: protocol.Close, Target: name},
			} {
				for _, s := range all {
					if s.serves(&r) != all[0].whose(name) {
						t.Fatalf("%d of %d: %+v is %d's, and %d's", s.self, of, r, s.serves(&r), all[0].whose(name))
					}
				}
			}
			count[all[0].whose(name)]++
		}
		for i, n := range count {
			if n < 1000/of/2 {
				t.Errorf("%d of %d has %d of 1000 names", i, of, n)
			}
		}
		for _, s := range all {
			if id := s.newID(); s.whose(id) != s.self || len(id) != 32 {
				t.Errorf("%d of %d: %s is %d's", s.self, of, id, s.whose(id))
			}
			unshared := protocol.Request{Verb: protocol.Connect, Session: "a"}
			if s.serves(&unshared) != s.self {
				t.Errorf("%d of %d: an unshared session is %d's", s.self, of, s.serves(&unshared))
			}
		}
	}
}

// newSharedRig is the first of two, whose callers have so long for a head; it gives what the
// second one has of the way, and a name that is its own.
func newSharedRig(t *testing.T, patience time.Duration) (r *rig, way int, name string) {
	t.Helper()
	s := newShards(0, 2)
	mine, way, err := privsep.Socketpair()
	must(t, err)
	s.set(1, mine)
	t.Cleanup(func() {
		privsep.CloseFD(mine)
		privsep.CloseFD(way)
	})
	r = newRigOf(t, func(h *hub) { h.shards, h.headTime = s, patience })
	for i := 0; ; i++ {
		if name = fmt.Sprintf("s%d", i); s.whose(name) == 1 {
			return r, way, name
		}
	}
}

// Half a head is nobody's: one who goes after it is forgotten at once, and one who takes
// too long is told so, whatever comes then.
func TestHalfHead(t *testing.T) {
	r, _, name := newSharedRig(t, headTime)
	head := "ATTACH " + name + " GATEHOUSE-TLS/1\n\n"
	c := r.raw(head[:9])
	r.await("a caller", func() bool { return !r.hub.deserted() })
	begin := time.Now()
	c.Close()
	r.await("caller gone", r.hub.deserted)
	if d := time.Since(begin); d >= headTime/2 {
		t.Errorf("who has gone is there for %v", d)
	}

	r, way, _ := newSharedRig(t, headTime/20)
	c = r.raw(head[:9])
	<-time.After(headTime / 10) // is what is too long
	io.WriteString(c, head[9:])
	if a := r.answer(c); a.Code != protocol.Late {
		t.Errorf("a late head: %+v", a)
	}
	// It has to be there before it is read, and single bytes fill a socket.
	c = r.raw("")
	long := head[:len(head)-1] + "Chain: yes\nTimeout: " + strings.Repeat("0", 400) + "9s\n\n"
	for i := range long {
		if _, err := io.WriteString(c, long[i:i+1]); err != nil {
			break
		}
	}
	if a := r.answer(c); a.Code != protocol.Late {
		t.Errorf("a head in single bytes: %+v", a)
	}
	if _, _, err := privsep.TakeOver(way, r.socket); err != privsep.ErrAgain {
		t.Errorf("passed on: %v", err)
	}
	r, way, _ = newSharedRig(t, headTime)
	r.raw(head)
	r.await("passed on", func() bool {
		fd, _, err := privsep.TakeOver(way, r.socket)
		if err == nil {
			privsep.CloseFD(fd)
		}
		return err == nil
	})
}

// control counts how often a descriptor was wanted.
type control struct {
	syscall.RawConn
	fd, n int
}

func (c *control) Control(f func(fd uintptr)) error {
	c.n++
	f(uintptr(c.fd))
	return nil
}

// One whom nobody takes is tried for the whole time, and seldom after a while: of those
// there may be as many as of callers.
func TestPassedInVain(t *testing.T) {
	r, way, _ := newSharedRig(t, headTime)
	s, c := r.hub.shards, &control{fd: way}
	for privsep.PassOn(s.to[1], way, passHead) == 0 { // until it is full
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if s.pass(&caller{raw: c}, 1, passHead) {
			t.Error("passed on")
		}
		if d := time.Since(begin); d < passTime || d > passTime+passSeldom {
			t.Errorf("gave up after %v", d)
		}
	})
	if c.n < 10 || c.n > 100 {
		t.Errorf("tried %d times", c.n)
	}
}

// One that stops takes nobody any more, whatever the poller had said before: the one that
// comes after it has the same ways.
func TestStopLeavesPassed(t *testing.T) {
	r, way, _ := newSharedRig(t, headTime)
	poll, err := privsep.NewPoller()
	must(t, err)
	defer poll.Close()
	listener, err := privsep.ListenUnix(r.socket+"2", 0o600)
	must(t, err)
	d := &tlsd{poll: poll, hub: r.hub, listener: listener}
	must(t, d.watch(way))
	if errno := privsep.PassOn(r.hub.shards.to[1], way, passHead); errno != 0 {
		t.Fatal(errno)
	}
	ready, err := poll.Wait(0)
	if err != nil || len(ready) != 1 {
		t.Fatal(ready, err)
	}
	e := ready[0]
	must(t, d.stop(&privsep.Message{Payload: new(privsep.Shutdown).Append(nil)}))
	must(t, d.event(e))
	if _, _, err := privsep.TakeOver(way, r.socket); err != nil {
		t.Errorf("on the way: %v", err)
	}
}
