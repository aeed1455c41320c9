package dispatcher

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// lost: the parent is gone. The dispatcher goes on accepting for orphan_grace.
func (d *dispatcher) lost() error {
	if err := d.parent.Orphan(d.poll, tokenParent); err != nil {
		return err
	}
	d.orphanUntil = d.now + int64(d.cfg.OrphanGrace)
	return nil
}

// heard looks who is at the door.
func (d *dispatcher) heard() {
	facts := privsep.Adopted{Layout: store.LayoutVersion, Sandbox: d.walls, Leaving: d.stopping,
		Handoff: privsep.Key(d.key), Peers: make([]uint64, len(d.cms))}
	for k, c := range d.cms {
		if c.ch != nil {
			facts.Peers[k] = c.generation
		}
	}
	if !d.parent.Adopted(d.poll, tokenParent, facts) {
		return
	}
	d.orphanUntil = 0
	for _, f := range d.unsaid {
		d.accuse(f)
	}
	d.unsaid = nil
}

// accuse reports a cm, now or to the next parent.
func (d *dispatcher) accuse(f privsep.CMFault) {
	err := d.parent.Send(privsep.KindCMFault, f.Append(nil))
	if err == nil {
		return
	}
	if d.parent.Orphaned() {
		d.unsaid = append(d.unsaid, f)
		return
	}
	d.log.Error("fault not reported", privsep.Err(err))
}

// bereft tells whether an orphan's time is up.
func (d *dispatcher) bereft() bool { return d.orphanUntil != 0 && d.now >= d.orphanUntil }

// patience bounds a wait of the dispatcher's.
func (d *dispatcher) patience(next time.Duration) time.Duration {
	if d.orphanUntil == 0 {
		return next
	}
	left := max(time.Duration(d.orphanUntil-d.now), 0)
	if next < 0 || left < next {
		return left
	}
	return next
}
