package cm

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// orphan is the state of a cm without a parent. It goes on as if there were one;
// what it would ask for waits. After orphan_grace it finishes like one that was
// told to, by the clock instead of the parent's word.
type orphan struct {
	next int64 // when there is something to do about it, 0: never
}

// settleTime is for the other cms to have routed what they had read.
const settleTime = time.Second

// lost: the parent is gone.
func (m *cm) lost() error {
	if err := m.parent.Orphan(m.poll, tokenParent); err != nil {
		return err
	}
	m.orphan.next = m.now + int64(m.cfg.OrphanGrace)
	if m.stopping {
		m.orphan.next = m.now + int64(settleTime)
	}
	return nil
}

// heard looks who is at the door.
func (m *cm) heard() {
	facts := privsep.Adopted{Layout: store.LayoutVersion, Sandbox: m.walls,
		Leaving: m.stopping || m.out.Closed() >= m.generation} // or the router has done with us
	if d := &m.departing; d.on {
		facts.Heir, facts.Drain = d.place+1, time.Duration(max(d.by-m.now, 0))
	}
	if cred := m.tls.cred; cred != nil {
		facts.Certificate = cred.number
	}
	if !m.parent.Adopted(m.poll, tokenParent, facts) {
		return
	}
	m.orphan.next = 0
	m.departing.told = false // this one knows of no progress
	m.tls.shops[0].box.post(errand{what: errandAgain})
}

// bereft finishes an orphan whose time is up: no more is read, and when that of
// all cms is routed, what was is delivered.
func (m *cm) bereft() {
	switch {
	case m.orphan.next == 0 || m.now < m.orphan.next:
	case !m.stopping:
		m.stopping, m.stopBy = true, m.now+int64(m.cfg.DrainTimeout)
		m.orphan.next = m.now + int64(settleTime)
	default:
		m.orphan.next, m.leaving = 0, true
	}
}
