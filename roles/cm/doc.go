// Package cm is the role that keeps client connections: it reads and parses
// what clients send, puts bodies into its arena, tells the router, and writes
// to clients what the router instructs it to.
//
//	clients <--sockets--> +------+ --records-------> router
//	dispatcher --fds----> | cm/i | <--instructions-- router
//	                      +------+ --bodies--> arena/i (read by the other cms)
//
// It decides nothing about subjects: not who may publish or subscribe, not who
// gets a message. Whatever the order of a client's operations, the answers to
// them come back from the router in that order; even the end of a connection
// over a protocol error is the router's instruction.
//
// One goroutine, locked to its thread, runs an edge-triggered event loop over
// non-blocking sockets; TLS handshakes have a thread of their own. Three laws hold
// it together:
//
//   - The incoming ring is drained at all times, whatever the state of the
//     outgoing ring or of any client. The router relies on it.
//   - A full outgoing ring or arena stops reading from clients (TCP then slows
//     them down), never anything else.
//   - A body is copied to its readers' output as soon as its instruction comes,
//     so a reader that does not read holds its own output, not the arena.
//
// A new process believes nothing that the one before it left in shared memory. It
// gets ready when the router has done with that one, and begins where the router
// stands; its arena opens when all bodies of its predecessor are delivered.
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
// closes it only after the workshop has let go of it. auth_timeout, from accept on, is the loop's to enforce, whatever the
// client or the parent do or do not.
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
// Files: cm.go (the loop), conn.go (a connection's life), input.go (bytes to
// records), deliver.go (instructions to bytes), output.go (bytes to sockets),
// timers.go (keepalive and deadlines), stuck.go (bodies held up), tls.go (states of
// TLS), workshop.go (the thread for handshakes), handshake.go (one of them), sign.go
// (signatures), credential.go and adopt.go (certificates and keys), transport.go
// (under crypto/tls), records.go (sealed bytes to sockets and back), setup.go (the
// role's start).
package cm
