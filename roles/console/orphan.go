package console

import (
	"time"

	"gatehouse/privsep"
)

// lost: the parent is gone. What is in shared memory can still be watched, for
// orphan_grace.
func (c *console) lost() error {
	if err := c.parent.Orphan(c.poll, tokenParent); err != nil {
		return err
	}
	c.word.lost()
	c.until = time.Now().Add(c.cfg.OrphanGrace)
	return nil
}

// heard looks who is at the door. A new parent is asked what the one before has not
// answered.
func (c *console) heard() {
	if c.parent.Adopted(c.poll, tokenParent, privsep.Adopted{Layout: layout, Sandbox: c.walls, Leaving: !c.stopBy.IsZero()}) {
		c.until = time.Time{}
		c.word.again()
	}
}
