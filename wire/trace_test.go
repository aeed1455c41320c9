package wire

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

var lims = Limits{ControlLine: 4096, Connect: 65536, Payload: 1 << 20}

// trace is what a stream of bytes came to, independent of how it was cut.
type trace struct {
	text    string // every op in normal form, with what came of a last payload
	code    int    // -1: no error; text ends with the last good op otherwise
	started bool
	left    int
}

// tracer feeds a parser and writes down what it says.
type tracer struct {
	t    testing.TB
	p    Parser
	lim  Limits
	out  []byte
	good int // bytes of out that are complete ops
	code int
}

func newTracer(t testing.TB, lim Limits) *tracer {
	tr := &tracer{t: t, lim: lim, code: -1}
	tr.p.SetHeaders(true)
	return tr
}

// feed gives the parser one piece in memory that is overwritten afterwards.
func (tr *tracer) feed(piece string) {
	b := []byte(piece)
	for rest := b; len(rest) > 0 && tr.code < 0; {
		f := Frame{Max: -7}
		n, ev, err := tr.p.Next(rest, &tr.lim, &f)
		tr.check(rest, n, ev, err, &f)
		if tr.code < 0 {
			tr.record(ev, &f)
		}
		rest = rest[n:]
	}
	for i := range b {
		b[i] = '#'
	}
}

func (tr *tracer) check(b []byte, n int, ev Event, err error, f *Frame) {
	tr.t.Helper()
	var e *Error
	switch {
	case n < 0 || n > len(b):
		tr.t.Fatalf("used %d of %d bytes", n, len(b))
	case err != nil && (!errors.As(err, &e) || ev != NeedMore || f.Op != OpNone || f.Max != 0):
		tr.t.Fatalf("error %v with event %d, frame %+v", err, ev, f)
	case err != nil:
		tr.code = int(e.Code)
	case ev == NeedMore && (n != len(b) || f.Max != -7):
		tr.t.Fatalf("wants more with %d bytes left, frame %+v", len(b)-n, f)
	case ev != NeedMore && n == 0 && len(f.Body) == 0 && ev != MessageEnd:
		tr.t.Fatalf("event %d of nothing", ev)
	}
	most := max(tr.lim.ControlLine, tr.lim.Connect) + 1
	if cap(tr.p.spill) > most {
		tr.t.Fatalf("holds %d bytes, limit %d", cap(tr.p.spill), most)
	}
	if !tr.p.Started() && (tr.p.spill != nil || tr.p.held != 0) {
		tr.t.Fatal("holds bytes between ops")
	}
}

func (tr *tracer) record(ev Event, f *Frame) {
	switch ev {
	case Control, Message, MessageStart:
		tr.out = appendFrame(tr.out, f)
		fallthrough
	case MessagePart, MessageEnd:
		tr.out = append(tr.out, f.Body...)
	}
	if ev == Message || ev == MessageEnd {
		tr.out = append(tr.out, "\r\n"...)
	}
	if !tr.p.Started() {
		tr.good = len(tr.out)
	}
}

func (tr *tracer) result() trace {
	if tr.code >= 0 {
		tr.out = tr.out[:tr.good]
	}
	return trace{string(tr.out), tr.code, tr.p.Started(), tr.p.Remaining()}
}

// appendFrame writes an op in normal form: verb in capitals, one SP, CRLF.
func appendFrame(dst []byte, f *Frame) []byte {
	verb := [...]string{OpConnect: "CONNECT", OpPub: "PUB", OpHPub: "HPUB", OpSub: "SUB", OpUnsub: "UNSUB", OpPing: "PING", OpPong: "PONG", OpIgnored: "IGNORED"}[f.Op]
	dst = append(dst, verb...)
	for _, arg := range [][]byte{f.Subject, f.Reply, f.Queue, f.SID, f.Arg} {
		if arg != nil {
			dst = append(append(dst, ' '), arg...)
		}
	}
	if f.Max > 0 {
		dst = fmt.Appendf(dst, " %d", f.Max)
	}
	if f.HeaderLen >= 0 {
		dst = fmt.Appendf(dst, " %d", f.HeaderLen)
	}
	if f.Op == OpPub || f.Op == OpHPub {
		dst = fmt.Appendf(dst, " %d", f.Size)
	}
	return append(dst, "\r\n"...)
}

// run parses pieces in turn.
func run(t testing.TB, lim Limits, pieces ...string) trace {
	t.Helper()
	tr := newTracer(t, lim)
	for _, piece := range pieces {
		tr.feed(piece)
	}
	return tr.result()
}

// mustSeed fails a fuzz target whose corpus folder has fewer than least files.
func mustSeed(f *testing.F, least int) {
	f.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", "fuzz", f.Name(), "*"))
	if err != nil || len(found) < least {
		f.Fatalf("%d seeds for %s, want %d: %v", len(found), f.Name(), least, err)
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it):\n%s", path, got)
	}
}

func repeat(s string, n int) string { return strings.Repeat(s, n) }
