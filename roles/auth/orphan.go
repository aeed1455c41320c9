package auth

import (
	"time"

	"gatehouse/privsep"
)

// lost: the parent is gone. Clients still log in for orphan_grace, and for as long as
// the router may take then to finish.
func (a *auth) lost() error {
	if err := a.parent.Orphan(a.poll, tokenParent); err != nil {
		return err
	}
	a.noDials()
	a.until = time.Now().Add(a.cfg.OrphanGrace + a.cfg.DrainTimeout)
	return nil
}

// heard looks who is at the door. A new parent brings a new way to the router.
func (a *auth) heard() {
	if a.parent.Adopted(a.poll, tokenParent, privsep.Adopted{Sandbox: a.walls, Leaving: a.stopping}) {
		a.until = time.Time{}
		if a.known != nil {
			a.known.Retry()
		}
		a.witness.repeat()
	}
}

// bereft tells whether an orphan has nothing left to do: its time is up, or the router
// has ended.
func (a *auth) bereft() bool {
	return !a.until.IsZero() && (a.router == nil || !time.Now().Before(a.until))
}
