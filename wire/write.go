package wire

import (
	"bytes"
	"strconv"
)

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
		dst = appendSize(dst, headerLen)
		dst = append(dst, ' ')
	}
	dst = appendSize(dst, size)
	return append(dst, '\r', '\n')
}

// appendSize is strconv.AppendInt, which takes a quarter of a short message's time, for
// sizes that are mostly short.
func appendSize(dst []byte, n int) []byte {
	switch {
	case n < 0 || n > 999:
		return strconv.AppendInt(dst, int64(n), 10)
	case n > 99:
		return append(dst, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
	case n > 9:
		return append(dst, byte('0'+n/10), byte('0'+n%10))
	}
	return append(dst, byte('0'+n))
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

// AppendStatus appends a whole message without payload that tells the owner of the
// subscription sid on subject how its request stands: code has three digits, text may
// be empty, lines are header lines, each with its CRLF.
func AppendStatus(dst, subject, sid []byte, code int, text string, lines []byte) []byte {
	n := len("NATS/1.0 000\r\n\r\n") + len(lines)
	if text != "" {
		n += 1 + len(text)
	}
	dst = AppendMsg(dst, subject, sid, nil, n, n)
	dst = strconv.AppendInt(append(dst, "NATS/1.0 "...), int64(code), 10)
	if text != "" {
		dst = append(append(dst, ' '), text...)
	}
	dst = append(append(dst, "\r\n"...), lines...)
	return append(dst, "\r\n\r\n"...)
}

const fromHeader = "Gatehouse-From: "

// FromSize is what AppendFrom adds to a block at most beside from.
const FromSize = len(firstLine) + len(fromHeader) + 6

// AppendFrom appends the header block of a message whose sender is told: block,
// which may be empty and which [ReadHeaders] has been through, with one more
// header as the last that all clients see. They take the first empty line for the
// end, or read on; nothing after an empty line is a folded part of that header.
func AppendFrom(dst, block, from []byte) []byte {
	if len(block) == 0 {
		block = []byte(firstLine)
	}
	end := emptyLine(block)
	dst = append(dst, block[:end]...)
	if end == len(block) && block[end-1] != '\n' {
		dst = append(dst, '\r', '\n')
	}
	dst = append(dst, fromHeader...)
	dst = append(dst, from...)
	dst = append(dst, '\r', '\n')
	if end == len(block) {
		return append(dst, '\r', '\n')
	}
	return append(dst, block[end:]...)
}

// emptyLine returns where the first empty line of a block is, its length if there
// is none.
func emptyLine(block []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(block[i:], '\n')
		if n < 0 {
			return len(block)
		}
		i += n + 1
		if rest := block[i:]; len(rest) > 0 && rest[0] == '\n' || len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
			return i
		}
	}
}
