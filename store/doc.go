// Package store is the shared memory between the roles: segments, the rings and
// arenas in them, the records in the rings, the connection table. It alone uses
// unsafe (words.go). It has no policy, logs nothing, waits for nothing, and
// never lets what another role wrote size an allocation, pass a bound or reach
// a panic.
//
//	     ring data (producer's)        ring head (consumer's)
//	   0 magic, capacity              0 magic
//	 128 tail ----------------------> reads
//	     reads <-------------------- 128 head, closed
//	 256 want, want at -------------> reads
//	     reads <-------------------- 256 sleeping
//	 512 data: | length u32, stamp u32 | record, padded to 8 | ... | mark |
//
//	     arena (its cm's)              named (one for each arena, the router's)
//	   0 magic, index, bytes          0 magic, slots, last committed
//	4096 bodies                      64 slots x {seq, cms as bits}
//
//	     returns (one for each cm, its own)
//	   0 magic, arenas, slots
//	  64 row of arena 0: slots x seq
//	     row of arena 1 ...
//
//	     conn table (dispatcher's)     conn columns (one for each cm, its own)
//	 128 counters                    128 counters
//	 512 rows                        512 rows, by the same slots
//
//	     sessions (the router's, for those who watch)
//	 128 counters
//	8192 rows, by the slots of the conn table
//
//	     router state (the router's, nobody else maps it)
//	 128 number of the last complete redo entry
//	 256 redo entries, two in turn
//	8192 journal, two halves in turn
//
// Laws:
//   - One role writes a segment; the others hold a read-only fd of it, which the
//     kernel neither maps writable nor, for another user, opens for writing.
//   - Tails and heads are absolute, in bytes since the ring was made, and only
//     grow. Publish and Release store one word each and are a cm's only commits: what
//     was not published never was, what was not released comes again.
//   - The router's commit is its redo entry, which speaks of all rings and of the
//     journal at once: tails, heads, bodies that are named, the journal's tail. The
//     words themselves are stored after it, by that router or by the next one, which
//     finds the entry and stores them again (Recover, then Publish and Release).
//   - A record is copied to private memory once and checked there. Indices are
//     read once and kept privately; one that makes no sense is ErrCorrupt until
//     the process that wrote it is replaced.
//   - A doorbell is due once per sleep. The sleeper makes its word odd and new,
//     then looks again; the other side stores its index, then looks at the word.
//     Atomics are sequentially consistent, so one of the two sees the other. After
//     a new process took the other end, both sides look without being rung.
//   - Bodies are numbered one after the other and freed first in, first out: who
//     holds one holds all after it. One is free when the router has named it and
//     the words of all cms that it named carry its number; no other word counts.
//     Nor does the router's, before it is committed (Named.Commit): until then the
//     next router may name others. It is committed before any instruction about the
//     body is published.
//
// The words of the router and of the dispatcher outlive their processes: the next
// one goes on with them. Those of a cm do not, whatever it died of. When a cm's
// process has ended, the router
//
//	routes what is left in the ring, unless that makes no sense; stays where it is
//	Producer.Abandon   counts the instructions to that cm as read
//	Named.Drop         takes it out of all that was named: it copies no more
//	Consumer.Close     says so, with the generation of the process
//
// and the next process of the cm, when it sees that word,
//
//	Producer.Restart, Consumer.Restart   begins where the router stands
//	Returns.Clear      takes back its predecessor's words, of bodies to come above all
//	NewArena           continues the router's numbers, and gives nothing out until
//	                   all bodies of the predecessor are finished
//
// whereupon the router hears of it, and takes its head for true again
// (Producer.Begun): until then that was its predecessor's,
// so that published bodies live on until they are delivered, and nobody reads a
// new body in the place of an old one.
//
// A page of a segment comes to be when it is first touched, and be it to read zeros.
// So who begins looks only at what was ever written (MapUsed, ConnTable.Reached,
// Named's last body), and a cm gives back what nobody needs: Arena.Discard at its
// end, the words and the arena of one that died, when others have finished with it.
//
// What a role that was taken over can do here to the others:
//   - producer: send any record; bounds and framing hold, the meaning is checked
//     by who reads it. Consumer: stop reading, or have what it did not read
//     overwritten. Either may ring, or not ring, the other.
//   - cm, with its words: not finish what it was named for, which fills other cms'
//     arenas until it has ended. The owner tells the router (RecStuck), which finds
//     the cm by its own entry, that cm's word and how far it has read, and has it
//     ended. A word for anything else has no effect.
//   - cm, with its arena: change its own clients' bodies at any time; a reader
//     copies once and decides nothing by them.
//   - router: anything about who gets which message. What it leaves to the next one
//     has checksums, against accidents, and bounds, against itself: entries are
//     copied one by one, none longer than MaxEntry, and what a router makes of them
//     is its own to check.
//
// Numbers of bodies have 48 bits: three years at three million a second.
package store
