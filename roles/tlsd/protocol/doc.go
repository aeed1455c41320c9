// Package protocol is how local processes speak to tlsd: the bytes, and nothing else.
// Whoever connects to its Unix socket says what it wants in one head, gets another
// one as the answer, and then has the session. Lines end with \n or \r\n, a head with
// an empty line; it has at most MaxHead bytes. Names of headers are as they stand here,
// each comes once at most, and one that is not known is an error.
//
//	CONNECT HOST:PORT GATEHOUSE-TLS/1    a session to that host
//	Session: NAME         of the session; without it HOST:PORT
//	Shared: yes           it is NAME's, and everybody's who may; no: it is this
//	                      connection's, and ends with it
//	Mode: exclusive       or framed, or raw
//	Frame: u32            of framed: a length, 4 bytes, big endian, and as many bytes;
//	                      line: up to and with \n
//	Read: order           of framed: answers to one's own frames, in their order;
//	                      all: whatever comes, one caller at a time; none: nothing
//	SNI: NAME             that the server is asked for, and must prove to be; without
//	                      it HOST
//	ALPN: h2,http/1.1     protocols to offer; none
//	Timeout: 10s          how long this caller waits for a session or for its turn
//	Encoding: plain       or chunks, see below
//	Release: any          of exclusive, with chunks: where RELEASE lets the session go;
//	                      http: between two exchanges of HTTP/1.1, and nowhere else
//	Chain: no             yes: the answer has the server's certificates
//
//	ATTACH NAME GATEHOUSE-TLS/1          to a session that is there, by name or id; may
//	                                     have Read, Timeout, Encoding, Chain
//	LIST GATEHOUSE-TLS/1                 sessions that one may see, a JSON object a line,
//	                                     and an empty line: without it the list is not whole
//	CLOSE NAME GATEHOUSE-TLS/1           ends a session, by name or id
//
// The answer:
//
//	GATEHOUSE-TLS/1 200 opened           or joined, attached, list, closed
//	Session-Id: 6f0c...   32 hexadecimal digits
//	Session: NAME
//	Mode: exclusive
//	Version: 1.3          of TLS
//	Cipher: TLS_AES_128_GCM_SHA256
//	ALPN: h2              if one was agreed on
//	Verify: ok            the certificate is good, for SNI; else there is no session
//	Subject: CN=...       of the certificate
//	Certificate: BASE64   one line for each, the server's own first
//
// or, instead of 200, a status of the table in answer.go, some with a Reason; then there
// is nothing more.
//
// After a 200 come and go the bytes of the session. In exclusive mode they are this
// caller's until it closes the connection. If it has said before that it lets go
// (RELEASE), and has read all that was written to it, the next one goes on; else the
// session ends, since nobody knows what it was in the middle of, unless its policy says
// keep. In framed mode nothing but whole frames goes anywhere. Closing one's sending
// side alone means that one still reads.
//
// With Encoding: chunks, which raw needs, both directions are in pieces, a length of 4
// bytes, big endian, before each; some lengths say something else:
//
//	          to tlsd                          from tlsd
//	n         n bytes                          n bytes
//	0         raw: a read is wanted            the server has ended the session
//	FFFFFFFF  the session is let go (RELEASE); that has been done, the last piece
//	          8 bytes follow, big endian: how
//	          many of it have been read
//	FFFFFFFE                                   the session broke off
//
// In raw mode a piece to tlsd is one write: nothing is sent between its bytes. A read
// that is wanted gets one piece, first come first served.
package protocol
