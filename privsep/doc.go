// Package privsep is all that lies between the processes of Gatehouse: how a
// role is started, how it gives up what it does not need, who may say what to
// whom, and how that is said.
//
//	                +--------------------------------+
//	key, registry   | parent                    root |
//	segments        +--+----------+----------+----+--+
//	                   |          |          |    |
//	                   | channels, one for each child: settings, segments,
//	                   | sockets, peers, profiles go down; logs, counters go up
//	                   |          |          |    |
//	clients   +--------+---+  +---+----+  +--+-----+  +--+------+  +---------+  servers
//	--------> | dispatcher |->|  cm/N  |  | router |--| auth    |  | tlsd    |------->
//	 accept   |  no files  |  | sockets|  | no net |  | no net  |  | no files|  connect
//	          +------------+  +---+----+  +---+----+  +---------+  +---------+
//	              handoff         |           |  logins
//	                              +-----------+
//	                          rings and doorbells
//	                          (package store), no channel
//
// Who holds what:
//
//	parent      listeners (never accepts), every segment, every channel's key
//	dispatcher  copies of the listeners, a channel to each cm
//	cm          connections handed to it, its rings, a doorbell to the router
//	router      its side of every ring, a doorbell to each cm, a channel to auth and to
//	            the console
//	auth        password hashes and public keys of the users, public keys of who
//	            vouches for certificates and of other environments; connections to
//	            the directory, if there is one, that the parent has begun; executables
//	            of clients, to be read once
//	tlsd        a listener of its own, connections to servers
//	console     listeners of its own; the connection table, the cms' columns and the
//	            router's word on connections, to read; a channel to the router; a
//	            connection to the broker, as a client, where somebody may ask for its state
//
// What an operator sees, as root; without it every uid is the same:
//
//	$ ps -eo user,pid,args | grep gatehouse:
//	root    812 gatehouse: parent serve
//	61102   815 gatehouse: dispatcher -x dispatcher
//	61104   816 gatehouse: router -x router
//	61105   817 gatehouse: auth -x auth
//	61106   820 gatehouse: tlsd -x tlsd
//	61107   821 gatehouse: console -x console
//	61116   818 gatehouse: cm/0 -x cm/0
//	61117   819 gatehouse: cm/1 -x cm/1
//
// A child's life: Inherit takes the channel at fd 3, a listening socket at fd 4, and
// BOOT; CONFIG, SEGMENT and the rest until SETUP_END; EmptyRoot; Drop; package sandbox;
// SETUP_DONE; from here on it has no files, no network of its own, no capability and
// no way back, which the parent reads in /proc before it believes it.
//
// When its parent dies a child goes on (Orphan), and listens at fd 4:
//
//	new parent                                           child
//	  | registry: which process, which segments            |
//	  | pidfd_open; inode, start time, uid, executable     | SO_PEERCRED: root,
//	  | --- connect, ADOPT: who is meant, a new key ---->  | else closed
//	  | <-- ADOPTED: versions, generation, what it knows   |
//	  | pidfd_getfd: the segments and listeners that it    |
//	  | holds, which is why it keeps them open (Keeps:     |
//	  | some that it cannot even read)                     |
//
// ADOPT is to a socket what BOOT is to fd 3: it brings the key that it is sealed
// with. Another binary in the place of a living parent (ExecInPlace) does the same,
// but has the fds from before the exec (Handover).
//
// The laws:
//
//   - rules is the whole role protocol. The gate (Permit) holds every message
//     against it, sent or received, before anything is decoded; what has no row
//     closes the channel. from is the channel that the bytes came in on.
//   - Each message carries a rising number and a MAC under a key of its channel
//     and direction. Replayed, reordered, reflected, forged: closed.
//   - What a child tells the parent must come from the very process that was
//     started: the kernel names the sender of each message (Sender), and pid, uid
//     and pidfd are those of its record, whoever has the socket and the key. The
//     parent's sockets take no fds; what a new parent gets by pidfd_getfd it has
//     asked the kernel for, of a process that it knows.
//   - Decoders are total: exact length, one encoding for each value, the zero
//     value on error, no allocation that the peer sizes.
//   - Every received fd has one owner: who got the Message, or nobody, and then
//     it is closed before Recv returns.
//   - Who has connected to a Unix socket the kernel tells the dispatcher, at accept;
//     its word goes by the connection table, router and auth to the parent, which finds
//     that process or nothing (process.go). A cm has no say in it.
//   - A promise is kept on every thread and proved there, or it is an error.
//
// This package never reads a client's bytes or a segment's contents, never
// decides what to do with a message, and holds no policy but the rules. System
// calls are in the files for Linux alone, unsafe in raw_linux.go alone.
//
// Below it: sandbox (the last walls around a role), custody (the private key in
// memory), keyfile (and on disk), passhash (what is kept of a password), certname (how a
// certificate is named), erase (what is forgotten after use).
package privsep
