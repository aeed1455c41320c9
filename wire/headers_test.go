package wire

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// read gives what is left of a block, and the facts without what is of no
// concern to who reads them.
func read(block string) (string, Facts) {
	var f Facts
	rest := string(ReadHeaders([]byte(block), &f))
	f.said = 0
	return rest, f
}

func TestReadHeaders(t *testing.T) {
	long := repeat("x", maxFact)
	for in, want := range map[string]Facts{
		"":                                    {},
		"NATS/1.0":                            {},
		"NATS/1.0\r\n\r\n":                    {},
		"NATS/1.0\r\nA: b\r\n\r\n":            {},
		"NATS/1.0\r\ng: b\r\n\r\n":            {},
		"NATS/1.0 503 x\r\n\r\n":              {},
		"x\r\nGatehouse-Mode: fanout\r\n\r\n": {},
		// Modes.
		"Gatehouse-Mode: broadcast":                        {Mode: ModeBroadcast},
		"Gatehouse-Mode:semaphore":                         {Mode: ModeSemaphore},
		"gatehouse-mode:\t session \t":                     {Mode: ModeSession},
		"GATEHOUSE-MODE : fanout":                          {Mode: ModeFanout},
		"A: b\r\nGatehouse-Mode: direct":                   {Mode: ModeDirect},
		"Gatehouse-Mode: Fanout":                           {Bad: BadMode},
		"Gatehouse-Mode: fanouts":                          {Bad: BadMode},
		"Gatehouse-Mode:":                                  {Bad: BadMode},
		"Gatehouse-Mode: fanout, direct":                   {Bad: BadMode},
		"Gatehouse-Mode: direct\r\ngatehouse-mode: direct": {Bad: BadMode},
		// No such headers.
		"Gatehouse-Mode":                          {},
		"Gatehouse-Mode fanout":                   {},
		"Gatehouse-Mode\x00: fanout":              {},
		"Gatehouse-Mod: fanout":                   {},
		"Gatehouse-Modes: fanout":                 {},
		"X-Gatehouse-Mode: fanout":                {},
		" Gatehouse-Mode: fanout":                 {},
		"A: b\r\n\r\nGatehouse-Mode: fanout":      {},
		"A: Gatehouse-Mode: fanout":               {},
		"A: b\r\n Gatehouse-Mode: fanout\r\nX: y": {},
		// Line ends of other kinds.
		"A: b\nGatehouse-Mode: fanout\nC: d":  {Mode: ModeFanout},
		"A: b\rGatehouse-Mode: fanout\r C: d": {Mode: ModeFanout},
		// The others.
		"Gatehouse-Session: a!~":                             {Session: []byte("a!~")},
		"Gatehouse-Session: " + long:                         {Session: []byte(long)},
		"Gatehouse-Session: " + long + "x":                   {Bad: BadSession},
		"Gatehouse-Session:":                                 {Bad: BadSession},
		"Gatehouse-Session: a b":                             {Bad: BadSession},
		"Gatehouse-Session: a\tb":                            {Bad: BadSession},
		"Gatehouse-Session: \u00e9":                          {Bad: BadSession},
		"Gatehouse-Session: a\x7f":                           {Bad: BadSession},
		"Gatehouse-Session-End: ":                            {End: true},
		"Gatehouse-Session-End: any thing\x00":               {End: true},
		"Gatehouse-Session-End:1\r\nGatehouse-Session-End:2": {End: true},
		"Gatehouse-Timeout: 500":                             {Timeout: 500},
		"Gatehouse-Timeout: 0":                               {Bad: BadTimeout},
		"Gatehouse-To-Type: pricer":                          {ToType: []byte("pricer")},
		"Gatehouse-To-Type: a b":                             {Bad: BadType},
		"Gatehouse-To-Organisation: acme.example":            {ToOrganisation: []byte("acme.example")},
		"Gatehouse-To-Organisation: a b":                     {Bad: BadOrganisation},
		"Gatehouse-To-Organization: acme":                    {},
		"Gatehouse-Mode: fanout\r\nGatehouse-Timeout: 1s\r\nGatehouse-To-Type: t\r\nGatehouse-To-Organisation: o\r\nGatehouse-Session: s\r\nGatehouse-Session-End: x": {
			Mode: ModeFanout, Timeout: 1000, ToType: []byte("t"), ToOrganisation: []byte("o"), Session: []byte("s"), End: true},
		// The first that is malformed counts, and nothing else.
		"Gatehouse-Mode: fanout\r\nGatehouse-Timeout: x\r\nGatehouse-Session: \r\nGatehouse-To-Type: t": {Bad: BadTimeout},
	} {
		block := in
		if !strings.HasPrefix(in, "NATS") && !strings.HasPrefix(in, "x\r\n") && in != "" {
			block = "NATS/1.0\r\n" + in + "\r\n\r\n"
		}
		if rest, got := read(block); rest != block || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v; left %q", block, got, want, rest)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "500": 500, "000500": 500, "4294967295": 4294967295, "4294967296": 4294967295, "99999999999999999999999999": 4294967295,
		"500ms": 500, "+1s": 1000, "1.5s": 1500, "1.0015s": 1001, ".5s": 500, "1.s": 1000, "2m3s": 123000, "1h": 3600000, "1ms1us": 1,
		"1000us": 1, "1000\u00b5s": 1, "1000\u03bcs": 1, "1000000ns": 1, "0.5ms0.5ms": 1, "0s1ms": 1, "2000h": 4294967295,
		"999999999999999999999999h": 4294967295, "0.000000000000000000000000001h1ms": 1,
		"": 0, "0": 0, "0s": 0, "999us": 0, "-1": 0, "-1s": 0, "+1": 0, "+": 0, "1x": 0, "s": 0, ".s": 0, ".": 0, "1 s": 0, "1s ": 0, "1e3": 0, "1s2": 0,
		"0x10": 0, "1_000": 0, "1.2.3s": 0, "1s-1ms": 0, "\u0661": 0,
	} {
		if got, ok := parseTimeout([]byte(in)); ok != (want > 0) || ok && int64(got) != want {
			t.Errorf("%q: %d, %v", in, got, ok)
		}
	}
}

// FuzzTimeout: durations are package time's, in whole milliseconds.
func FuzzTimeout(f *testing.F) {
	mustSeed(f, 2)
	for _, in := range []string{"500", "1h2m3s4ms5us6ns", "1.5s", "-1s", "9223372036854775807ns"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, ok := parseTimeout([]byte(in))
		if d, err := time.ParseDuration(in); err == nil && in != "0" && in != "+0" {
			want := min(d.Milliseconds(), 1<<32-1)
			if ok != (want > 0) || ok && int64(got) != want {
				t.Fatalf("%q: %d, %v; want %d", in, got, ok, want)
			}
		}
		if !ok && got != 0 && strings.Trim(in, "0123456789") != "" {
			t.Fatalf("%q: refused with %d", in, got)
		}
	})
}

// What is taken out, and what only looks like it.
func TestStrip(t *testing.T) {
	const head, tail = "NATS/1.0\r\n", "\r\n"
	for in, want := range map[string]string{
		"Gatehouse-From: me\r\n":                                       "",
		"gatehouse-from:me\r\nGATEHOUSE-EXPECT: 1\r\n":                 "",
		"Gatehouse-Answered: 1\r\nGatehouse-Lost: 0\r\n":               "",
		"A: b\r\nGatehouse-From: me\r\nC: d\r\n":                       "A: b\r\nC: d\r\n",
		"Gatehouse-From: a\r\nA: b\r\nGatehouse-From: c\r\n":           "A: b\r\n",
		"Gatehouse-From : me\r\n":                                      "",
		"Gatehouse-From\t:me\r\n":                                      "",
		" Gatehouse-From: me\r\nA: b\r\n":                              "A: b\r\n",
		"\x0b\x00\xa0Gatehouse-From: me\r\n":                           "",
		"\xef\xbb\xbfGatehouse-From: me\r\n":                           "",
		": Gatehouse-From: me\r\n":                                     "",
		"Gatehouse-From\x00x: me\r\n":                                  "",
		"Gatehouse-From me\r\n":                                        "",
		"Gatehouse-From\r\n":                                           "",
		"Gatehou\u017fe-From: me\r\n":                                  "",
		"A: b\nGatehouse-From: me\nC: d\r\n":                           "A: b\nC: d\r\n",
		"A: b\rGatehouse-From: me\rC: d\r\n":                           "A: b\rC: d\r\n",
		"A: b\rGatehouse-From: me\n\nC: d\r\n":                         "A: b\r\n\nC: d\r\n",
		"A: b\rGatehouse-From: me\r\n\nC: d\r\n":                       "A: b\r\n\nC: d\r\n",
		"A: b\r\n\r\nGatehouse-From: me\r\n":                           "A: b\r\n\r\n",
		"Gatehouse-From: me\r\n and more\r\n\tstill\r\nA: b\r\n c\r\n": "A: b\r\n c\r\n",
		"A: b\r\n Gatehouse-From: me\r\n":                              "A: b\r\n",
		// These stay.
		"X-Gatehouse-From: me\r\n":    "=",
		"Gatehouse-Fromage: me\r\n":   "=",
		"Gatehouse-From-: me\r\n":     "=",
		"Gatehouse_From: me\r\n":      "=",
		"A: Gatehouse-From: me\r\n":   "=",
		"A: b, Gatehouse-From:\r\n":   "=",
		"Gatehouse-Mode: fanout\r\n":  "=",
		"Gate\r\nhouse-From: me\r\n":  "=",
		"Gatehouse-\r\n From: me\r\n": "=",
		"A:\r\n b\r\n":                "=",
	} {
		if want == "=" {
			want = in
		}
		if got, _ := read(head + in + tail); got != head+want+tail {
			t.Errorf("%q: %q, want %q", in, got, head+want+tail)
		}
	}
}

// A block that does not begin, or end, as one.
func TestStripOdd(t *testing.T) {
	for in, want := range map[string]string{
		"NATS/1.0 503 Gone\r\nA: b\r\n\r\n":                                                 "=",
		"NATS/1.0 xGatehouse-From: me\r\nA: b\r\n\r\n":                                      "NATS/1.0 x\r\nA: b\r\n\r\n",
		"NATS/1.0\nXGatehouse-From: me\r\n\r\n":                                             "NATS/1.0\n\r\n",
		"NATS/1.0\nA: b\r\nGatehouse-From: me\r\nC: d\r\n\r\n":                              "NATS/1.0\nA: b\r\nC: d\r\n\r\n",
		"Gatehouse-From: me\r\nA: b\r\n\r\n":                                                "\r\nA: b\r\n\r\n",
		"Gatehouse-From: me":                                                                "",
		"\n\n\n\n\n\n\n\n\nXGatehouse-From: me\n":                                           "\n\n\n\n\n\n\n\n\n",
		"\xef\xbb\xbfNATS/1.0\r\nGatehouse-From: me\r\n\r\n":                                "\xef\xbb\xbfNATS/1.0\r\n\r\n",
		"NATS/1.0\r\nA: b\r\nGatehouse-From: me":                                            "NATS/1.0\r\nA: b\r\n",
		"NATS/1.0\r":                                                                        "=",
		"NATS/1.0 Gatehouse-Mode\r\nGatehouse-Modes: fanout\r\n\r\n":                        "=",
		"NATS/1.0 gatehouse-fromGATEHOUSE-LOST: 1\r\nA: xGatehouse-Fromage\r\nB: c\r\n\r\n": "NATS/1.0 \r\nB: c\r\n\r\n",
	} {
		if want == "=" {
			want = in
		}
		if got, _ := read(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestStripInPlace: what follows a block is not written to.
func TestStripInPlace(t *testing.T) {
	b := []byte("NATS/1.0\r\nGatehouse-From: me\r\nA: b\r\n\r\npayload")
	n := len(b) - len("payload")
	var f Facts
	rest := ReadHeaders(b[:n], &f)
	if &rest[0] != &b[0] || string(b[n:]) != "payload" || string(rest) != "NATS/1.0\r\nA: b\r\n\r\n" {
		t.Errorf("%q, then %q", rest, b[n:])
	}
	clean := []byte("NATS/1.0\r\nGatehouse-Mode: fanout\r\n\r\n")
	if avg := testing.AllocsPerRun(100, func() { ReadHeaders(clean, &f) }); avg != 0 {
		t.Errorf("%v allocations", avg)
	}
}

// Values stay whatever the modes are called in a table of somebody else.
func TestModeValues(t *testing.T) {
	if !slices.Equal(modes[:], []string{"", "broadcast", "semaphore", "session", "fanout", "direct"}) {
		t.Error(modes)
	}
}
