// Package wire holds the NATS client protocol: client bytes to frames, and
// what a server answers to bytes. It owns the grammar, the limits, the error
// table and the rules for subjects.
//
// It must never touch sockets, clocks, logs or the environment, nor decide who
// may do what: the cm and the router do, with the codes of this package. No
// byte from a client makes it panic, and none sizes an allocation: a parser
// holds at most one unfinished line, never longer than its limit, and nothing
// between ops.
//
//	client bytes --> Parser.Next --> Frame, or Error{Code} --> AppendErr --> client
//	      (any pieces)    |
//	                      ops: verb, form, number of arguments, decoder
//
// From a client (verbs in any case; a line the table has no row for is an
// unknown operation at its first wrong byte):
//
//	stream   = *op
//	op       = pub / hpub / sub / unsub / connect / info / err / junk
//	pub      = "PUB"  gap subject [gap reply] gap size tail payload CR LF
//	hpub     = "HPUB" gap subject [gap reply] gap hlen gap size tail payload CR LF
//	sub      = "SUB"  gap subject [gap queue] gap sid tail
//	unsub    = "UNSUB" gap sid [gap max] tail
//	connect  = "CONNECT" *sep json eol
//	info     = "INFO" *sep json eol               ; a JSON object, ignored
//	err      = "-ERR" gap *text eol               ; closes without a word
//	junk     = ("PING" / "PONG" / "+OK") *text LF ; the rest is ignored, however long
//	tail     = *sep eol
//	gap      = 1*sep
//	sep      = SP / TAB
//	eol      = [CR] LF
//	subject, reply, queue, sid, max = 1*(any byte but SP, TAB, CR, LF)
//	hlen, size = 1*9DIGIT                         ; hlen <= size, payload = size bytes
//	text     = any byte but LF
//
// A max that is not 1*9DIGIT counts as none. What stands between the first gap
// and eol is bounded by Limits, inclusive. A wrong number of arguments or a bad
// number closes without a word; a payload that no CR LF follows is an unknown
// operation.
//
// In the header block of an HPUB, hlen bytes, the broker reads its own headers and
// takes out those that only it may say (headers.go, strip.go). Names in any case:
//
//	"Gatehouse-Mode" ":" ( "broadcast" / "semaphore" / "session" / "fanout" / "direct" )
//	"Gatehouse-Session" ":" name            ; 1 to 128 visible ASCII characters
//	"Gatehouse-Session-End" ":" anything
//	"Gatehouse-Timeout" ":" ( ms / duration ) ; at least 1 ms, duration as Go has it
//	"Gatehouse-To-Type" ":" name
//	"Gatehouse-To-Organisation" ":" name
//	"Gatehouse-From", "Gatehouse-Expect", "Gatehouse-Answered", "Gatehouse-Lost": not from a client
//
// To a client:
//
//	"INFO" SP json SP CR LF
//	"MSG"  SP subject SP sid [SP reply] SP size CR LF payload CR LF
//	"HMSG" SP subject SP sid [SP reply] SP hlen SP size CR LF payload CR LF
//	"+OK" CR LF    "PING" CR LF    "PONG" CR LF    "-ERR '" text "'" CR LF
package wire
