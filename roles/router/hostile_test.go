package router

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// segment is one of a cm's, mapped as that cm has it.
type segment []byte

func (g *rig) segment(cm int, kind privsep.SegmentKind) segment {
	g.t.Helper()
	return g.segmentOf(privsep.ID{Role: privsep.RoleCM, Index: cm}, kind, cm)
}

func (g *rig) segmentOf(id privsep.ID, kind privsep.SegmentKind, index int) segment {
	g.t.Helper()
	child, parent, err := g.mem.Child(id)
	g.check(err)
	defer parent.Close()
	defer child.Parent.Close()
	b, err := privsep.TakeSegment(child.Setup, kind, index, func(fd, size int, writable bool) ([]byte, error) {
		return syscall.Mmap(fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	})
	g.check(err)
	for _, s := range child.Setup.Segments {
		if s.FD >= 0 {
			syscall.Close(s.FD)
		}
	}
	return b
}

// routerSegment is one of the router's, mapped as it has it.
func (g *rig) routerSegment(kind privsep.SegmentKind, index int) segment {
	g.t.Helper()
	return g.segmentOf(privsep.ID{Role: privsep.RoleRouter}, kind, index)
}

// set writes the word of an index: a tail or a head, or of the redo entries' number.
func (w segment) set(v uint64) { binary.LittleEndian.PutUint64(w[128:], v) }

// wantFault reads the parent's end up to a CM_FAULT.
func (g *rig) wantFault(cm int, generation uint64) {
	g.t.Helper()
	var m privsep.Message
	for m.Kind != privsep.KindCMFault {
		g.check(g.parent.Recv(&m))
	}
	var f privsep.CMFault
	if err := f.Parse(m.Payload); err != nil || f != (privsep.CMFault{CM: cm, Reason: privsep.FaultCorrupt, Generation: generation}) {
		g.t.Fatalf("%+v, %v", f, err)
	}
}

// replace puts a new process in the place of a cm's.
func (g *rig) replace(cm int) {
	g.t.Helper()
	g.r.ended = append(g.r.ended, privsep.CMGone{CM: cm, Generation: 1})
	g.check(g.r.between())
	e, err := g.mem.CMEnds(cm)
	g.check(err)
	if e.Out.Closed() != 1 {
		g.t.Fatalf("closed up to %d", e.Out.Closed())
	}
	e.Out.Restart()
	e.In.Restart()
	g.cms[cm] = e
	g.r.links[cm].process = 2
	g.r.links[cm].out.Begun()
}

// works lets a client of each cm hear the other's.
func (g *rig) works() {
	g.t.Helper()
	a, b := g.open(0, 10, 10, ""), g.open(1, 11, 11, "")
	g.sub(0, a, "works", "", "1")
	g.sub(1, b, "works", "", "1")
	for cm, c := range []store.Conn{a, b} {
		l := g.r.links[cm]
		g.put(cm, &store.RecPub{Conn: c, Seq: l.seq + 1, HeaderLen: -1, Subject: []byte("works")})
		g.route()
		if last, cms := l.named.Get(l.seq); last != l.seq || cms != 0b11 {
			g.t.Fatalf("cm/%d: body %d is named to %b", cm, last, cms)
		}
		for to := range g.cms {
			if got := g.take(to); len(got) != 1 || got[0].(*store.InsDeliver).Arena != uint16(cm) {
				g.t.Fatalf("cm/%d gets %+v", to, got)
			}
		}
	}
	g.put(0, &store.RecClosed{Conn: a})
	g.put(1, &store.RecClosed{Conn: b})
	g.route()
}

// What a cm may not say of a body: it is the last that is heard of that cm, and
// nobody gets anything of it.
func TestHostileBodies(t *testing.T) {
	g := newRig(t, nil)
	for name, change := range map[string]func(*store.RecPub){
		"number 0":         func(p *store.RecPub) { p.Seq = 0 },
		"number again":     func(p *store.RecPub) { p.Seq-- },
		"number left out":  func(p *store.RecPub) { p.Seq++ },
		"last number":      func(p *store.RecPub) { p.Seq = 1<<48 - 1 },
		"after the arena":  func(p *store.RecPub) { p.Off, p.Len = uint32(g.r.cfg.Arena), 1 },
		"end of numbers":   func(p *store.RecPub) { p.Off, p.Len = 1<<32-1, 1<<32-1 },
		"too long":         func(p *store.RecPub) { p.Len = uint32(g.r.cfg.MaxPayload) + 1 },
		"subject, space":   func(p *store.RecPub) { p.Subject = []byte("a 1 0") },
		"subject, line":    func(p *store.RecPub) { p.Subject = []byte("a\r\n+OK") },
		"reply, tab":       func(p *store.RecPub) { p.Reply = []byte("a\tb") },
		"reply, line feed": func(p *store.RecPub) { p.Reply = []byte("\n") },
	} {
		t.Run(name, func(t *testing.T) {
			g.start(t)
			from, to := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
			g.sub(1, to, ">", "", "1")
			good := store.RecPub{Conn: from, Seq: g.r.links[0].seq + 1, Len: 1, HeaderLen: -1, Subject: []byte("a")}
			g.put(0, &good)
			bad := good
			bad.Seq++
			change(&bad)
			g.put(0, &bad)
			g.put(0, &store.RecPing{Conn: from})
			g.route()
			if got := g.take(1); len(got) != 1 {
				t.Fatalf("the other cm gets %d instructions", len(got))
			}
			if got := g.take(0); len(got) != 0 {
				t.Fatalf("the cm is still answered: %+v", got)
			}
			g.wantFault(0, 1)
			g.replace(0)
			g.put(1, &store.RecClosed{Conn: to})
			g.route()
			g.works()
		})
	}
}

// A head that makes no sense shows only when the ring is full: the router goes
// on at once, without that cm.
func TestHostileHead(t *testing.T) {
	for _, lie := range []uint64{1, 8, 1 << 40, ^uint64(7)} {
		t.Run(fmt.Sprint(lie), func(t *testing.T) {
			g := newRig(t, func(s *privsep.Settings) { s.Ring = 128 << 10 })
			g.start(t)
			to, from := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
			g.sub(0, to, "a", "", "1")
			g.r.links[0].out.Lag() // has seen the head further than 8
			g.segment(0, privsep.SegRingDownHead).set(lie)
			for seq := range uint64(4000) {
				g.put(1, &store.RecPub{Conn: from, Seq: seq + 1, HeaderLen: -1, Subject: []byte("a")})
				g.route()
			}
			g.put(1, &store.RecPing{Conn: from})
			g.route()
			if got := g.take(1); len(got) != 1 || string(got[0].(*store.InsSend).Data) != wire.Pong {
				t.Fatalf("the other cm gets %+v", got)
			}
			g.wantFault(0, 1)
			g.replace(0)
			if last, cms := g.r.links[1].named.Get(4000); last != 4000 || cms != 0 {
				t.Fatalf("body %d is still named to %b", last, cms)
			}
			g.works()
		})
	}
}

// A cm that ends while the router waits for room in its ring is not waited for.
func TestGoneWhileWaitedFor(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Ring = 128 << 10 })
	g.start(t)
	to, from := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
	g.sub(0, to, "a", "", "1")
	gone := privsep.CMGone{CM: 0, Generation: 1}
	g.check(g.parent.Send(privsep.KindCMGone, gone.Append(nil)))
	for seq := range uint64(4000) {
		g.put(1, &store.RecPub{Conn: from, Seq: seq + 1, HeaderLen: -1, Subject: []byte("a")})
		g.route()
	}
	g.replace(0)
	g.works()
}

// A new router starts whatever a cm has in its words, and finds out.
func TestStartOverNonsense(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	for _, w := range []segment{g.segment(0, privsep.SegRingUpData), g.segment(0, privsep.SegRingDownHead)} {
		for i := range 256 {
			w[i] = 0xa5
		}
	}
	g.restart()
	bell, far, err := privsep.Doorbell()
	g.check(err)
	defer privsep.CloseFD(bell)
	end := privsep.DoorbellEnd{CM: 0, Generation: 1}
	g.check(g.r.newBell(&privsep.Message{Payload: end.Append(nil), FDs: []int{far}}))
	g.wantFault(0, 1)
	g.replace(0)
	g.works()
}

// restart puts a new process in the place of the router's.
func (g *rig) restart() {
	g.t.Helper()
	g.first()
	for _, l := range g.r.links {
		l.process = 1
	}
	g.r.links[0].process = 0
}
