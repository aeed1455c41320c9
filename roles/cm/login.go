package cm

import "gatehouse/store"

// This file is for brokers whose clients must log in. From each CONNECT on nothing
// more of a connection is parsed until the router has accepted it (SESSION), so
// that what a client sends at once with its credentials is not refused. Its CONNECT
// is kept that long, to be said again to a router that follows the one which has
// read it. auth_timeout, from accept on, goes on meanwhile.

// awaitLogin has a connection wait for the router's word on its CONNECT.
func (m *cm) awaitLogin(c *conn, connect []byte) {
	c.flags = c.flags&^flagAdmitted | flagLogin
	c.login = append([]byte(nil), connect...)
	if c.deadline == 0 {
		m.await(c, m.cfg.AuthTimeout)
	}
}

// chain is what a client has shown of its certificates, as far as there is room for
// them: whoever checks it may do without the last ones.
func (m *cm) chain(c *conn) (der []byte) {
	if !m.cfg.Auth || c.tls == nil || c.tls.conn == nil {
		return nil
	}
	for _, cert := range c.tls.conn.ConnectionState().PeerCertificates {
		if len(der)+len(cert.Raw) > store.MaxChain {
			break
		}
		der = append(der, cert.Raw...)
	}
	return der
}

// endLogin has a connection go on.
func (m *cm) endLogin(c *conn) {
	if c.has(flagLogin) {
		c.flags &^= flagLogin
		c.forgetLogin()
		m.queue(c)
	}
}

// hurryLogins is for clients that must log in from now on. The router ends those that it
// knows; those that have said nothing yet have the time that others have who come now.
func (m *cm) hurryLogins() {
	for _, c := range m.conns {
		if c != nil && c.deadline == 0 && !c.has(flagConnected|flagSystem|flagArriving) {
			m.await(c, m.cfg.AuthTimeout)
		}
	}
}

// endLogins is for clients that need not log in any more.
func (m *cm) endLogins() {
	for _, c := range m.conns {
		if c != nil {
			m.endLogin(c)
		}
	}
}

// forgetLogin wipes what may be a password.
func (c *conn) forgetLogin() {
	clear(c.login)
	c.login = nil
}
