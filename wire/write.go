package wire

import "strconv"

// Lines without arguments.
const (
	OK   = "+OK\r\n"
	Ping = "PING\r\n"
	Pong = "PONG\r\n"
)

const (
	noRespHead = "NATS/1.0 503\r\nNats-Subject: "
	noRespTail = "\r\n\r\n"
)

// AppendMsg appends the MSG line of a delivery, or HMSG with headerLen > 0:
// size counts the header block and what follows it. The caller appends size
// bytes and CRLF. An empty reply is left out.
func AppendMsg(dst, subject, sid, reply []byte, headerLen, size int) []byte {
	if headerLen > 0 {
		dst = append(dst, 'H')
	}
	dst = append(dst, "MSG "...)
	dst = append(dst, subject...)
	dst = append(dst, ' ')
	dst = append(dst, sid...)
	dst = append(dst, ' ')
	if len(reply) > 0 {
		dst = append(dst, reply...)
		dst = append(dst, ' ')
	}
	if headerLen > 0 {
		dst = strconv.AppendInt(dst, int64(headerLen), 10)
		dst = append(dst, ' ')
	}
	dst = strconv.AppendInt(dst, int64(size), 10)
	return append(dst, '\r', '\n')
}

// AppendNoResponders appends the whole 503 message that tells the owner of the
// subscription sid on reply that nobody got its request on subject.
func AppendNoResponders(dst, reply, sid, subject []byte) []byte {
	n := len(noRespHead) + len(subject) + len(noRespTail)
	dst = AppendMsg(dst, reply, sid, nil, n, n)
	dst = append(dst, noRespHead...)
	dst = append(dst, subject...)
	return append(dst, noRespTail+"\r\n"...)
}
