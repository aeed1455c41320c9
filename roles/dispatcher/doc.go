// Package dispatcher is the role that accepts connections and hands them over.
//
//	listeners --accept--> +------------+ --fd + ticket--> cm/0
//	(opened by the parent)| dispatcher | --fd + ticket--> cm/1
//	                      +------------+
//	                       connection table
//
// It never reads a byte from a client. It gives every connection its UID, keeps
// to max_connections and to rate and number per address, picks the connection
// manager with the fewest connections and writes the connection table, of which the
// cms write only their own columns. There it also says which process has connected to a
// Unix socket (pid, uid, gid, inode of its pidfd), as the kernel has told it: who a
// client is that way, a cm has no word in. While no cm is there, or has room, connections
// wait in the listen queue; since the parent holds the listeners, a dispatcher's death
// closes no port.
//
// The console is a client by a connection that the parent has made (SYSTEM_CONN). The
// table says which one that is; it has places beyond max_connections.
//
// Without a parent it goes on for orphan_grace; it alone can then say by which key
// its tickets are checked (orphan.go).
//
// A cm that is replaced (CM_RETIRE) gets no more; the places of its connections
// become its successor's as the two cms say that they have moved. A dispatcher that
// is started while another is there takes up the table with the parent's first
// word on a cm, which follows the other's end.
//
// Files: dispatcher.go (the loop), accept.go (one connection), slots.go (places
// in the connection table), system.go (the console's connections), rate.go (per-address
// limits), reload.go (what changes while it runs), setup.go (start).
package dispatcher
