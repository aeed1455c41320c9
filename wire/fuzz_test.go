package wire

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// fuzzLimits makes small limits, so that short inputs meet them.
func fuzzLimits(n uint16) Limits {
	return Limits{ControlLine: int(n % 32), Connect: int(n/32%32) + 16, Payload: int(n / 1024)}
}

// FuzzParser: the parser says what the model says of the whole input, under
// any limits.
func FuzzParser(f *testing.F) {
	mustSeed(f, 3)
	for _, tt := range parserTests {
		if len(tt.in) < 1000 {
			f.Add(tt.in, uint16(0xffff))
		}
	}
	f.Fuzz(func(t *testing.T, in string, n uint16) {
		for _, lim := range []Limits{lims, fuzzLimits(n)} {
			if got, want := run(t, lim, in), model(in, lim); got != want {
				t.Errorf("%q under %+v:\n got %+v\nwant %+v", in, lim, got, want)
			}
		}
	})
}

// FuzzSplit: the way the input is cut changes nothing.
func FuzzSplit(f *testing.F) {
	mustSeed(f, 3)
	for i, tt := range parserTests {
		if len(tt.in) < 1000 {
			f.Add(tt.in, uint16(i), uint16(0xffff), uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, in string, cut, n uint16, seed uint64) {
		for _, lim := range []Limits{lims, fuzzLimits(n)} {
			want := run(t, lim, in)
			k := min(int(cut), len(in))
			if got := run(t, lim, in[:k], in[k:]); got != want {
				t.Errorf("%q cut at %d under %+v:\n got %+v\nwant %+v", in, k, lim, got, want)
			}
			if got := run(t, lim, pieces(in, seed)...); got != want {
				t.Errorf("%q cut by seed %d under %+v:\n got %+v\nwant %+v", in, seed, lim, got, want)
			}
		}
	})
}

// pieces cuts a string into many.
func pieces(s string, seed uint64) (cut []string) {
	random := rand.New(rand.NewPCG(seed, 0))
	for s != "" {
		n := 1 + random.IntN(min(len(s), 9))
		cut, s = append(cut, s[:n]), s[n:]
	}
	return cut
}

// FuzzRoundTrip: what is parsed and written again parses to the same, and is
// then written the same.
func FuzzRoundTrip(f *testing.F) {
	mustSeed(f, 3)
	for _, tt := range parserTests {
		if len(tt.in) < 1000 {
			f.Add(tt.in)
		}
	}
	f.Fuzz(func(t *testing.T, in string) {
		first := run(t, lims, in)
		text := strings.ReplaceAll(first.text, "IGNORED\r\n", "+OK\r\n")
		if strings.Count(text, "IGNORED") > 0 || strings.Contains(in, "IGNORED") {
			return // a payload or subject that looks like our own notation
		}
		second := run(t, lims, text)
		if second.text != first.text || second.code >= 0 {
			t.Errorf("%q\n first %+v\nsecond %+v", in, first, second)
		}
	})
}

// FuzzNumber: numbers are strconv's, of at most nine digits.
func FuzzNumber(f *testing.F) {
	mustSeed(f, 2)
	f.Add("0")
	f.Add("1000000000")
	f.Fuzz(func(t *testing.T, s string) { checkNumber(t, s) })
}

// FuzzMatch: matching is what a regular expression made of the pattern finds.
func FuzzMatch(f *testing.F) {
	mustSeed(f, 3)
	for _, tt := range matchTests {
		f.Add(tt.pattern, tt.subject)
	}
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		want := ValidSubject([]byte(pattern)) && matchRegexp(pattern, subject)
		if got := Match([]byte(pattern), []byte(subject)); got != want {
			t.Errorf("%q %q: %v", pattern, subject, got)
		}
	})
}

func matchRegexp(pattern, subject string) bool {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch token {
		case "*":
			tokens[i] = `[^.]+`
		case ">":
			tokens[i] = `[^.]+(\.[^.]+)*`
		default:
			tokens[i] = regexp.QuoteMeta(latin1(token))
		}
	}
	return regexp.MustCompile(`\A(?s:` + strings.Join(tokens, `\.`) + `)\z`).MatchString(latin1(subject))
}

// latin1 makes a character of each byte: regular expressions see bad UTF-8 as
// all the same.
func latin1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// TestMutated runs streams of good and bad ops with a few bytes changed, cut
// anywhere, under limits of any size, against the model.
func TestMutated(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var parts []string
	for _, tt := range parserTests {
		if len(tt.in) < 200 {
			parts = append(parts, tt.in)
			if tt.code < 0 {
				parts = append(parts, tt.in, tt.in, tt.in)
			}
		}
	}
	long := 0
	for range 5000 {
		var in []byte
		for range 1 + random.IntN(6) {
			in = append(in, parts[random.IntN(len(parts))]...)
		}
		for range random.IntN(3) {
			in[random.IntN(len(in))] = "\r\n \tP0\x00x"[random.IntN(8)]
		}
		lim := lims
		if random.IntN(2) == 0 {
			lim = fuzzLimits(uint16(random.Uint32()))
		}
		want := model(string(in), lim)
		if got := run(t, lim, string(in)); got != want {
			t.Fatalf("%q under %+v:\n got %+v\nwant %+v", in, lim, got, want)
		}
		if got := run(t, lim, pieces(string(in), random.Uint64())...); got != want {
			t.Fatalf("%q in pieces under %+v:\n got %+v\nwant %+v", in, lim, got, want)
		}
		long += len(want.text)
	}
	if long < 50000 {
		t.Errorf("only %d bytes accepted", long)
	}
}
