// Package parent is the root process of `gatehouse serve`. It starts the other
// roles, makes what they share, and starts them again when they die.
//
//	              +-----------------------------+
//	operator ---> | parent                      |   control socket, root only
//	key, secret > | segments, listeners, records|
//	              +--+--------+--------+--------+
//	    channels     |        |        |
//	           dispatcher   cm/0..   router, auth
//
// It never reads a byte from a client: it binds the listeners but does not
// accept, makes the segments but does not look into them, and reads from its
// children only what privsep's rules let through. Its own decoders are those of
// fixed frames, of the registry and of the configuration.
//
// The private key is used here and, unless it is to be released, nowhere else.
// A cm gets one signature for each connection that a dispatcher handed to that
// very process, over what a TLS 1.3 server signs; sign.go is the whole of it. A
// child that breaks a rule is ended and replaced, the broker goes on.
//
// A second key, of its own, signs tickets by which clients log in to other
// environments (transfer.go). The router asks for one with a few fields; the ticket is
// made here, so that nothing else can be signed. Each has a line in the log.
//
// What a process is that logs in at a Unix socket it tells auth (inspect.go), of
// processes that a rule may fit, and no more than the rule asks for. Of tlsd's callers it
// tells as much, where a right is some program's.
//
// One goroutine does everything, but for what can wait for a file system: children's
// channels, their pidfds, signals and the control socket are events of one poller. A
// child is started by it alone, since a child started from a thread that ends could be
// killed with it.
//
// SIGHUP (reload.go) is all or nothing: everything that can fail is done first, a
// port bound, a certificate read; then the roles are told, and it is over when
// each has answered a question that was asked after. live.go says of every option
// whether it can change like that. The router hears of a new limit before the cms
// do, so that what a cm sends by it is never taken for an offence. Profiles
// (profiles.go) are the router's alone: all of a set in its setup, all of another one
// before the settings that go with it. So are users auth's (users.go); the router gets
// but their marks. Auth has a process as long as somebody can log in. Who may vouch for
// certificates goes to auth in a parcel (approval.go), and again when a file of
// revocation lists changes, which is looked for all the time.
//
// A directory (directory.go) is auth's to talk to. It gets sockets that are on their way
// to an address of the configuration, which only this process knows, by their number; what
// passes over them nobody here reads.
//
// A parent that is killed leaves its children to the next one, which finds them in
// the registry and adopts them; what died with it is started. A parent that is
// upgraded leaves them to another binary in its own process, which does the same and
// then replaces them one by one. The registry is true whenever this process may die.
//
// A process is exchanged without loss (restart, upgrade) by starting the new one
// beside it: each component has two places, of which one is vacant. A cm's are its
// index and that plus cm.count, each with shared memory, rings and uid of its own,
// since for a while both processes have connections. A new router, dispatcher, auth or console
// stands by, complete, and its turn comes with the end of the old one. A new process
// that does not get ready has changed nothing.
//
// tlsd gets the sessions that there may be (tlsd.go), and signatures by a third key, which
// signs what a client signs in a handshake. Where nobody can listen for clients it is the
// only child.
//
// What matters to security has a line in the audit log (audit.go), which a goroutine of its
// own writes: no disk is waited for.
//
// Files: replace.go (the exchange of a process), restart.go (asked for by the
// operator), serve.go (start and stop), loop.go (events), child.go (life of one
// child), wiring.go (who gets which segment, channel and doorbell), rundir.go
// (runtime directory, lock, registry), adopt.go (what an earlier parent left),
// upgrade.go and handover.go (another binary), listen.go (listeners and their
// numbers), reload.go, live.go (what may change), profiles.go (what the router gets),
// users.go, approval.go and directory.go (what auth gets), notify.go (the service manager), tls.go
// (certificate and key), sign.go (who gets a signature), transfer.go (who gets a
// ticket), inspect.go (what a client's process is), tlsd.go (what tlsd gets), console.go
// and system.go (what the console gets), offence.go (what is held against a child),
// audit.go, audit_events.go and audit_log.go (the audit log), sandbox.go (the walls around
// parent and children), control.go, kick.go and status.go (the operator's view), config.go
// (the configuration), config_tables.go (its lists of tables), config_profile.go,
// config_user.go, config_certificate.go, config_process.go, config_transfer.go,
// config_ldap.go, config_tlsd.go and config_console.go (some of them).
package parent
