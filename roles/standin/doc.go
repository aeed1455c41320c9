// Package standin is what surrounds a role that runs without a broker: shared
// memory laid out as the parent lays it out, a channel to a parent, and the
// other side's ends of rings and connection columns.
//
//	         parent channel
//	caller ==================> role, in the same process
//	   |                        |
//	   +-- Ends, Columns -- Memory (real memfds, real mappings)
//
// gatehouse dispatcher|cm|router|auth --debug stands on it, and so do tests of the
// roles. The role's own code runs unchanged: it gets its setup over a real
// channel and maps what it gets with the rights that it gets.
//
// It must never be reached by a broker that serves: nothing here drops a
// privilege or checks who is at the other end.
package standin
