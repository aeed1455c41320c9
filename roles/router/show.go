package router

import (
	"io"

	"gatehouse/privsep"
)

// This file tells the console who has subscribed to what, a page at a time, between two
// batches. Nothing of it holds a batch up for longer than a page takes.

// guide is the way to the console.
type guide struct {
	console *privsep.Channel // nil while it is away
	due     bool             // there is something to be read
	msg     privsep.Message
}

// tokenConsole is far above what tokenLink reaches.
const tokenConsole = tokenAuth + 1

// newPeer takes the channel to auth or to the console.
func (r *router) newPeer(m *privsep.Message) error {
	var p privsep.Peer
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	switch p.ID.Role {
	case privsep.RoleAuth:
		return r.newAuth(&p, m.FDs[0])
	case privsep.RoleConsole:
		return r.newConsole(&p, m.FDs[0])
	}
	return privsep.ErrShape
}

func (r *router) newConsole(p *privsep.Peer, fd int) error {
	r.dropConsole()
	g := &r.guide
	g.console = privsep.NewChannel(fd, privsep.RoleRouter, privsep.RoleConsole, p.Key)
	g.console.SetPhase(privsep.PhaseRun)
	g.due = true
	return r.poll.Add(fd, tokenConsole, privsep.In|privsep.Edge)
}

func (r *router) dropConsole() {
	if g := &r.guide; g.console != nil {
		r.poll.Del(g.console.FD())
		g.console.Close()
		g.console = nil
	}
}

// guideOn answers one question, and comes again if there are more. A console that
// breaks the rules is not heard any more.
func (r *router) guideOn() {
	g := &r.guide
	g.due = false
	if g.console == nil {
		return
	}
	err := g.console.Recv(&g.msg)
	if err == privsep.ErrAgain {
		return
	}
	if err == nil {
		g.due = true
		err = r.showSubscriptions(&g.msg)
	}
	if err != nil {
		if err != io.EOF {
			r.log.Error("channel closed", privsep.Str(privsep.KeyPeer, privsep.RoleConsole.String()), privsep.Err(err))
		}
		r.dropConsole()
		g.due = false
	}
}

// slotsAPage is how many slots are looked at for one page at most.
const slotsAPage = 4096

// showSubscriptions answers with as many as have room, of whole slots; of one that has
// more than that, with as many of it.
func (r *router) showSubscriptions(m *privsep.Message) error {
	var get privsep.SubsGet
	if err := get.Parse(m.Payload); err != nil {
		return err
	}
	page, room := privsep.Subs{ID: get.ID}, privsep.MaxSubsBytes
	slot, end := uint64(get.From), min(uint64(get.From)+slotsAPage, uint64(r.cfg.MaxConnections))
	for ; slot < end; slot++ {
		had, left := len(page.List), room
		all := true
		for _, l := range r.links {
			if s := l.session1(uint32(slot)); s != nil && all {
				all = addSubs(&page, s, &room)
			}
		}
		if all {
			continue
		}
		if had > 0 { // the next page has more room for them
			page.List, room = page.List[:had], left
			break
		}
		slot, page.Cut = slot+1, true
		break
	}
	if slot < uint64(r.cfg.MaxConnections) {
		page.Next = uint32(slot)
	}
	err := r.guide.console.Send(privsep.KindSubs, page.Append(nil))
	if err == privsep.ErrAgain { // it asks again
		return nil
	}
	return err
}

// addSubs adds those of a session, as many as have room, and tells whether all have.
func addSubs(page *privsep.Subs, s *session, room *int) bool {
	for _, t := range s.subs {
		sub := privsep.Sub{UID: s.uid, Subject: t.subject, Queue: t.queue, SID: string(t.sid), Max: t.max, Delivered: t.delivered}
		if *room -= sub.Size(); *room < 0 || len(page.List) == privsep.MaxSubs {
			return false
		}
		page.List = append(page.List, sub)
	}
	return true
}
