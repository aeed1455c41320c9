package tlsd

import (
	"bytes"
	"strconv"
	"strings"
)

// exchange is where an HTTP/1.1 conversation is. A program that does not know that it
// shares its session does not say either when it is between one exchange and the next,
// which is the only place where another program can go on. Whatever is not plainly
// HTTP/1.1, or could be read in two ways, is lost: from then on nothing is between
// exchanges. A nil one is of a caller that knows by itself.
type exchange struct {
	requests, answers flow
	waiting           bool // a request has begun whose answer is not whole
	head              bool // that answer has no body
	lost              bool
}

// flow is one direction of it.
type flow struct {
	at      place
	left    uint64 // of a body, or of a chunk with the end of its line
	status  int    // of an answer
	sized   bool   // it has a Content-Length
	chunked bool
	line    []byte // as far as it has come
}

type place uint8

const (
	atStart place = iota
	inHeaders
	inBody
	atChunk // its size
	inTrailers
)

// maxLine bounds a line, in bytes.
const maxLine = 8 << 10

// between tells whether another program could go on here.
func (x *exchange) between() bool {
	return x == nil || !x.lost && !x.waiting && x.requests.between() && x.answers.between()
}

func (f *flow) between() bool { return f.at == atStart && len(f.line) == 0 }

// sent takes what goes to the server.
func (x *exchange) sent(b []byte) {
	if x != nil {
		x.pass(&x.requests, b)
	}
}

// came takes what comes from it.
func (x *exchange) came(b []byte) {
	if x != nil {
		x.pass(&x.answers, b)
	}
}

func (x *exchange) pass(f *flow, b []byte) {
	for len(b) > 0 && !x.lost {
		if f.at == inBody {
			n := min(f.left, uint64(len(b)))
			b, f.left = b[n:], f.left-n
			if f.left == 0 {
				x.bodyEnds(f)
			}
			continue
		}
		end := bytes.IndexByte(b, '\n') + 1
		part := b
		if end > 0 {
			part = b[:end]
		}
		b = b[len(part):]
		if len(f.line)+len(part) > maxLine {
			x.lost = true
			return
		}
		if f.line = append(f.line, part...); end > 0 {
			line, ok := bytes.CutSuffix(f.line, []byte("\r\n"))
			x.lost = !ok || bytes.ContainsAny(line, "\r\x00") || !x.take(f, string(line))
			f.line = f.line[:0]
		}
	}
}

// take takes a line without its end; false: it is lost.
func (x *exchange) take(f *flow, line string) bool {
	switch f.at {
	case atStart:
		f.at, f.left, f.sized, f.chunked = inHeaders, 0, false, false
		if f == &x.requests {
			return x.begin(line)
		}
		return x.status(line)
	case inHeaders:
		if line == "" {
			return x.headEnds(f)
		}
		return f.header(line)
	case atChunk:
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 62)
		f.at, f.left = inBody, n+2
		if n == 0 {
			f.at = inTrailers
		}
		return err == nil
	}
	if line == "" { // behind trailers
		x.done(f)
	}
	return true
}

// begin takes a request's first line. One that comes before the last answer is whole
// leaves no way to tell.
func (x *exchange) begin(line string) bool {
	was := x.waiting
	x.waiting, x.head = true, strings.HasPrefix(line, "HEAD ")
	return !was && strings.HasSuffix(line, " HTTP/1.1") && !strings.HasPrefix(line, "CONNECT ")
}

// status takes an answer's first line.
func (x *exchange) status(line string) bool {
	rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(code, 10, 16)
	x.answers.status = int(n)
	return ok && err == nil && len(code) == 3 && n >= 100 && n != 101 && x.waiting
}

func (f *flow) header(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return false
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(name) {
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 62)
		ok = !f.sized && !f.chunked && err == nil
		f.sized, f.left = true, n
	case "transfer-encoding":
		ok = !f.sized && !f.chunked && strings.EqualFold(value, "chunked")
		f.chunked = true
	case "connection": // close, upgrade
		ok = strings.EqualFold(value, "keep-alive")
	}
	return ok
}

// headEnds is behind the headers.
func (x *exchange) headEnds(f *flow) bool {
	if f == &x.answers {
		if f.status < 200 || f.status == 204 || f.status == 304 || x.head {
			x.done(f)
			return true
		}
		if !f.sized && !f.chunked { // it ends with the connection
			return false
		}
	}
	switch {
	case f.chunked:
		f.at = atChunk
	case f.left > 0:
		f.at = inBody
	default:
		x.done(f)
	}
	return true
}

func (x *exchange) bodyEnds(f *flow) {
	if f.chunked {
		f.at = atChunk
		return
	}
	x.done(f)
}

// done is behind a message.
func (x *exchange) done(f *flow) {
	f.at = atStart
	if f == &x.answers && f.status >= 200 {
		x.waiting = false
	}
}
