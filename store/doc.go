// Package store is the shared memory between the roles: segments, the rings and
// arenas in them, the records in the rings, the connection table. It alone uses
// unsafe (words.go). It has no policy, logs nothing, waits for nothing, and
// never lets what another role wrote size an allocation, pass a bound or reach
// a panic.
//
//	     ring data (producer's)        ring head (consumer's)
//	   0 magic, capacity              0 magic
//	 128 tail ----------------------> reads
//	     reads <-------------------- 128 head
//	 256 want, want at -------------> reads
//	     reads <-------------------- 256 sleeping
//	 512 data: | length u32, stamp u32 | record, padded to 8 | ... | mark |
//
//	     arena (owner's)               returns (one for each cm, its own)
//	   0 magic, index, bytes          0 magic, arenas, slots
//	  64 next, oldest                64 row of arena 0: slots x
//	 128 slots x {off, len, sent}         {seq u48, held u1, touch u15}
//	4096n bodies                         row of arena 1 ...
//
//	     conn table (dispatcher's)     conn columns (one for each cm, its own)
//	 128 counters                    128 counters
//	 512 rows                        512 rows, by the same slots
//
// Laws:
//   - One role writes a segment; the others hold a read-only fd of it, which the
//     kernel neither maps writable nor, for another user, opens for writing.
//   - Tails and heads are absolute, in bytes since the ring was made, and only
//     grow. Publish and Release store one word each and are the only commits: what
//     was not published never was, what was not released comes again.
//   - A record is copied to private memory once and checked there. Indices are
//     read once and kept privately; one that makes no sense is ErrCorrupt for good.
//   - A doorbell is due once per sleep. The sleeper makes its word odd and new,
//     then looks again; the other side stores its index, then looks at the word.
//     Atomics are sequentially consistent, so one of the two sees the other. After
//     a new process took the other end, both sides look without being rung.
//   - Bodies are freed first in, first out: who holds one holds all after it. One
//     is free when as many words carry its number as one of them says in touch.
//     Words and stores say the same when repeated, so a successor may repeat them.
//   - An owner's successor validates the descriptors, then frees what its
//     predecessor had not published (Sent, Recover); a cm's successor finishes what
//     that one held (Hold, Returns.Recover). Arena and returns are made together.
//
// What a role that was taken over can do here to the others:
//   - producer: send any record; bounds and framing hold, the meaning is checked
//     by who reads it. Consumer: stop reading, or have what it did not read
//     overwritten. Either may ring, or not ring, the other.
//   - cm, with its words: never finish, which fills other cms' arenas until it is
//     killed; or finish too early, with a touch count too low or for bodies that it
//     was not named for. Then one body of another cm is reused while a third may
//     still copy it, and clients there see bytes of a later one. It reaches only
//     bodies for which it writes a word; a touch above the number of cms is ignored.
//   - cm, with its arena: change its own clients' bodies at any time; a reader
//     copies once and decides nothing by them.
//
// Numbers of bodies have 48 bits: three years at three million a second.
package store
