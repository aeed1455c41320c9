package router

import (
	"fmt"

	"gatehouse/privsep"
	"gatehouse/store"
)

// takeOver goes on where the router before this one has stopped, at whatever
// point. It is the first thing that writes into shared memory: until now that
// router may have lived.
//
// What is found there is that router's word, which may have been taken over: if it
// makes no sense, this one begins without sessions, and the cms end theirs.
func (r *router) takeOver() {
	e, found, err := r.state.Redo.Last()
	switch {
	case err == nil && found:
		err = r.restore(&e)
	case err == nil:
		err = r.untouched()
	}
	if err != nil {
		r.log.Error("state not readable", privsep.Err(err))
		r.forget()
	}
	r.compactAt()
	r.showAll()
	r.requests.known = nil
	if found && err == nil {
		r.carryOut()
		r.log.Info("took over", privsep.Int(privsep.KeyN, int64(r.index.count)))
	}
	if found && err == nil {
		r.resume()
	}
	if found || err != nil {
		for _, l := range r.links {
			ins := store.InsNewRouter{Forget: err != nil}
			l.out.Commit(ins.Put(r.room(l, ins.Size())))
		}
	}
	r.commit()
	r.discard()
}

// restore takes the words of a redo entry over and repeats the journal.
func (r *router) restore(e *store.Entry) error {
	j := &r.state.Journal
	if err := j.Recover(e.Turn, e.Tail, e.Plan); err != nil {
		return err
	}
	for i, l := range r.links {
		m := e.Links[i]
		if l.final = l.named.Last(); l.final > m.Seq {
			return fmt.Errorf("cm/%d: bodies named up to %d, routed up to %d: %w", i, l.final, m.Seq, store.ErrCorrupt)
		}
		if err := l.out.Recover(m.Tail); err != nil {
			return fmt.Errorf("cm/%d: %w", i, err)
		}
		if err := l.in.Recover(m.Head); err != nil {
			return fmt.Errorf("cm/%d: %w", i, err)
		}
		l.seq = m.Seq
	}
	r.requests.known = make(map[uint64]*request)
	if err := j.Replay(r.replay); err != nil {
		return err
	}
	if r.stateSize() > r.size.state || r.live.subs > r.size.subs {
		return fmt.Errorf("%d bytes of state, %d of subscriptions: %w", r.stateSize(), r.live.subs, store.ErrCorrupt)
	}
	if r.done = e.Done; r.done > e.Plan {
		return fmt.Errorf("%d of a plan of %d bytes carried out: %w", e.Done, e.Plan, store.ErrCorrupt)
	}
	if err := r.checkPlan(); err != nil {
		return err
	}
	r.messages, r.delivered = e.Messages, e.Delivered
	r.redo = *e
	return nil
}

// resume has what goes on by time and by profiles go on: affinities count as used just
// now. The profiles may be others than those of the router before, which may have ended
// while it told the cms of them: between, before the first record, holds all against them,
// and tells what that one has not come to tell.
func (r *router) resume() {
	now := r.clock()
	for a := r.affinities.first; a != nil; a = a.next {
		a.used = now
	}
	r.judging, r.untold = true, r.limitsKept || r.limits()
}

// untouched wants the rings as they are before a router's first commit.
func (r *router) untouched() error {
	for i, l := range r.links {
		if out, in, last := l.out.Published(), l.in.Released(), l.named.Last(); out|in|last != 0 {
			return fmt.Errorf("cm/%d: no redo entry, but tail %d, head %d, body %d: %w", i, out, in, last, store.ErrCorrupt)
		}
	}
	return nil
}

// forget begins without any state, where the rings are. What was committed and not
// published is lost, what was routed and not released comes again, for sessions
// that are not there; bodies go on with whatever number comes.
func (r *router) forget() {
	for _, l := range r.links {
		r.removeAll(l, ^uint64(0))
		l.generation, l.supply = 0, supply{}
		// Aligned, the own words always make sense by themselves.
		_ = l.out.Recover(l.out.Published() &^ 7)
		_ = l.in.Recover(l.in.Released() &^ 7)
		l.final = l.named.Last()
		l.seq, l.lost = l.final, true
	}
	r.later = r.later[:0]
	r.requests, r.affinities, r.limitsKept = newRequests(), affinities{}, false
	r.done, r.messages, r.delivered = 0, 0, 0
	_ = r.state.Journal.Recover(0, 0, 0)
	r.state.Journal.Begin()
	r.snapshot()
	r.redo = store.Entry{Links: make([]store.Mark, len(r.links))}
}
