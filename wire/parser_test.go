package wire

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// Every row was measured against nats-server 2.15 but for a CR within a line,
// where its answer depends on how the bytes came.
var parserTests = []struct {
	name, in, want string
	code           int
}{
	{"ping", "PING\r\n", "PING\r\n", -1},
	{"ping bare lf", "PING\nPONG\n", "PING\r\nPONG\r\n", -1},
	{"any case", "pInG\r\nSuB a 1\r\npub a 0\r\n\r\n", "PING\r\nSUB a 1\r\nPUB a 0\r\n\r\n", -1},
	{"ping junk", "PING junk\r\nPINGjunk\r\nPING\rx\nPONGx\r\n", "PING\r\nPING\r\nPING\r\nPONG\r\n", -1},
	{"ping long junk", "PING " + repeat("x", 9000) + "\r\n", "PING\r\n", -1},
	{"ignored", "+OK\r\n+ok x\r\n+OKx\nINFO {}\r\nINFO{\"a\":1}\r\nINFO null\r\n", repeat("IGNORED\r\n", 6), -1},
	{"info empty", "INFO\r\n", "", 0},
	{"info blank", "INFO \r\n", "", 0},
	{"info no json", "INFO x\r\n", "", 0},
	{"info array", "INFO [1]\r\n", "", 0},
	{"client error", "-ERR 'x'\r\nPING\r\n", "", int(CodeClientError)},
	{"client error lower", "-err\tx\n", "", int(CodeClientError)},
	{"client error empty", "-ERR \r\n", "", int(CodeClientError)},
	{"client error no gap", "-ERR\r\n", "", int(CodeUnknownOp)},
	{"client error long", "-ERR " + repeat("x", 4097), "", int(CodeControlLine)},
	{"unknown at once", "X", "", int(CodeUnknownOp)},
	{"unknown third byte", "PUX", "", int(CodeUnknownOp)},
	{"blank line", "\r\nPING\r\n", "", int(CodeUnknownOp)},
	{"leading space", " PING\r\n", "", int(CodeUnknownOp)},
	{"server op", "MSG a 1 0\r\n\r\n", "", int(CodeUnknownOp)},
	{"server op with headers", "HMSG a 1 0 0\r\n\r\n", "", int(CodeUnknownOp)},
	{"route op", "RS+ a\r\n", "", int(CodeUnknownOp)},
	{"leaf op", "LS+ a\r\n", "", int(CodeUnknownOp)},
	{"account op", "A+ a\r\n", "", int(CodeUnknownOp)},

	{"sub", "SUB foo 1\r\nSUB foo q 2 \nSUB \t foo\t\tq \t3\r\n", "SUB foo 1\r\nSUB foo q 2\r\nSUB foo q 3\r\n", -1},
	{"sub sid any", "SUB foo x\x00\x0by\r\n", "SUB foo x\x00\x0by\r\n", -1},
	{"sub utf8", "SUB foo.é.\xff 1\r\n", "SUB foo.é.\xff 1\r\n", -1},
	{"sub no gap", "SUBfoo 1\r\n", "", int(CodeUnknownOp)},
	{"sub alone", "SUB\r\n", "", int(CodeUnknownOp)},
	{"sub blank", "SUB \r\n", "", 0},
	{"sub one", "SUB foo\r\n", "", 0},
	{"sub four", "SUB a b c d\r\n", "", 0},
	{"sub five", "SUB a b c d e\r\n", "", 0},
	{"sub cr within", "SUB a\rb 1\r\n", "", 0},
	{"sub two cr", "SUB a 1\r\r\n", "", 0},
	{"unsub", "UNSUB 1\r\nUNSUB 1 5\r\nUNSUB x 000000005\r\n", "UNSUB 1\r\nUNSUB 1 5\r\nUNSUB x 5\r\n", -1},
	{"unsub garbage", "UNSUB 1 x\r\nUNSUB 1 -1\r\nUNSUB 1 +1\r\nUNSUB 1 0\r\nUNSUB 1 1000000000\r\nUNSUB 1 0000000001\r\n", repeat("UNSUB 1\r\n", 6), -1},
	{"unsub largest", "UNSUB 1 999999999\r\n", "UNSUB 1 999999999\r\n", -1},
	{"unsub alone", "UNSUB\r\n", "", int(CodeUnknownOp)},
	{"unsub blank", "UNSUB \r\n", "", 0},
	{"unsub three", "UNSUB 1 2 3\r\n", "", 0},

	{"pub", "PUB foo 2\r\nok\r\nPUB foo bar 3\nabc\r\n", "PUB foo 2\r\nok\r\nPUB foo bar 3\r\nabc\r\n", -1},
	{"pub blanks", "PUB  foo \t 000000002 \t\r\nok\r\n", "PUB foo 2\r\nok\r\n", -1},
	{"pub empty", "PUB foo 00\r\n\r\n", "PUB foo 0\r\n\r\n", -1},
	{"pub crlf in payload", "PUB foo 4\r\n\r\n\r\n\r\n", "PUB foo 4\r\n\r\n\r\n\r\n", -1},
	{"pub ten digits", "PUB foo 0000000002\r\nok\r\n", "", 0},
	{"pub negative", "PUB foo -1\r\n", "", 0},
	{"pub plus", "PUB foo +1\r\n", "", 0},
	{"pub no number", "PUB a xx\r\n", "", 0},
	{"pub junk number", "PUB a 2x\r\n", "", 0},
	{"pub one", "PUB foo\r\n", "", 0},
	{"pub four", "PUB foo a b 2\r\n", "", 0},
	{"pub alone", "PUB\r\n", "", int(CodeUnknownOp)},
	{"pub no gap", "PUBfoo 2\r\n", "", int(CodeUnknownOp)},
	{"pub cr gap", "PUB\rfoo 2\r\n", "", int(CodeUnknownOp)},
	{"pub cr within", "PUB foo\r2\r\n", "", 0},
	{"pub two cr", "PUB foo 2\r\r\nok\r\n", "", 0},
	{"pub bare lf after payload", "PUB foo 2\r\nok\n", "", int(CodeUnknownOp)},
	{"pub long payload", "PUB foo 2\r\nokX", "", int(CodeUnknownOp)},
	{"pub no lf", "PUB foo 2\r\nok\rX", "", int(CodeUnknownOp)},
	{"pub largest", "PUB foo 1048576\r\n" + repeat("x", 1<<20) + "\r\n", "PUB foo 1048576\r\n" + repeat("x", 1<<20) + "\r\n", -1},
	{"pub too large", "PUB foo 1048577\r\n", "", int(CodeMaxPayload)},
	{"pub nine digits", "PUB foo 999999999\r\n", "", int(CodeMaxPayload)},
	{"pub overflow", "PUB foo 99999999999999999999\r\n", "", 0},

	{"hpub", "HPUB foo 2 5\r\nabcde\r\nhpub foo r 5 5\r\nabcde\r\n", "HPUB foo 2 5\r\nabcde\r\nHPUB foo r 5 5\r\nabcde\r\n", -1},
	{"hpub no header", "HPUB foo 0 2\r\nok\r\nHPUB foo 0 0\r\n\r\n", "HPUB foo 0 2\r\nok\r\nHPUB foo 0 0\r\n\r\n", -1},
	{"hpub header above total", "HPUB foo 3 2\r\n", "", 0},
	{"hpub both too large", "HPUB foo 1048578 1048577\r\n", "", 0},
	{"hpub too large", "HPUB foo 1 1048577\r\n", "", int(CodeMaxPayload)},
	{"hpub bad header", "HPUB foo x 2\r\n", "", 0},
	{"hpub bad total", "HPUB foo 1 x\r\n", "", 0},
	{"hpub overflow", "HPUB foo 1 1000000000\r\n", "", 0},
	{"hpub two", "HPUB foo 2\r\n", "", 0},
	{"hpub five", "HPUB foo a b 1 2\r\n", "", 0},

	{"connect", "CONNECT {}\r\nconnect\t {\"a\" :\r1} \t\nCONNECT{}\r\n", "CONNECT {}\r\nCONNECT {\"a\" :\r1} \t\r\nCONNECT {}\r\n", -1},
	{"connect empty", "CONNECT\r\n", "", 0},
	{"connect blank", "CONNECT \t\r\n", "", 0},
	{"connect longest", "CONNECT " + repeat("x", 65536) + "\r\n", "CONNECT " + repeat("x", 65536) + "\r\n", -1},
	{"connect too long", "CONNECT " + repeat("x", 65537), "", int(CodeControlLine)},

	{"line longest", "SUB " + repeat("x", 4094) + " 1\r\n", "SUB " + repeat("x", 4094) + " 1\r\n", -1},
	{"line longest lf", "SUB " + repeat("x", 4094) + " 1\n", "SUB " + repeat("x", 4094) + " 1\r\n", -1},
	{"line longest, space last", "SUB " + repeat("x", 4093) + " 1 \r\n", "SUB " + repeat("x", 4093) + " 1\r\n", -1},
	{"line too long, space last", "SUB " + repeat("x", 4094) + " 1 \r\n", "", int(CodeControlLine)},
	{"line too long", "SUB " + repeat("x", 4095) + " 1\r\n", "", int(CodeControlLine)},
	{"line too long, no end", "SUB " + repeat("x", 4097), "", int(CodeControlLine)},
	{"line too long, cr cr", "SUB " + repeat("x", 4096) + "\r\r", "", int(CodeControlLine)},
	{"line spaces within", "SUB x" + repeat(" ", 4095) + "1\r\n", "", int(CodeControlLine)},
	{"line spaces before", "SUB" + repeat(" ", 9000) + "a 1\r\n", "SUB a 1\r\n", -1},
	{"pub line too long", "PUB " + repeat("x", 4095) + " 0\r\n", "", int(CodeControlLine)},
}

func TestParser(t *testing.T) {
	for _, tt := range parserTests {
		t.Run(tt.name, func(t *testing.T) {
			want := trace{text: tt.want, code: tt.code, started: tt.code >= 0}
			if got := model(tt.in, lims); got != want {
				t.Fatalf("model: got %+v, want %+v", short(got), short(want))
			}
			if got := run(t, lims, tt.in); got != want {
				t.Errorf("got %+v, want %+v", short(got), short(want))
			}
			if len(tt.in) < 70000 {
				if got := run(t, lims, strings.Split(tt.in, "")...); got != want {
					t.Errorf("by bytes: got %+v, want %+v", short(got), short(want))
				}
			}
			for k := 1; k < len(tt.in) && len(tt.in) < 1000; k++ {
				if got := run(t, lims, tt.in[:k], tt.in[k:]); got != want {
					t.Fatalf("cut at %d: got %+v, want %+v", k, short(got), short(want))
				}
			}
		})
	}
}

func short(tr trace) trace {
	tr.text = tr.text[:min(len(tr.text), 200)]
	return tr
}

func TestUnfinished(t *testing.T) {
	for _, tt := range []struct {
		in      string
		started bool
		left    int
	}{
		{"", false, 0}, {"PING\r\n", false, 0}, {"P", true, 0}, {"PUB", true, 0}, {"PUB ", true, 0}, {"PUB foo", true, 0},
		{"PUB foo 3\r", true, 0}, {"PUB foo 3\r\n", true, 3}, {"PUB foo 3\r\nab", true, 1}, {"PUB foo 3\r\nabc", true, 0},
		{"PUB foo 3\r\nabc\r", true, 0}, {"PUB foo 3\r\nabc\r\n", false, 0}, {"PING xx", true, 0}, {"-ERR x", true, 0},
		{"SUB " + repeat("x", 4096) + "\r", true, 0},
	} {
		got := run(t, lims, tt.in)
		if got.code >= 0 || got.started != tt.started || got.left != tt.left {
			t.Errorf("%q: %+v", tt.in, short(got))
		}
	}
}

func TestHeadersNotAnnounced(t *testing.T) {
	for _, in := range []string{"HPUB a 0 0\r\n\r\n", "HPUB a x y\r\n", "HPUB \r\n"} {
		var p Parser
		var f Frame
		_, _, err := p.Next([]byte(in), &lims, &f)
		if e, ok := err.(*Error); !ok || e.Code != CodeBareClose {
			t.Errorf("%q: %v", in, err)
		}
	}
	var p Parser
	var f Frame
	p.SetHeaders(true)
	p.SetHeaders(false)
	if _, _, err := p.Next([]byte("HPUB a 0 0\r\n\r\n"), &lims, &f); err == nil {
		t.Error("allowed after SetHeaders(false)")
	}
}

func TestDead(t *testing.T) {
	var p Parser
	var f Frame
	p.Next([]byte("PUB foo 1048577\r\n"), &lims, &f)
	for range 2 {
		n, ev, err := p.Next([]byte("PING\r\n"), &lims, &f)
		if e, ok := err.(*Error); n != 0 || ev != NeedMore || !ok || e.Code != CodeMaxPayload {
			t.Fatal(n, ev, err)
		}
	}
}

// TestSkip has the caller read payload bytes past the parser.
func TestSkip(t *testing.T) {
	const body = "0123456789"
	for first := range len(body) {
		for skip := range len(body) - first + 1 {
			var p Parser
			var f Frame
			in := []byte("PUB foo 10\r\n" + body[:first])
			if n, ev, err := p.Next(in, &lims, &f); n != len(in) || ev != MessageStart || err != nil || string(f.Body) != body[:first] {
				t.Fatal(n, ev, err)
			}
			p.Skip(skip)
			if p.Remaining() != len(body)-first-skip || !p.Started() {
				t.Fatalf("remaining %d after %d and %d", p.Remaining(), first, skip)
			}
			in = []byte(body[first+skip:] + "\r\nPING\r\n")
			n, ev, err := p.Next(in, &lims, &f)
			if ev != MessageEnd || err != nil || string(f.Body) != body[first+skip:] || f.Op != OpPub || string(in[n:]) != "PING\r\n" {
				t.Fatal(n, ev, err, f)
			}
			p.Skip(1)
			if p.Started() {
				t.Fatal("started by Skip outside a payload")
			}
		}
	}
}

func TestSkipTooMuch(t *testing.T) {
	var p Parser
	var f Frame
	p.Next([]byte("PUB foo 10\r\n"), &lims, &f)
	p.Skip(99)
	if _, ev, err := p.Next([]byte("\r\n"), &lims, &f); ev != MessageEnd || err != nil {
		t.Fatal(ev, err)
	}
}

// TestFrames looks at the fields that a trace cannot tell apart.
func TestFrames(t *testing.T) {
	for in, want := range map[string]Frame{
		"PUB s 2\r\nok\r\n":      {Op: OpPub, Subject: []byte("s"), HeaderLen: -1, Size: 2, Body: []byte("ok")},
		"PUB s r 2\r\nok\r\n":    {Op: OpPub, Subject: []byte("s"), Reply: []byte("r"), HeaderLen: -1, Size: 2, Body: []byte("ok")},
		"HPUB s 0 2\r\nok\r\n":   {Op: OpHPub, Subject: []byte("s"), HeaderLen: 0, Size: 2, Body: []byte("ok")},
		"HPUB s r 1 2\r\nok\r\n": {Op: OpHPub, Subject: []byte("s"), Reply: []byte("r"), HeaderLen: 1, Size: 2, Body: []byte("ok")},
		"SUB s 1\r\n":            {Op: OpSub, Subject: []byte("s"), SID: []byte("1"), HeaderLen: -1},
		"SUB s q 1\r\n":          {Op: OpSub, Subject: []byte("s"), Queue: []byte("q"), SID: []byte("1"), HeaderLen: -1},
		"UNSUB 1 9\r\n":          {Op: OpUnsub, SID: []byte("1"), Max: 9, HeaderLen: -1},
		"CONNECT {}\r\n":         {Op: OpConnect, Arg: []byte("{}"), HeaderLen: -1},
		"PING\r\n":               {Op: OpPing, HeaderLen: -1},
		"+OK\r\n":                {Op: OpIgnored, HeaderLen: -1},
	} {
		var p Parser
		p.SetHeaders(true)
		f := Frame{Subject: []byte("stale"), Reply: []byte("stale"), Queue: []byte("stale"), SID: []byte("stale"), Arg: []byte("stale"), Body: []byte("stale"), Max: 3, Size: 4}
		if _, _, err := p.Next([]byte(in), &lims, &f); err != nil {
			t.Errorf("%q: %v", in, err)
		}
		f.args = args{}
		if !reflect.DeepEqual(f, want) {
			t.Errorf("%q: %+v", in, f)
		}
	}
}

func TestVerbTable(t *testing.T) {
	seen := map[string]bool{}
	bytes := 0
	for i, o := range ops {
		if seen[o.verb] || o.verb != strings.ToLower(o.verb) || (o.form == formJunk) != (o.decode == nil) || o.max > maxArgs {
			t.Errorf("row %d: %+v", i, o)
		}
		seen[o.verb] = true
		bytes += len(o.verb)
	}
	if bytes >= verbNodes || len(ops) >= verbDone {
		t.Errorf("%d verb bytes, %d rows", bytes, len(ops))
	}
	if ops[rowPub].verb != "pub " || !isPub([]byte("pUb x")) || isPub([]byte("PUB\tx")) || isPub([]byte("PUB ")) || isPub([]byte("PUB  x")) || isPub([]byte("0UB x")) {
		t.Error("isPub")
	}
}

func TestSize(t *testing.T) {
	if n := reflect.TypeFor[Parser]().Size(); n > 96 {
		t.Errorf("a parser has %d bytes", n)
	}
}

func TestNoAllocation(t *testing.T) {
	var p Parser
	p.SetHeaders(true)
	var f Frame
	for _, in := range []string{"PUB foo bar 5\r\nhello\r\n", "HPUB foo 0 5\r\nhello\r\n", "SUB foo q 1\r\n", "UNSUB 1 5\r\n", "PING\r\n", "CONNECT {}\r\n"} {
		b := []byte(in)
		for _, cut := range []int{0, 1, len(b) / 2, len(b) - 1} {
			n := testing.AllocsPerRun(100, func() {
				for _, rest := range [][]byte{b[:cut], b[cut:]} {
					for len(rest) > 0 {
						n, _, err := p.Next(rest, &lims, &f)
						if err != nil {
							t.Fatal(err)
						}
						rest = rest[n:]
					}
				}
			})
			if n != 0 {
				t.Errorf("%q cut at %d: %v allocations", in, cut, n)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for _, s := range []string{"", "0", "9", "10", "007", "999999999", "1000000000", "0000000001", "-1", "+1", " 1", "1 ", "1x", "x", "/", ":", "\xff"} {
		checkNumber(t, s)
	}
}

func checkNumber(t *testing.T, s string) {
	t.Helper()
	want, err := strconv.ParseUint(s, 10, 64)
	valid := err == nil && len(s) <= maxDigits
	if got, ok := number([]byte(s)); ok != valid || valid && uint64(got) != want {
		t.Errorf("%q: %d %v", s, got, ok)
	}
}
