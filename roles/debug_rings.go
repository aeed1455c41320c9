package roles

import (
	"fmt"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

// ring is the stand-in's side of the two rings between a cm and the router.
type ring struct {
	standin.Ends
	index int // of the cm
	bell  int
	// generation of the cm's process
	generation uint64
	// see is told of each record that comes.
	see func(g *ring, kind store.RecKind, r store.Record)
}

// put sends a record, which must be one that its reader can parse: what a peer
// can get wrong is the stand-ins' to try in its meaning, not in its form.
func (g *ring) put(r store.Record, kind store.RecKind) error {
	b := g.Out.Reserve(r.Size())
	if b == nil {
		return errNoRoom
	}
	n := r.Put(b)
	if err := store.NewRecord(kind).Parse(b); err != nil {
		g.Out.Commit(0)
		return err
	}
	g.Out.Commit(n)
	if g.Out.Publish() {
		privsep.Ring(g.bell)
	}
	return nil
}

// read takes what has come and tells whether there was anything.
func (g *ring) read() (worked bool, err error) {
	for {
		b, err := g.In.Next()
		if err != nil {
			return worked, err
		}
		if b == nil {
			break
		}
		worked = true
		kind := store.Kind(b)
		r := store.NewRecord(kind)
		if r == nil {
			return worked, fmt.Errorf("record of cm/%d: kind %d: %w", g.index, kind, store.ErrRecord)
		}
		if err := r.Parse(b); err != nil {
			return worked, fmt.Errorf("%v of cm/%d: %w", kind, g.index, err)
		}
		g.see(g, kind, r)
	}
	if g.In.Release() {
		privsep.Ring(g.bell)
	}
	return worked, nil
}

// unread tells whether the role has still to take something.
func (g *ring) unread() bool {
	_, n := g.Out.Lag()
	return n > 0
}

// connect gives the role its end of the doorbell.
func (g *ring) connect(d *driver, token uint64) error {
	near, far, err := privsep.Doorbell()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(far)
	if g.bell >= 0 {
		d.poll.Del(g.bell)
		privsep.CloseFD(g.bell)
	}
	g.bell = near
	if err := d.poll.Add(near, token, privsep.In); err != nil {
		return err
	}
	end := privsep.DoorbellEnd{CM: g.index, Generation: g.generation}
	return d.send(privsep.KindDoorbell, end.Append(nil), far)
}
