// Package router is the role that knows who is connected and who wants what.
//
// It owns sessions, subscriptions, permissions and routing. It never touches a
// network socket, a file or the clock of a client: everything it learns comes
// as records through one ring per connection manager, and everything it wants
// done leaves as instructions through another.
//
//	cm/0 --records-->  +--------+  --instructions--> cm/0
//	cm/1 --records-->  | router |  --instructions--> cm/1
//	                   +--------+
//	                    sessions, index, match cache
//
// The router is in the path of every message (complete mediation): a cm that
// was taken over can act only for the connections that it holds. Bodies are
// not seen here, only their handles.
//
// One goroutine, locked to its thread, does everything in batches: read
// records, decide, write instructions, commit, publish the outgoing tails, release
// the incoming heads, ring the doorbells of those who sleep. Order per sender and
// subject follows from there being one of it.
//
// Waiting for space in a ring to a cm is safe since a cm drains its incoming
// ring at all times; one that does not is reported to the parent after
// stall_timeout.
//
// A cm that waits for a body of its arena says which (STUCK). The router believes
// nothing else of it: it looks up whom it has named for that body and whose word
// lacks it, tells those once more, and reports whoever has then, for
// stall_timeout, read past it without reporting it, or read nothing at all. A cm
// writes its word before it lets go of the instruction, so one that is slow is
// never taken for one that is silent; nor does time count in which the router
// itself stood still.
//
// The router alone says which cms are to finish with a body (store.Named), before
// they can see their instructions. A cm whose ring makes no sense is reported and
// from then on neither read nor written to; the end of its process (CM_GONE) and
// the word of its next one (DOORBELL) make the link whole again, see over.
//
// Without a parent it goes on, and sees by the doorbells which cms have ended; the
// next parent hears again what was to be reported (orphan.go).
//
// # Messaging modes
//
// How a message is routed is in choose.go, one function for each choice. What makes a
// mode more than that is noted, when a message has a reply subject:
//
//	request     who asked, on which reply subject, until when
//	  duty      one session that owes an answer to it, or may give some
//	affinity    sender, id, subject, queue group: the member that goes on with it
//
// A session's load is what it owes and whom it serves. Only what such a session
// publishes is held against its duties, and only a message with a reply subject makes
// any: others cost nothing. A duty ends with the answer, with the request being passed
// on under the same reply subject, with the end of either session, or by time. What its
// sender is to hear then follows from no record, see informAll.
//
// What is published below $GATE. is for the router itself: the cm puts it into a record
// of its own (ASK), body and all. The one thing to be asked is a ticket for another
// environment, which the parent signs (ticket.go).
//
// What is published below $SYS.REQ. asks for the state of the broker. It goes to the
// console and to nobody else, from clients whose profile allows that (system.go); which
// connection is the console's the dispatcher says in its table.
//
// A profile (profile.go) says what its sessions may do. Sessions are held against new
// profiles at once, and by each new router.
//
// # Greetings
//
// Clients are greeted by their cms, so that a connection does not wait for the router: it
// gives each cm the INFO of every way to connect and a supply of challenges (supply.go),
// and hears with OPEN which one a connection has got. They are the router's still: it
// takes each once, in their order, and can tell them from their numbers, as the next
// router can by the secret in the journal. A cm that was taken over can choose which
// of its connections gets which, and can neither make one nor use one again. Where a cm has
// none the router greets. After a router's end that has left nothing to be read the cms
// begin anew (RESET), and what they had is of no use.
//
// # Logins
//
// Where clients must log in a session may do nothing until auth has said who its client
// is (login.go). Which process has connected to a Unix socket is the dispatcher's word,
// in its connection table, and holds for the cm alone that it has handed it to. The
// router asks over a channel and reads the answers between batches; it waits for none,
// and asks the next auth again what one that has ended owes. A verdict names a user, a
// profile and the user's mark. The mark is another one when anything about the user
// changes: the parent tells which marks stand, and sessions with others end.
//
// # After a router's end
//
// A router may end at any instruction, and nothing is lost or doubled by it:
//
//	records --> decide --> instructions, named, journal entries   nobody sees them
//	                            |
//	                       redo entry       tails, heads, named, journal tail, plan
//	                            |
//	                       tails, heads, bells                     stored again if need be
//
// The next one takes over (recover.go): it takes the words of the last redo entry,
// repeats the journal, carries out a plan, tells the cms that it is new, and goes on
// with the records that were not committed. Three laws make that exact:
//
//   - A record is committed whole or not at all. Before its first instruction there
//     is room for all that it leads to; what comes before it is committed while the
//     router waits for that. What no ring has room for is planned (plan.go).
//   - State changes in state.go alone, each with its entry in the journal. Entries,
//     too, have room before they are written (sizes): if the state would grow too
//     large for that a SUB is refused.
//   - What follows from no record (a member has gone, a time has come) is said between
//     records, each word together with its entry in the journal.
//   - What is not of the output of one record may be said twice or never, and is said
//     between records: HOLD and RESUME, which a new router makes void, lame-duck
//     INFO, reminders.
//
// Not kept: holds and readers that are behind (the cms say it again), how much a
// subscription without a limit has had since the last snapshot. An UNSUB with a
// maximum that comes after a router's end counts from there.
//
// What the next router reads may be the work of one that was taken over. If it makes
// no sense that is logged with its place, the new one begins without sessions, and
// has the cms end all connections.
//
// A session moves to another cm when its own asks for it (MOVE) and the parent has
// named that one as the successor (CM_RETIRE): a cm that was taken over can push
// nothing into another. ARRIVING is the first that the new cm hears of the
// connection, MOVED the last that the old one does; the move is one entry of the
// journal.
//
// A router that is started while another is there gets ready and writes nothing
// until the parent's first word on a cm, which follows the other's end.
//
// Files: router.go (the loop), link.go (rings of one cm), commit.go (the redo entry,
// room), session.go (client operations), move.go (sessions that move), state.go (what
// outlives the process), journal.go (how its entries are written), replay.go (how they
// are repeated), journal_request.go (both for requests), recover.go (the next router),
// index.go and match.go (who wants a subject), publish.go (the message path), plan.go
// (messages to very many), hold.go (senders that wait), greeting.go (INFO),
// supply.go (what cms greet with), login.go (who a client is: auth is asked), profile.go (what he may), choose.go (modes),
// request.go (who owes answers), ask.go (what the requester is told), affinity.go
// (sessions of the mode of that name), expiry.go (what ends by time), ticket.go (ways
// to other environments), system.go (the state of the broker), stuck.go (who holds up
// whose bodies), settings.go (what changes while it runs), orphan.go (without a parent),
// setup.go (the role's start).
package router
