package router

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// lost: the parent is gone. The router goes on; that a cm has ended it sees by
// its doorbell now.
func (r *router) lost() error {
	if err := r.parent.Orphan(r.poll, tokenParent); err != nil {
		return err
	}
	r.until = time.Now().Add(r.cfg.OrphanGrace)
	for _, l := range r.links {
		r.hungUp(l)
	}
	return nil
}

// hungUp takes note of a cm whose end of the doorbell is closed: nobody but its
// process has that.
func (r *router) hungUp(l *link) {
	if l.process != 0 && l.bell >= 0 && privsep.Deserted(l.bell) {
		r.ended = append(r.ended, privsep.CMGone{CM: l.index, Generation: l.process})
	}
}

// heardNew looks who is at the door.
func (r *router) heardNew() {
	facts := privsep.Adopted{Layout: store.LayoutVersion, Sandbox: r.walls, Leaving: r.told,
		Peers: make([]uint64, len(r.links))}
	for i, l := range r.links {
		if l.bell >= 0 {
			facts.Peers[i] = l.process
		}
	}
	if !r.parent.Adopted(r.poll, tokenParent, facts) {
		return
	}
	r.until = time.Time{}
	for _, l := range r.links {
		if l.broken {
			r.fault(l, privsep.FaultCorrupt) // who was told may not have heard it
		}
	}
}

// patience bounds a wait of the router's: an orphan has something to do by time.
func (r *router) patience(d time.Duration) time.Duration {
	if r.until.IsZero() {
		return d
	}
	end := r.until
	if r.told {
		end = end.Add(r.cfg.DrainTimeout)
	}
	left := max(time.Until(end), 0) + time.Millisecond
	if d < 0 || left < d {
		return left
	}
	return d
}

// bereft tells whether an orphan has nothing left to do: its cms have ended, or
// its time is up. Before that it tells the clients that the broker leaves.
func (r *router) bereft() bool {
	if r.until.IsZero() || time.Now().Before(r.until) {
		return false
	}
	if !r.told {
		r.stopping, r.told = true, true
		return false
	}
	for _, l := range r.links {
		if l.process != 0 && time.Now().Before(r.until.Add(r.cfg.DrainTimeout)) {
			return false
		}
	}
	return true
}
