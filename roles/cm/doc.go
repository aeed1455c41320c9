// Package cm is the role that keeps client connections: it reads and parses
// what clients send, puts bodies into its arena, tells the router, and writes
// to clients what the router instructs it to.
//
//	clients <--sockets--> +------+ --records-------> router
//	dispatcher --fds----> | cm/i | <--instructions-- router
//	                      +------+ --bodies--> arena/i (read by the other cms)
//
// It decides nothing about subjects: not who may publish or subscribe, not who
// gets a message. It looks at one thing, whether a subject is the broker's own ($GATE.):
// such a body goes to the router and not into the arena. Whatever the order of a
// client's operations, the answers to them come back from the router in that order;
// even the end of a connection over a protocol error is the router's instruction.
//
// One goroutine, locked to its thread, runs an edge-triggered event loop over
// non-blocking sockets; TLS handshakes have a thread of their own, and of all threads
// only the loop's preempts others when it wakes (privsep.OthersGiveWay). Three laws hold
// it together:
//
//   - The incoming ring is drained at all times, whatever the state of the
//     outgoing ring or of any client. The router relies on it.
//   - A full outgoing ring or arena stops reading from clients (TCP then slows
//     them down), never anything else.
//   - A body is copied to its readers' output as soon as its instruction comes,
//     so a reader that does not read holds its own output, not the arena.
//
// Clients are greeted here, with INFO and challenges that the router has given for that
// (greet.go). A connection that has said nothing yet, or ends without ever having
// subscribed, wakes nobody: the router hears of it with whatever comes next, no later
// than in 50 ms, and at once while fewer than half of the challenges are left.
//
// A router that ends is nothing to a connection: what was on its way stays in the
// rings, and the next router goes on with it. Its first instruction (NEW_ROUTER)
// voids the holds of the one before; readers that are behind, and a body that is
// waited for, are told again. Only if it could not read what that one has left do
// all connections end.
//
// Headers are read here, since the router sees no body: what they say to the broker
// goes along with the message's record, and what only the broker may say is taken out
// before the body lies where others read it. Who a message is from is told by the
// instruction to deliver it. What another cm delivers is looked through once more:
// one that was taken over must not speak for the broker to other cms' clients.
//
// The router gives a session its limits (SESSION): of a payload, of what may wait for
// its client, and of messages a second. Beyond the last the cm pauses reading from
// that client, by the loop's own time; TCP slows it down and nothing is lost. Where
// clients must log in nothing is parsed between CONNECT and the router's word on it, and
// the certificates that a client has shown in its handshake go with the CONNECT.
//
// A new process believes nothing that the one before it left in shared memory. It
// gets ready when the router has done with that one, and begins where the router
// stands; its arena opens when all bodies of its predecessor are delivered.
//
// # Moving to another process
//
// A cm that is replaced (RETIRE) has its plaintext and Unix connections moved to
// its successor, one by one, each in the middle of whatever it is at; those by TLS
// stay until they end, since no library gives their state away.
//
//	     old cm                 router                  new cm
//	MOVE, reads no more -----> session moves ---ARRIVING--> a place without socket
//	until it is answered <--MOVED--                         collects its output
//	MOVE_CONN (socket), MOVE_BYTES -----------------------> goes on
//
// Records and instructions of a connection are in order on either side of the
// move, since each ring is; what the old process had not sent goes out before what
// the new one has collected. Its limits, and that its login is over, are what the
// router says after ARRIVING; it does not move while it logs in. While it moves it
// belongs to neither loop: what is wrong with it, its new process finds out. The old
// process ends when it has no connection, when all they sent is delivered from its
// arena, or its time is up. Who was announced and does not come, since the old process
// died, is closed.
//
// # TLS
//
// A connection of a TLS listener goes through the states of tlsState:
//
//	accept --> INFO, plaintext --> client's first byte --> handshake --> open
//	       \___________handshake_first____________/   (INFO comes now)
//
// The handshake is crypto/tls in a coroutine (hand) of a thread beside the loop
// (workshop; there are two where keys are released), since it takes a millisecond
// that the loop cannot spare. From INFO on until it is over the workshop alone
// reads and writes the socket and waits for it, in a poller of its own; the loop
// closes it only after the workshop has let go of it. auth_timeout, from accept on, is
// the loop's to enforce, whatever the client or the parent do or do not.
//
//	         begin, stop, signature
//	loop ---------------------------> workshop      mailboxes, each with a bell
//	     <---------------------------               that is rung if the other
//	               finished                         sleeps
//
// The private key is not here: signer sends the whole CertificateVerify input to
// the parent in a SIGN with the connection's handoff ticket, paced below what the
// parent takes for an attack; what cannot be sent at once is sent later. With
// key_use = "release" the key lies in locked memory (package custody) and signs in
// the workshop. Certificates are numbered: a newer one is for new handshakes,
// whatever has begun ends with its own. Sessions are never resumed: the keys of
// tickets would lie here.
//
// Afterwards the connection is the loop's and differs from a plaintext one in
// two places alone: readSealed opens what was read before it is parsed, and
// flushSealed seals output when it is about to be written. tls.Conn knows
// nothing of sockets then: its transport takes from one buffer and adds to
// another. No tls.Conn holds whole records when its turn is over, unless it is on
// the ready list; and a turn is bounded in bytes and in time, since a record may
// cost much more than its length (a key update).
//
// Without a parent it goes on, asks the next one again for the signatures that were
// not given, and finishes after orphan_grace (orphan.go).
//
// Files: move.go and arrive.go (both sides of a move), cm.go (the loop), conn.go (a
// connection's life), greet.go (INFO, and what the router need not be woken for),
// input.go (bytes to records), headers.go (of messages, both ways), limits.go (a
// session's own), login.go (before it is accepted), deliver.go
// (instructions to bytes), newrouter.go (another router), output.go (bytes to sockets),
// timers.go (keepalive and deadlines), stuck.go (bodies held up), stop.go (the end of
// the broker), tls.go (states of TLS), workshop.go (the thread for handshakes),
// handshake.go (one of them), sign.go (signatures), credential.go and adopt.go
// (certificates and keys), transport.go (under crypto/tls), records.go (sealed bytes to
// sockets and back), reload.go (what changes while it runs), setup.go (the role's start).
package cm
