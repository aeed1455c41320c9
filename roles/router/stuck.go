package router

import (
	"math/bits"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// note is about a body that the owner of an arena waits for. Nothing in it is
// that cm's word but which of its bodies to look at.
type note struct {
	seq    uint64    // 0: there is no note
	looked time.Time // last
	debts  []debt    // of those who have not finished with it
}

// debt is that of one cm. A sound one reports a body before it lets go of the
// instruction (cm: deliver, then release), so whoever has let go and not
// reported will not: it was taken over.
type debt struct {
	cm     *link
	until  uint64        // end of the instruction in the ring to cm
	head   uint64        // up to which it had read when waited was 0
	waited time.Duration // as this role has seen the time pass, asleep or stopped it sees none
}

// lookMax bounds how seldom a note is looked at.
const lookMax = 500 * time.Millisecond

func (r *router) lookEvery() time.Duration {
	return min(max(r.cfg.StallTimeout/8, time.Millisecond), lookMax)
}

// pause is how long the router sleeps if nobody rings: for ever without a note and
// without anything that ends by time.
func (r *router) pause() time.Duration {
	d := r.expiry()
	if r.notes > 0 && (d < 0 || r.lookEvery() < d) {
		return r.lookEvery()
	}
	return d
}

// stuck takes note of a body that a cm says its arena waits for. There is one
// note for each arena: what a cm says while that one lasts has no effect.
func (r *router) stuck(l *link, rec []byte) error {
	var s store.RecStuck
	if err := s.Parse(rec); err != nil {
		return err
	}
	n := &l.note
	if n.seq != 0 && r.settle(l) > 0 {
		return nil
	}
	last, cms := l.named.Get(s.Seq)
	if last != s.Seq || s.Seq == 0 {
		return nil
	}
	n.seq, n.looked = s.Seq, time.Now()
	r.notes++
	for ; cms != 0; cms &= cms - 1 {
		i := bits.TrailingZeros64(cms)
		if i < len(r.links) && !r.links[i].returns.Has(l.index, s.Seq) {
			n.debts = append(n.debts, r.remind(r.links[i], l, s.Seq))
		}
	}
	r.settle(l)
	return nil
}

// remind tells a cm once more to finish with a body, which is harmless: a router
// before this one may have named it and then died before it said so.
func (r *router) remind(to, of *link, seq uint64) debt {
	ins := store.InsDeliver{Handle: store.Handle{Arena: uint16(of.index), Seq: seq}, HeaderLen: -1}
	to.out.Commit(ins.Put(r.room(to, ins.Size())))
	head, _ := to.out.Lag()
	return debt{cm: to, until: to.out.Position(), head: head}
}

// settle takes out who has finished or ended since, returns how many are left,
// and ends the note with the last of them.
func (r *router) settle(l *link) int {
	n := &l.note
	last, cms := l.named.Get(n.seq)
	left := n.debts[:0]
	for _, d := range n.debts {
		if last == n.seq && cms>>d.cm.index&1 == 1 && !d.cm.returns.Has(l.index, n.seq) {
			left = append(left, d)
		}
	}
	clear(n.debts[len(left):])
	n.debts = left
	if len(left) == 0 {
		n.seq = 0
		r.notes--
	}
	return len(left)
}

// look looks at the notes whose time it is.
func (r *router) look(now time.Time) {
	every := r.lookEvery()
	for _, l := range r.links {
		step := now.Sub(l.note.looked)
		if l.note.seq == 0 || step < every {
			continue
		}
		l.note.looked = now
		for i := range l.note.debts {
			l.note.debts[i].read(min(step, 2*every))
		}
		// The words after the heads: in the other order a sound cm could write both
		// in between.
		if r.settle(l) == 0 {
			continue
		}
		for i := range l.note.debts {
			r.judge(l, &l.note.debts[i], now)
		}
	}
}

// read counts the time for one that reads nothing, or has read it all.
func (d *debt) read(step time.Duration) {
	head, _ := d.cm.out.Lag()
	if head < d.until && head != d.head {
		d.waited = 0 // slow, but at it
	} else {
		d.waited += step
	}
	d.head = head
}

// judge has a cm ended whose time is up; one look more is for one that was
// stopped for almost as long.
func (r *router) judge(of *link, d *debt, now time.Time) {
	l := d.cm
	if err := l.out.Err(); err != nil {
		r.refuse(l, "ring refused", err)
	}
	if d.waited < r.cfg.StallTimeout+r.lookEvery() || !l.heard() || now.Sub(l.accused) < r.cfg.StallTimeout {
		return
	}
	l.accused, d.waited = now, 0
	event := "body not reported as finished"
	if d.head < d.until {
		event = "ring not drained"
	}
	r.log.Error(event, privsep.Str(privsep.KeyPeer, peerName(l)), privsep.Str(privsep.KeyFrom, peerName(of)))
	r.fault(l, privsep.FaultStalled)
}
