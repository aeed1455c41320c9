package router

import (
	"fmt"

	"gatehouse/store"
)

// A message whose instructions would take more than half of a ring is planned: they
// go into the idle half of the journal, are committed there together with the
// record, and go on into the rings as these have room, over many commits.
//
// An entry of a plan is the index of the cm, u32, and an instruction.
const planHead = 4

// besides is what each instruction about a message takes in a ring at most beside
// its recipients.
func besides(p *store.RecPub, stamp []byte) int {
	return store.DeliverSize(len(p.Subject), len(p.Reply), len(stamp), store.Framed(8))
}

// span returns how much of the ring to l the instructions about a message take at
// most whose recipients there take n bytes. Of any two pieces that follow each other
// the recipients are longer than pieceLimit.
func (r *router) span(from, l *link, each, n int) int {
	n += (2*n/pieceLimit + 2) * each // two lists
	if l == from {
		n += r.size.answers
	}
	return n
}

// spread makes room for the instructions about the message at hand on all links
// concerned, and returns their cms as bits. fit is false if that is too much for one
// of them: a plan is due.
func (r *router) spread(from *link, s *session, p *store.RecPub) (cms uint64, fit bool) {
	each, now := besides(p, s.from()), true
	fit = true
	for i, l := range r.links {
		if n := len(l.to) + len(l.stamped); n > 0 {
			cms |= 1 << i
			n = r.span(from, l, each, n)
			fit = fit && n <= r.size.half
			now = now && l.out.Fits(n, r.size.most)
		}
	}
	if now || !fit {
		return cms, fit
	}
	for _, l := range r.links {
		n := len(l.to) + len(l.stamped)
		if n == 0 {
			continue
		}
		if n = r.span(from, l, each, n); !l.out.Fits(n, r.size.most) {
			r.await(l, n)
		}
	}
	return cms, fit
}

// plan is instruct for a plan.
func (r *router) plan(l *link, ins *store.InsDeliver, to []byte, more bool) {
	for len(to) > 0 {
		to = cutPiece(ins, to, more)
		n := planHead + ins.Size()
		if cap(r.planned) < n {
			r.planned = make([]byte, n)
		}
		b := r.planned[:n]
		le.PutUint32(b, uint32(l.index))
		ins.Put(b[planHead:])
		if !r.state.Journal.Plan(b) {
			r.exit(errFull)
		}
		r.due = true
	}
}

// carryOut commits a plan, with the record that led to it, and puts it into the
// rings.
func (r *router) carryOut() {
	j := &r.state.Journal
	r.commit()
	for r.done < j.Planned() {
		b, next, err := j.NextPlanned(r.done)
		if err != nil {
			r.exit(err)
		}
		l, ins := r.links[le.Uint32(b)], b[planHead:]
		l.out.Commit(copy(r.room(l, len(ins)), ins))
		r.done = next
	}
	j.DropPlan()
	r.done = 0
	r.commit()
	r.discard()
}

// checkPlan looks through what a router before this one had planned.
func (r *router) checkPlan() error {
	j, begins := &r.state.Journal, false
	for at := uint64(0); at < j.Planned(); {
		b, next, err := j.NextPlanned(at)
		if err == nil && (len(b) <= planHead || len(b) > r.size.most || le.Uint32(b) >= uint32(len(r.links))) {
			err = errEntry
		}
		if err != nil {
			return fmt.Errorf("plan at %d of %d: %w", at, j.Planned(), err)
		}
		begins = begins || at == r.done
		at = next
	}
	if !begins && r.done != j.Planned() {
		return fmt.Errorf("plan carried out up to %d, where no entry begins: %w", r.done, errEntry)
	}
	return nil
}
