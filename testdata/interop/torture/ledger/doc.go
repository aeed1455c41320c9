// Package ledger tells what became of numbered messages.
//
// A stream is what one publisher sends on one subject: messages 1, 2, 3 and so
// on. Each carries, in front of filler that its number determines, a header of 32
// bytes, little endian:
//
//	0       4        8          16       20         24   28
//	| magic | stream | sequence | length | body sum | 0  | header sum |
//
// The sums are CRC-32C, that of the body over all behind the header. A damaged
// body with a sound header is known by its number, so it counts as damaged and
// not as missing too.
//
// A Track is one receiver's view of one stream. It says of each number whether
// it is the next, comes late, or came before, and in the end what is missing.
// There are no clocks and no sockets here.
package ledger
