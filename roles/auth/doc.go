// Package auth is the role that checks who a client is.
//
//	parent --users, settings--> +------+
//	router --LOGIN------------> | auth | --a goroutine for each check-->
//	       <--VERDICT---------- +------+
//
// It has the password hashes and public keys of the users, the public keys of other
// environments and of who vouches for certificates, now and then an executable to be
// read, and nothing else: no shared memory, no other file, no network but connections to
// the directory, if there is one, for which it asks the parent. What it says of a client
// is a user or a reason; what a user may do is the router's affair, and the client hears
// no reason at all. The router waits for no verdict in its loop, and asks the next auth
// again when one has ended.
//
// One goroutine, locked to its thread, reads, decides whose turn it is and answers.
// Each check has a goroutine of its own, of which there are few: a hash takes a
// tenth of a second of a processor and some 64 MiB, and the whole process has a low
// priority, so that messages go first.
//
//	LOGIN --parse--> attempt --> lane of (address, kind, name) --turn--> check --> VERDICT
//	                    |                                           |
//	                 refused                                  failures counted
//
// What a stranger can do to others by logging in is bounded by address:
//
//   - Addresses have turns, and within one its lanes, so that whoever logs in much
//     waits for himself.
//   - An address has so many failures a second that are looked at (failure_rate). What
//     is beyond them is refused unseen, unless the same user has logged in from there
//     before. A login that succeeds costs nothing.
//   - A user who has failed at an address some times in a row is not looked at there
//     for a while, twice as long each time. Elsewhere that means nothing: who knows a
//     name keeps nobody out but at his own address.
//
// A name that is nobody's has a lane like any other and costs the hash of some user,
// always the same one, so that neither time nor reason tells who exists. Passwords are
// parsed and compared where what they leave is erased (package erase), and the copies
// that are ours are wiped; Go's own strings are erased when they are collected, for
// which tidy sees.
//
// A kind of credential is a row of the table in check.go: how a client shows it, whose
// it claims to be, what a check costs, and who does it.
//
// A transfer ticket is the word of another environment (transfer.go). What is asked of
// it, in this order, each no with its reason: is it for this connection's challenge,
// has it the form, is the issuer approved and the signature his, is it for this
// environment and of now, may the issuer send this user, is it the first time, and
// does the user exist here, in that organisation. Who came by one is that user for as
// long as both he and the issuer stay what they are.
//
// A certificate (certificate.go) proves who a client is by a signature over this
// connection's challenge, which package cms reads, or as that of its TLS session, which
// is the word of the cm. Package chain finds out whether somebody vouches for it, by
// keys and revocation lists that the parent sends in a parcel (APPROVAL). Whose it is
// say its names. What it claims is not known before it is read, so failures are counted
// by the certificates as they came.
//
// A directory (directory.go, package directory) knows whoever is not in the list. That
// it is asked is a class of its own, since it takes as long as it likes: a login by
// password goes there at once, one by ticket when all else has been found right. What
// fails for the directory's sake counts against nobody. Passwords pass through the
// library's buffers on the way; they are erased as far as they are within reach.
//
// A process that has connected to a Unix socket and shows nothing is who it is
// (process.go). Which one that is has the dispatcher from the kernel; what it is the
// parent looks at (INSPECT, witness.go), since that takes what auth has not: /proc, and
// rights. The check waits for that, and for the digest of an executable (digest.go),
// and has the process looked at once more behind it. While there is no parent it waits
// for the next one, as long as the client may.
//
// Without a parent it goes on for orphan_grace (orphan.go). One that is started while
// another is there stands by until the parent's first word of the router, and ends
// with a parent that has not said it.
//
// Files: auth.go (the loop), login.go (from LOGIN to VERDICT), check.go (the kinds),
// transfer.go (tickets), certificate.go (certificates), process.go, witness.go and
// digest.go (processes), directory.go (LDAP), dialer.go (connections for that),
// explain.go (what a configuration would make of a client), users.go (who there is),
// queue.go (whose turn it is), failures.go (who is not looked at), orphan.go, setup.go
// (the role's start).
package auth
