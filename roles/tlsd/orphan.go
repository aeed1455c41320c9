package tlsd

import (
	"time"

	"gatehouse/privsep"
)

// lost: the parent is gone. Sessions go on, and callers come, for orphan_grace.
func (t *tlsd) lost() error {
	if err := t.parent.Orphan(t.poll, tokenParent); err != nil {
		return err
	}
	t.until = time.Now().Add(t.cfg.OrphanGrace)
	return nil
}

// heard looks who is at the door. A new parent is asked for what the one before has not
// answered.
func (t *tlsd) heard() {
	if t.parent.Adopted(t.poll, tokenParent, privsep.Adopted{Sandbox: t.walls, Leaving: !t.stopBy.IsZero()}) {
		t.until = time.Time{}
		t.hub.parent.again()
	}
}
