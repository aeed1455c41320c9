// Package tlsd is the role that has TLS sessions with servers, for local processes that
// come and go.
//
//	callers --CONNECT, ATTACH--> +------+ --TLS--> servers
//	        <------bytes-------> | tlsd |
//	parent --policies, SIGNED--> +------+ --TLS_SIGN--> parent
//	       --INSPECTED---------> |      | --INSPECT-->
//	other tlsds --callers------> +------+ --callers--> other tlsds
//
// It has connections outwards, which no other role has, to the ports that the
// configuration names, and the socket that callers come by; no file, no name server, no
// private key. Whom a right names by the program that he runs, the parent looks at.
// Callers may be hostile, and servers: neither can do more than end its own
// session, or wait for itself.
//
// The loop (tlsd.go) has the parent's channel and accepts. All else are goroutines,
// which wait in the Go runtime's poller, as the loop does:
//
//	caller   one reads what it sends, from the head on. A second one writes to it where
//	         its socket is full, where something was there before it, and at the end
//	session  one reads what the server sends, and hands it to the caller whose it is.
//	         Writes are the callers' own, in turn (line)
//
// and the hub, where callers find sessions: by name, by what policy lets them, and
// within what a uid may have. Its lock comes before a session's; nothing waits under
// either but for the session's own conditions. Most callers come with a short question
// and go with its answer: for those there is one goroutine, and no buffer that is not
// used again.
//
// There may be several processes, so that the end of one is the end of its own sessions
// alone (shard.go). One has all processors already: several are no faster. Whose a session
// is, its name says. Each of them accepts callers and sees, without taking it, what they
// want; the other ones' it passes on, by ways that the parent has made, two ends each. So
// whoever takes over one gets callers of the others, and may keep them, or pass one on as
// often as its uid has callers left, but not what is theirs: the other one takes no
// connection that was not made at the socket of tlsd, asks the kernel whose it is, and
// hears from nobody but the caller what it wants. Of that, who has the connection too can
// take something away, and write to the caller, but add nothing. When it has ended, its
// ways end. Bounds are kept by each for itself.
//
// How callers speak is package protocol, and what a session is in each mode stands
// there, too. What holds here:
//
//   - No deadline and no end of a caller reaches a session's connection. What a caller
//     has handed over whole is written whole.
//   - What came for a caller and was not written to it stays for the next one
//     (exclusive), or is thrown away in whole frames (framed). Who goes in the middle of
//     something, without a RELEASE, leaves a session of which nobody knows where it is:
//     it ends, unless its policy says keep. Of a program that does not know itself
//     (Release: http) tlsd sees where it is by what goes by.
//   - In framed mode the n-th frame of the server answers the n-th that went to it. That
//     is the order in which callers had their turn; an answer for one that has gone is
//     thrown away.
//   - Nothing is kept for a caller without bound: bytes that wait for it, and frames that
//     are not whole, are charged to its uid; one that does not read is cut off where
//     others would wait for it. Nothing is kept of a server without bound: beyond
//     maxUnread TCP slows it down. Handshakes under way are bounded for all and for one
//     uid.
//   - A session is replaced long before its keys have had the records that they are good
//     for, as Go begins no key update: whoever comes then gets a new one.
//   - A certificate is verified always, in the handshake and every revalidate. There are
//     no session tickets and no early data.
//   - An end that the server has announced (close_notify) and one that came over it, or
//     in the middle of a frame, are told apart to those who speak in chunks.
//
// A process that ends takes its sessions along, as no library gives the state of one
// away. One that is replaced accepts no more, and ends when its callers have gone or
// drain_timeout is over; the new one has begun by then. Without a parent it goes on for
// orphan_grace; what is asked of it waits.
//
// Files: tlsd.go (the loop), hub.go (who finds what), account.go (what a uid has),
// policy.go (who may), identity.go (who a caller is), failure.go (why there is no
// session), caller.go (a caller's life), pump.go (while it has a session), deliver.go
// (what is written to it), session.go and open.go (a session's), exclusive.go, framed.go
// and raw.go (the modes), http.go (Release: http), line.go (turns), transport.go (what is
// under crypto/tls, and counts records), ask.go (what the parent is asked), sign.go
// (signatures), list.go (LIST and CLOSE), shard.go (several tlsds), orphan.go, setup.go
// (the role's start).
package tlsd
