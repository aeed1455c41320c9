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
// non-blocking sockets. Three laws hold it together:
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
// Files: cm.go (the loop), conn.go (a connection's life), input.go (bytes to
// records), deliver.go (instructions to bytes), output.go (bytes to sockets),
// timers.go (keepalive and deadlines), stuck.go (bodies held up), setup.go (the role's start).
package cm
