package router

import "gatehouse/wire"

// login has the credentials of a CONNECT checked.
func (r *router) login(s *session, _ []byte) { r.fail(s, wire.CodeAuthViolation) }
