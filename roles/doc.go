// Package roles is the list of what this binary can become, and the way to run
// one of it alone.
//
// Main becomes a child of the parent (role.go). Debug runs a role's own code in
// a goroutine, on real shared memory and real channels (package standin), with
// a driver in the place of everybody else:
//
//	stdin --lines--> +--------+ ==parent channel==> +------+
//	                 | driver | --rings, fds------> | role |
//	stdout <-lines-- +--------+ <---------------    +------+
//	                  plays the parent, and peers: the cms of a router, router and
//	                  dispatcher of a cm, the cms of a dispatcher, auth's router
//
// What the driver prints for a line of input is there before it reads the next:
// it asks the role for its counters, which a role answers between two rounds of
// its loop, and looks at how far the rings were read. Nothing waits for time.
//
// Nothing here may decide for a role: what a role does alone it does in a
// broker. Nothing of Debug is reached by a broker that serves.
//
// Files: debug.go (the driver's loop), debug_parent.go (as the parent),
// debug_rings.go, debug_router.go, debug_cm.go, debug_dispatcher.go, debug_auth.go,
// debug_logins.go, debug_tlsd.go and debug_console.go (as peers), debug_json.go and debug_shapes.go (the format).
package roles
