package protocol

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Name is what every head names, and Version of this package.
const Name = "GATEHOUSE-TLS/1"

// Bounds of a head and of what is in it, in bytes but for MaxProtocols.
const (
	MaxHead      = 4096
	MaxSession   = 128
	MaxHost      = 253
	MaxProtocols = 8
	MaxProtocol  = 255
)

// Timeouts of callers.
const (
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = time.Hour
)

// Verb is what a caller wants.
type Verb uint8

// The verbs.
const (
	Connect Verb = iota
	Attach
	List
	Close
	numVerbs
)

var verbNames = [numVerbs]string{"CONNECT", "ATTACH", "LIST", "CLOSE"}

// String gives the word.
func (v Verb) String() string { return verbNames[v] }

// Mode is how callers share a session.
type Mode uint8

// The modes.
const (
	Exclusive Mode = iota
	Framed
	Raw
)

var modeNames = []string{"exclusive", "framed", "raw"}

// String gives the word.
func (m Mode) String() string { return modeNames[m] }

// Frame is what a frame is.
type Frame uint8

// The kinds of frames.
const (
	FrameU32 Frame = iota
	FrameLine
)

var frameNames = []string{"u32", "line"}

// String gives the word.
func (f Frame) String() string { return frameNames[f] }

// Read is what a caller in framed mode gets.
type Read uint8

// What it gets.
const (
	ReadOrder Read = iota // answers to its frames
	ReadAll               // all that comes
	ReadNone
)

var readNames = []string{"order", "all", "none"}

// String gives the word.
func (r Read) String() string { return readNames[r] }

// Request is a caller's head. What a verb does not have is zero, and Shared true.
type Request struct {
	Verb    Verb
	Target  string // HOST:PORT; a name or id
	Session string // of Connect, never ""
	Shared  bool
	Mode    Mode
	Frame   Frame
	Read    Read
	SNI     string // "": the host
	ALPN    []string
	Timeout time.Duration
	Chunks  bool
	Chain   bool
	HTTP    bool // RELEASE counts only between two exchanges of HTTP/1.1
}

// ErrMalformed is every mistake in a head.
var ErrMalformed = errors.New("protocol: malformed head")

// header is one line of a request.
type header struct {
	name  string
	verbs []Verb
	set   func(r *Request, value string) bool
	get   func(r *Request) string // "": as by default
}

var (
	connects = []Verb{Connect}
	either   = []Verb{Connect, Attach}
)

var yesNo = []string{"no", "yes"}

var headers = []header{
	{"Session", connects, func(r *Request, v string) bool { r.Session = v; return IsSession(v) },
		func(r *Request) string {
			if r.Session == r.Target {
				return ""
			}
			return r.Session
		}},
	{"Shared", connects, func(r *Request, v string) bool { return setFlag(&r.Shared, v) },
		func(r *Request) string { return word(!r.Shared, "no") }},
	{"Mode", connects, func(r *Request, v string) bool { return oneOf(&r.Mode, v, modeNames) },
		func(r *Request) string { return word(r.Mode != Exclusive, r.Mode.String()) }},
	{"Frame", connects, func(r *Request, v string) bool { return oneOf(&r.Frame, v, frameNames) },
		func(r *Request) string { return word(r.Frame != FrameU32, r.Frame.String()) }},
	{"Read", either, func(r *Request, v string) bool { return oneOf(&r.Read, v, readNames) },
		func(r *Request) string { return word(r.Read != ReadOrder, r.Read.String()) }},
	{"SNI", connects, func(r *Request, v string) bool { r.SNI = v; return isHost(v) }, func(r *Request) string { return r.SNI }},
	{"ALPN", connects, setProtocols, func(r *Request) string { return strings.Join(r.ALPN, ",") }},
	{"Timeout", either, setTimeout, func(r *Request) string { return word(r.Timeout != DefaultTimeout, r.Timeout.String()) }},
	{"Encoding", either, func(r *Request, v string) bool { return oneOf(&r.Chunks, v, []string{"plain", "chunks"}) },
		func(r *Request) string { return word(r.Chunks, "chunks") }},
	{"Release", connects, func(r *Request, v string) bool { return oneOf(&r.HTTP, v, []string{"any", "http"}) },
		func(r *Request) string { return word(r.HTTP, "http") }},
	{"Chain", either, func(r *Request, v string) bool { return setFlag(&r.Chain, v) }, func(r *Request) string { return word(r.Chain, "yes") }},
}

func word(is bool, s string) string {
	if is {
		return s
	}
	return ""
}

// oneOf sets v to the place of a word in a list.
func oneOf[T ~uint8 | ~bool](v *T, s string, list []string) bool {
	i := slices.Index(list, s)
	switch p := any(v).(type) {
	case *bool:
		*p = i == 1
	case *Mode:
		*p = Mode(max(i, 0))
	case *Frame:
		*p = Frame(max(i, 0))
	case *Read:
		*p = Read(max(i, 0))
	}
	return i >= 0
}

func setFlag(v *bool, s string) bool { return oneOf(v, s, yesNo) }

func setProtocols(r *Request, v string) bool {
	r.ALPN = strings.Split(v, ",")
	return len(r.ALPN) <= MaxProtocols && !slices.ContainsFunc(r.ALPN, func(p string) bool { return p == "" || len(p) > MaxProtocol })
}

func setTimeout(r *Request, v string) (ok bool) {
	d, err := time.ParseDuration(v)
	r.Timeout = d
	return err == nil && d > 0 && d <= MaxTimeout
}

// IsSession tells whether s can be the name of a session.
func IsSession(s string) bool {
	return s != "" && len(s) <= MaxSession && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' })
}

func isHost(s string) bool { return s != "" && len(s) <= MaxHost && !strings.ContainsFunc(s, isOdd) }

func isOdd(r rune) bool { return r <= ' ' || r > '~' }

// SplitTarget gives host and port of a Connect's Target.
func SplitTarget(target string) (host string, port uint16, ok bool) {
	host, number, err := net.SplitHostPort(target)
	n, bad := strconv.ParseUint(number, 10, 16)
	if err != nil || bad != nil || n == 0 || !isHost(host) || JoinTarget(host, uint16(n)) != target {
		return "", 0, false
	}
	return host, uint16(n), true
}

// JoinTarget is the inverse of SplitTarget.
func JoinTarget(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// End gives the length of the head that b begins with, 0 if it is not whole yet. More
// than MaxHead bytes without an end are no head, which Parse says.
func End(b []byte) int {
	for at := 0; at < min(len(b), MaxHead); {
		n := bytes.IndexByte(b[at:min(len(b), MaxHead)], '\n')
		if n < 0 {
			return 0
		}
		line := b[at : at+n]
		at += n + 1
		if len(line) == 0 || string(line) == "\r" {
			return at
		}
	}
	return 0
}

// Parse reads a whole head, up to and with its empty line. The request is zero with
// ErrMalformed.
func Parse(head []byte) (Request, error) {
	if len(head) > MaxHead || End(head) != len(head) || len(head) == 0 {
		return Request{}, ErrMalformed
	}
	lines := strings.Split(string(head), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	if strings.ContainsFunc(strings.Join(lines, ""), func(r rune) bool { return r < ' ' || r > '~' }) {
		return Request{}, ErrMalformed
	}
	r := Request{Shared: true}
	if !r.parseFirst(lines[0]) {
		return Request{}, ErrMalformed
	}
	if r.Verb == Connect || r.Verb == Attach {
		r.Timeout = DefaultTimeout
	}
	if !r.parseHeaders(lines[1:len(lines)-2]) || !r.sensible() {
		return Request{}, ErrMalformed
	}
	return r, nil
}

func (r *Request) parseFirst(line string) bool {
	words := strings.Split(line, " ")
	verb := slices.Index(verbNames[:], words[0])
	if verb < 0 || words[len(words)-1] != Name {
		return false
	}
	r.Verb = Verb(verb)
	if r.Verb == List {
		return len(words) == 2
	}
	if len(words) != 3 {
		return false
	}
	if r.Target = words[1]; r.Verb != Connect {
		return IsSession(r.Target)
	}
	r.Session = r.Target
	_, _, ok := SplitTarget(r.Target)
	return ok
}

func (r *Request) parseHeaders(lines []string) bool {
	var seen [16]bool
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		i := slices.IndexFunc(headers, func(h header) bool { return h.name == name })
		if !ok || i < 0 || seen[i] || !slices.Contains(headers[i].verbs, r.Verb) || !headers[i].set(r, strings.Trim(value, " ")) {
			return false
		}
		seen[i] = true
	}
	return true
}

// sensible tells whether the headers go together.
func (r *Request) sensible() bool {
	switch {
	case r.Verb != Connect:
		return true
	case !IsSession(r.Session), !r.Shared && r.Mode != Exclusive, r.Mode == Raw && !r.Chunks, r.HTTP && (r.Mode != Exclusive || !r.Chunks):
		return false
	case r.Mode != Framed:
		return r.Frame == FrameU32 && r.Read == ReadOrder
	}
	return true
}

// Append writes the head of r, which must be one that Parse could have given.
func (r *Request) Append(dst []byte) []byte {
	dst = append(dst, r.Verb.String()...)
	if r.Verb != List {
		dst = append(dst, ' ')
		dst = append(dst, r.Target...)
	}
	dst = append(dst, " "+Name+"\r\n"...)
	for _, h := range headers {
		if v := h.get(r); v != "" && slices.Contains(h.verbs, r.Verb) {
			dst = append(dst, h.name+": "+v+"\r\n"...)
		}
	}
	return append(dst, "\r\n"...)
}
