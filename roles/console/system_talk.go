package console

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// Bounds of what is read.
const (
	maxLine     = 64 << 10 // as max_control_line can be, with the sid and two numbers
	maxQuestion = 16 << 10 // of a request's headers and body; of more nothing is looked at
)

// talkTime is how long a cm may take to read an answer.
const talkTime = 10 * time.Second

// talk is one connection: the client protocol, as far as who answers needs it.
type talk struct {
	server *server
	to     io.Writer
	in     *bufio.Reader
	body   []byte // of the request at hand
	out    []byte
	seq    uint64
}

// hello has this be one of a queue group, so that of two consoles one answers.
const hello = `CONNECT {"verbose":false,"pedantic":false,"headers":true,"echo":false,"protocol":0,"lang":"go","name":"console"}` +
	"\r\nSUB $SYS.REQ.> console 1\r\n"

// errTalk is about what no cm sends.
var errTalk = errors.New("not the client protocol")

// run reads until the end, and answers one request after the other.
func (t *talk) run(from io.Reader) error {
	t.in = bufio.NewReaderSize(from, maxLine)
	line, err := t.line()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("INFO ")) {
		return errTalk
	}
	if err := t.write([]byte(hello)); err != nil {
		return err
	}
	for {
		line, err := t.line()
		if err == nil {
			err = t.operation(line)
		}
		if err != nil {
			return err
		}
	}
}

// line reads one, without its end.
func (t *talk) line() ([]byte, error) {
	line, err := t.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errTalk
	case err != nil:
		return nil, err
	case len(line) < 2 || line[len(line)-2] != '\r':
		return nil, errTalk
	}
	return line[:len(line)-2], nil
}

func (t *talk) operation(line []byte) error {
	verb, rest, _ := bytes.Cut(line, []byte{' '})
	switch string(verb) {
	case "MSG":
		return t.message(bytes.Split(rest, []byte{' '}), 0)
	case "HMSG":
		return t.message(bytes.Split(rest, []byte{' '}), 1)
	case "PING":
		return t.write([]byte("PONG\r\n"))
	case "PONG", "+OK", "INFO":
		return nil
	case "-ERR": // an answer that may not be given; what ends the connection is seen by that
		return nil
	}
	return errTalk
}

// message takes a request and answers it: "subject sid [reply] [headers] size".
func (t *talk) message(args [][]byte, headers int) error {
	if n := len(args) - headers; n != 3 && n != 4 || string(args[1]) != "1" || bytes.ContainsAny(args[n-2], "\t\r") {
		return errTalk
	}
	subject, reply := string(args[0]), ""
	if len(args)-headers == 4 {
		reply = string(args[2])
	}
	size, ok := number(args[len(args)-1])
	skip := 0
	if headers > 0 && ok {
		skip, ok = number(args[len(args)-2])
	}
	if !ok || skip > size {
		return errTalk
	}
	long, err := t.payload(size)
	if err != nil || reply == "" {
		return err
	}
	q := question{subject: subject, long: long}
	if !long {
		q.body = t.body[skip:]
	}
	t.seq++
	return t.answer(reply, t.server.system(&q, t.seq))
}

// maxSize is more than any max_payload.
const maxSize = 1 << 30

// number reads digits.
func number(b []byte) (int, bool) {
	n, err := strconv.ParseUint(string(b), 10, 31)
	return int(n), err == nil && n <= maxSize
}

// payload reads a payload and its end. One that is too long is thrown away.
func (t *talk) payload(size int) (long bool, err error) {
	t.body = t.body[:0]
	if long = size > maxQuestion; long {
		_, err = io.CopyN(io.Discard, t.in, int64(size))
	} else {
		t.body = append(t.body, make([]byte, size)...)
		_, err = io.ReadFull(t.in, t.body)
	}
	if err != nil {
		return long, err
	}
	var end [2]byte
	if _, err = io.ReadFull(t.in, end[:]); err == nil && end != [2]byte{'\r', '\n'} {
		err = errTalk
	}
	return long, err
}

// nobody is what nats-server says where there is nobody to answer.
const nobody = "NATS/1.0 503\r\n\r\n"

// answer sends one.
func (t *talk) answer(reply string, a reaction) error {
	b := t.out[:0]
	switch {
	case a.nobody:
		b = append(append(b, "HPUB "...), reply...)
		n := strconv.Itoa(len(nobody))
		b = append(append(b, " "+n+" "+n+"\r\n"...), nobody...)
	case a.body == nil:
		return nil
	default:
		b = append(append(b, "PUB "...), reply...)
		b = append(strconv.AppendInt(append(b, ' '), int64(len(a.body)), 10), "\r\n"...)
		b = append(b, a.body...)
	}
	b = append(b, "\r\n"...)
	if t.out = nil; cap(b) <= maxLine { // a long one is not kept
		t.out = b
	}
	return t.write(b)
}

func (t *talk) write(b []byte) error {
	if d, ok := t.to.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(time.Now().Add(talkTime))
	}
	_, err := t.to.Write(b)
	return err
}
