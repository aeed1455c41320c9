package protocol

import (
	"bytes"
	"strconv"
	"strings"
)

// Code is the status of an answer.
type Code int

// The statuses.
const (
	OK           Code = 200
	Malformed    Code = 400 // the head is not one
	Refused      Code = 403 // by policy, whatever of it
	NoSession    Code = 404 // there is none of that name that this caller may have
	Late         Code = 408 // the head, the session or the turn has not come in time, or what the caller runs is not known
	Conflict     Code = 409 // the session is there and another one than was asked for, or has its reader; Reason says in what
	TooMany      Code = 429 // of what one uid may have
	NotConnected Code = 502 // no session with the server; Reason says why
	Full         Code = 503 // of what all may have, or tlsd is about to end
)

var texts = map[Code]string{
	Malformed: "malformed", Refused: "refused", NoSession: "no such session", Late: "late", Conflict: "conflict",
	TooMany: "too many", NotConnected: "not connected", Full: "full",
}

// String gives the words of a status, "" of OK, which has several.
func (c Code) String() string { return texts[c] }

// MaxAnswer bounds the head of an answer, in bytes: most of it is certificates.
const MaxAnswer = 64 << 10

// Answer is the head of an answer.
type Answer struct {
	Code   Code
	Text   string
	Fields []Field
}

// Field is a line of an answer.
type Field struct{ Name, Value string }

// Get gives the first value of a name, "" if there is none.
func (a *Answer) Get(name string) string {
	for _, f := range a.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Add adds a line, unless it would say nothing. Whatever the value holds stays on it.
func (a *Answer) Add(name, value string) {
	if value != "" {
		a.Fields = append(a.Fields, Field{name, printable(value)})
	}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Append writes the head.
func (a *Answer) Append(dst []byte) []byte {
	dst = append(dst, Name+" "+strconv.Itoa(int(a.Code))+" "+a.Text+"\r\n"...)
	for _, f := range a.Fields {
		dst = append(dst, f.Name+": "+f.Value+"\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AnswerEnd is End for an answer.
func AnswerEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}

// ParseAnswer reads a whole head, up to and with its empty line.
func ParseAnswer(head []byte) (*Answer, error) {
	if len(head) > MaxAnswer || AnswerEnd(head) != len(head) || len(head) == 0 {
		return nil, ErrMalformed
	}
	lines := strings.Split(string(head[:len(head)-4]), "\r\n")
	words := strings.SplitN(lines[0], " ", 3)
	if len(words) != 3 || words[0] != Name {
		return nil, ErrMalformed
	}
	code, err := strconv.Atoi(words[1])
	if err != nil || code < 100 || code > 999 || strconv.Itoa(code) != words[1] {
		return nil, ErrMalformed
	}
	a := &Answer{Code: Code(code), Text: words[2]}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, ErrMalformed
		}
		a.Fields = append(a.Fields, Field{name, value})
	}
	return a, nil
}

// Chunk is the length before a piece, or what stands in its place.
type Chunk uint32

// What stands in the place of a length.
const (
	ReadWanted Chunk = 0 // to tlsd
	Release    Chunk = 0xFFFFFFFF
	Ended      Chunk = 0 // from tlsd, as the rest
	Released   Chunk = 0xFFFFFFFF
	Broken     Chunk = 0xFFFFFFFE
)

// ChunkHeader is the length of a length, ReleaseCount that of what follows a Release: how
// many bytes of the session the caller has read, big endian. MaxChunk bounds a piece in
// either direction, in bytes.
const (
	ChunkHeader  = 4
	ReleaseCount = 8
	MaxChunk     = 1 << 20
)
