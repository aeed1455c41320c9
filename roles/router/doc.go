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
// records, decide, write instructions, publish the outgoing tails, release the
// incoming heads, ring the doorbells of those who sleep. Order per sender and
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
// the word of its next one (DOORBELL) make the link whole again, see over. A new
// router finds its own words as the one before left them: records that it reads
// again and that were named already were routed.
//
// Files: router.go (the loop), link.go (rings of one cm), session.go (client
// operations), index.go and match.go (who wants a subject), publish.go (the
// message path), stuck.go (who holds up whose bodies), settings.go
// (what changes while it runs), setup.go (the role's start).
package router
