package cm

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// newRouter is the first word of a new router: all that came before it in the ring
// was the old one's. Connections stay; what the new one does not know is said again.
// Only one that could not read what the old one has left has them end; it is told which
// process this is, as at the beginning.
func (m *cm) newRouter(rec []byte) error {
	var n store.InsNewRouter
	if err := n.Parse(rec); err != nil {
		return err
	}
	if n.Forget {
		m.supply = supply{}
		m.log.Warn("connections ended with the router", privsep.Int(privsep.KeyN, m.endAll(reasonShutdown)))
		m.must(&store.RecReset{Generation: m.generation})
		return nil
	}
	for _, c := range m.conns {
		if c != nil {
			m.introduce(c)
		}
	}
	m.waited.since = m.now - int64(stuckTime) // a body that is waited for is told at once
	return nil
}

// introduce is about one connection: the old router's holds are void, and that it
// is behind the new one must hear. So must the new one of who waits to be accepted,
// which the old one may not have got to.
func (m *cm) introduce(c *conn) {
	if c.has(flagHeld) {
		c.flags &^= flagHeld
		m.queue(c)
	}
	if c.has(flagCongested) {
		m.must(&store.RecCongested{Conn: c.ref()})
	}
	if c.has(flagLogin) {
		m.must(&store.RecConnect{Conn: c.ref(), Again: true, Chain: m.chain(c), JSON: c.login})
	}
}
