package router

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// hold is a rig in which a body of cm/1 is named to cm/0.
type hold struct {
	*rig
	words segment // of cm/0
	from  store.Conn
	seq   uint64
	now   time.Time
}

func newHold(t *testing.T) *hold {
	h := &hold{rig: newRig(t, nil)}
	h.start(t)
	h.words = h.segment(0, privsep.SegReturns)
	to := h.open(0, 1, 1, "")
	h.sub(0, to, "a", "", "1")
	h.from = h.open(1, 2, 2, "")
	h.publish("a")
	return h
}

func (h *hold) publish(subject string) {
	h.seq++
	h.put(1, &store.RecPub{Conn: h.from, Seq: h.seq, HeaderLen: -1, Subject: []byte(subject)})
	h.route()
}

// report writes a number into cm/0's word for a body of cm/1.
func (h *hold) report(seq, number uint64) {
	slots := uint64(store.Slots(h.r.cfg.Arena))
	binary.LittleEndian.PutUint64(h.words[64+8*(slots+seq%slots):], number)
}

// stuck has cm/1 say that it waits for a body.
func (h *hold) stuck(seq uint64) {
	h.put(1, &store.RecStuck{Seq: seq})
	h.route()
	if h.now = h.r.links[1].note.looked; h.now.IsZero() {
		h.now = time.Now()
	}
}

// pass lets time pass as a router sees it that is awake, and counts the faults.
func (h *hold) pass(d time.Duration) int {
	every := h.r.lookEvery()
	for ; d >= every; d -= every {
		h.now = h.now.Add(every)
		h.r.look(h.now)
	}
	return h.faults()
}

// faults reads what the parent is told: cm/0 stalls, and nothing else.
func (h *hold) faults() (n int) {
	h.t.Helper()
	var m privsep.Message
	for {
		err := h.parent.Recv(&m)
		if err == privsep.ErrAgain {
			return n
		}
		h.check(err)
		if m.Kind != privsep.KindCMFault {
			continue
		}
		var f privsep.CMFault
		h.check(f.Parse(m.Payload))
		if f != (privsep.CMFault{CM: 0, Reason: privsep.FaultStalled, Generation: 1}) {
			h.t.Fatalf("%+v", f)
		}
		n++
	}
}

func (h *hold) want(t *testing.T, notes, faults int) {
	t.Helper()
	if h.r.notes != notes {
		t.Errorf("%d notes, want %d", h.r.notes, notes)
	}
	if got := h.pass(10 * h.r.cfg.StallTimeout); got != faults {
		t.Errorf("%d faults in ten times stall_timeout, want %d", got, faults)
	}
}

// A cm that reads its instruction and does not report is ended in time, whatever
// else its word carries, and again if it is still there.
func TestHeldUp(t *testing.T) {
	for name, word := range map[string]func(h *hold) uint64{
		"nothing":      func(h *hold) uint64 { return 0 },
		"one before":   func(h *hold) uint64 { return h.seq - 1 },
		"one to come":  func(h *hold) uint64 { return h.seq + uint64(store.Slots(h.r.cfg.Arena)) },
		"end of words": func(*hold) uint64 { return ^uint64(0) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHold(t)
			limit := h.r.cfg.StallTimeout
			h.report(h.seq, word(h))
			h.take(0)
			h.stuck(h.seq)
			if got := h.take(0); len(got) != 1 || got[0].(*store.InsDeliver).Seq != h.seq || len(got[0].(*store.InsDeliver).Recipients) > 0 {
				t.Fatalf("cm/0 is reminded by %+v", got)
			}
			if h.pass(limit) != 0 {
				t.Error("ended early")
			}
			if n := h.pass(h.r.lookEvery()); n != 1 {
				t.Errorf("%d faults", n)
			}
			if n := h.pass(3 * limit); n < 2 || n > 3 {
				t.Errorf("%d faults in three times stall_timeout", n)
			}
			h.replace(0)
			h.want(t, 1, 0)
			if last, cms := h.r.links[1].named.Get(h.seq); h.r.notes != 0 || last != h.seq || cms != 0 {
				t.Errorf("%d notes, body %d is named to %b", h.r.notes, last, cms)
			}
		})
	}
}

// Whoever reports is not ended, however late.
func TestHeldUpAndReported(t *testing.T) {
	h := newHold(t)
	h.stuck(h.seq)
	h.take(0)
	if h.pass(h.r.cfg.StallTimeout) != 0 {
		t.Error("ended early")
	}
	h.report(h.seq, h.seq)
	h.want(t, 1, 0)
	h.stuck(h.seq)
	h.want(t, 0, 0)
	if got := h.take(0); len(got) != 0 {
		t.Errorf("reminded of what it has reported: %+v", got)
	}
}

// Whoever reads is not ended before it has read so far, however slowly.
func TestHeldUpBySlowness(t *testing.T) {
	h := newHold(t)
	for range 100 {
		h.publish("a")
	}
	h.stuck(h.seq)
	for range 90 {
		if b, err := h.cms[0].In.Next(); b == nil || err != nil {
			t.Fatal(b, err)
		}
		h.cms[0].In.Release()
		if n := h.pass(h.r.cfg.StallTimeout); n != 0 {
			t.Fatalf("%d faults", n)
		}
	}
	if n := h.pass(h.r.cfg.StallTimeout); n != 1 {
		t.Errorf("%d faults when it reads no more", n)
	}
}

// A router that itself was stopped blames nobody for that time.
func TestHeldUpByRouter(t *testing.T) {
	h := newHold(t)
	h.stuck(h.seq)
	h.now = h.now.Add(time.Hour)
	h.r.look(h.now)
	if n := h.faults(); n != 0 {
		t.Errorf("%d faults", n)
	}
	if n := h.pass(h.r.cfg.StallTimeout); n != 1 {
		t.Errorf("%d faults afterwards", n)
	}
}

// What a hostile owner can say leads to no note, but for a body of its own that
// somebody else is named for; and to one of those at a time.
func TestHeldUpByOwner(t *testing.T) {
	h := newHold(t)
	slots := uint64(store.Slots(h.r.cfg.Arena))
	h.publish("nobody")
	for _, seq := range []uint64{0, h.seq, h.seq + 1, h.seq + slots, h.seq - 1 + slots, 1<<48 - 1} {
		h.take(0)
		h.stuck(seq)
		h.want(t, 0, 0)
		if got := h.take(0); len(got) != 0 {
			t.Fatalf("body %d: cm/0 is told %+v", seq, got)
		}
	}
	h.put(0, &store.RecStuck{Seq: 1}) // of its own arena, in which there is none
	h.route()
	h.want(t, 0, 0)

	for h.seq < slots+1 { // over the first one, which was never finished
		h.publish("a")
		h.take(0)
	}
	h.stuck(1)
	h.want(t, 0, 0)
	for range 1000 {
		for seq := slots - 10; seq <= slots+1; seq++ {
			h.put(1, &store.RecStuck{Seq: seq})
		}
		h.route()
	}
	if got := h.take(0); len(got) != 1 || h.r.notes != 1 {
		t.Errorf("%d notes, %d reminders", h.r.notes, len(got))
	}
	if n := len(h.r.links[1].note.debts); n != 1 {
		t.Errorf("%d debts", n)
	}
	// The place of the body goes to another one, which is another matter.
	for range slots {
		h.publish("a")
		h.take(0)
	}
	h.want(t, 1, 0)
	if h.r.notes != 0 {
		t.Error("a note about a body that is no more")
	}
}

// A router that died after it had named a cm and before it told it so: nobody is
// to blame, and the next one tells it.
func TestHeldUpByDeadRouter(t *testing.T) {
	h := newHold(t)
	h.take(0)
	h.r.links[1].named.Set(h.seq+1, 0b01)
	h.r.links[1].named.Commit(h.seq + 1)
	h.restart()
	h.r.links[0].process = 1
	h.stuck(h.seq + 1)
	got := h.take(0)
	if i := slices.IndexFunc(got, func(r store.Record) bool { return r.(*store.InsDeliver).Seq == h.seq+1 }); i < 0 {
		t.Fatalf("cm/0 is told %+v", got)
	}
	h.report(h.seq+1, h.seq+1)
	h.want(t, 1, 0)
}

// Nobody is blamed for where a cm stopped reading that has ended, neither it nor the next
// one, which begins behind that.
func TestHeldUpByOneThatEnded(t *testing.T) {
	h := newHold(t)
	for range 100 {
		h.publish("a")
	}
	h.stuck(h.seq)
	h.r.ended = append(h.r.ended, privsep.CMGone{CM: 0, Generation: 1})
	h.check(h.r.between())
	h.want(t, 1, 0)
	h.check(h.r.links[0].out.Err())
	h.replace(0)
	h.check(h.r.links[0].out.Err())
	h.works()
}

// A cm that ends, and one that is not there, is not accused.
func TestHeldUpByNobody(t *testing.T) {
	h := newHold(t)
	h.r.links[0].process = 0
	h.stuck(h.seq)
	h.want(t, 1, 0)
	h.r.links[0].process = 1
	h.replace(0)
	h.want(t, 1, 0)
	h.stuck(h.seq)
	h.want(t, 0, 0)
	h.works()
}
