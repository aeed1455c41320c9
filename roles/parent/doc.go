// Package parent is the root process of `gatehouse serve`. It starts the other
// roles, makes what they share, and starts them again when they die.
//
//	              +-----------------------------+
//	operator ---> | parent                      |   control socket, root only
//	              | segments, listeners, records|
//	              +--+--------+--------+--------+
//	    channels     |        |        |
//	           dispatcher   cm/0..   router
//
// It never reads a byte from a client: it binds the listeners but does not
// accept, makes the segments but does not look into them, and reads from its
// children only what privsep's rules let through. Its own decoders are those of
// fixed frames, of the registry and of the configuration.
//
// One goroutine does everything: children's channels, their pidfds, signals and
// the control socket are events of one poller. A child is started by it alone,
// since a child started from a thread that ends could be killed with it.
//
// Files: serve.go (start and stop), loop.go (events), child.go (life of one
// child), wiring.go (who gets which segment, channel and doorbell), rundir.go
// (runtime directory, lock, registry), listen.go, control.go and status.go (the
// operator's view), config.go (the configuration).
package parent
