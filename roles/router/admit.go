package router

// identity is who a client is.
type identity struct {
	user, organisation, profile string
	mark                        uint64 // of the user, 0: nobody had to log in
}

// admit opens a session whose client is known now.
func (r *router) admit(s *session, id identity) {
	s.id = id
	r.anew(s)
	r.ok(s)
}
