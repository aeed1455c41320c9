// Package transcript replays testdata/wire/*.txt against a running gatehouse:
// what clients send, byte for byte, and what must come back. Each file is
// replayed twice over TCP, with every burst in one write and with every byte in
// a write of its own (but for the middle of long ones), and must get the same
// answers. Another broker stands in to show that the answers are those that
// clients are used to:
//
//	go test -peer .              the nats-server that testdata/peers names
//	NATS_SERVER=/path go test .  this one
//	go test -update .            rewrites testdata/wire/rules.ok
//
// The binary is $GATEHOUSE, or is built from the checkout. The go command knows
// neither it nor the transcripts as inputs: -count=1 keeps it from an old answer.
//
// # Transcripts
//
// A line is one step. A connection opens at its first one; INFO that a
// transcript doesn't look at is passed over. When all is done, every connection
// must still be open, with nothing unread, unless its end was seen.
//
//	# rule: TAG: WORDS      what follows proves this rule; rules.ok lists them all
//	# differs: REASON       why brokers answer differently in this paragraph
//	config: KEY = VALUE     of [limits]; nats-server has the same names
//	config: tls = HOW       the listener has TLS: after-info, first (before INFO), or
//	                        verify (after INFO, with certificates of clients)
//	A> TEXT                 A sends TEXT and CRLF; such lines in a row are one burst
//	A> EOF                  A closes
//	A< TEXT                 the next that A gets is TEXT and CRLF
//	A< INFO CHECK...        an INFO line: KEY=JSON, KEY~REGEXP, KEY (is there), !KEY,
//	                        KEY==B or KEY!=B (as in the last INFO of B)
//	A< EOF                  the broker has closed A
//	A< refused              nobody listens
//	A<~ REGEXP              a whole line
//	A<? TEXT                such lines in a row come in any order
//	A<+ TEXT                once or more, and then something else
//	A<1 TEXT                such lines in a row come in one TCP segment
//	A<* TEXT                TEXT again and again, maybe cut short, then EOF
//	A,B<% N L M REGEXP      N messages in all; each group 1 matches L to M times
//	A~                      A begins TLS, and the handshake succeeds
//	A=                      open, and nothing else came: PING is answered by PONG
//	wait DURATION           time passes
//	settle                  the broker has dealt with all that was sent and closed
//	leave                   the broker is told to stop
//	gatehouse: STEP         for one broker alone, likewise nats-server:
//
// In TEXT: \r \n \t \\ \) \xHH, \(N*TEXT) for N times TEXT, and \c at the end
// for no CRLF.
package transcript
