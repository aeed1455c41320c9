package wire

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/textproto"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Readers of header blocks, each as naive or as lenient as one that clients have:
// they give the names that they find.
var readers = map[string]func(block string) []string{
	"nats.go": func(block string) (names []string) {
		tp := textproto.NewReader(bufio.NewReader(strings.NewReader(block)))
		if first, err := tp.ReadLine(); err != nil || !strings.HasPrefix(first, firstLine) {
			return nil
		}
		for {
			kv, err := tp.ReadLine()
			name, _, ok := strings.Cut(kv, ":")
			if !ok || err != nil {
				return names
			}
			names = append(names, name)
		}
	},
	"nats.js": func(block string) []string { return names(strings.Split(block, "\r\n")[1:]) },
	"nats.py": func(block string) []string { return names(lineEnd.Split(block[min(10, len(block)):], -1)) },
	"nats.jl": func(block string) []string {
		lines := strings.FieldsFunc(block, func(r rune) bool { return r == '\r' || r == '\n' })
		return names(lines[min(1, len(lines)):], ": ")
	},
	"trimming": func(block string) []string { return names(lineEnd.Split(block, -1), ":", "\x00", " ", "\t", "\u00a0") },
	"anywhere": func(block string) []string { // of a block that does not begin as one
		if strings.HasPrefix(block, firstLine+"\r\n") {
			return nil
		}
		return own.FindAllString(block, -1)
	},
}

var lineEnd = regexp.MustCompile("\r\n|\r|\n")

// own is a line's part that names a header of the broker's.
var own = regexp.MustCompile(`(?i:gatehouse-(from|expect|answered|lost))([^!-9;-~]|$)`)

// ownLine is a line with one, however it begins.
var ownLine = regexp.MustCompile(`^[^!-9;-~]*` + own.String())

// names gives what stands before the first separator of each line, where there is
// any, after empty ones.
func names(lines []string, separators ...string) (names []string) {
	if separators == nil {
		separators = []string{":"}
	}
	for _, line := range lines {
		for _, sep := range separators {
			line = strings.TrimLeft(line, sep)
			name, _, _ := strings.Cut(line, sep)
			names = append(names, name)
		}
	}
	return names
}

var ownNames = []string{"Gatehouse-From", "Gatehouse-Expect", "Gatehouse-Answered", "Gatehouse-Lost"}

func isOwnName(name string) bool {
	name = strings.TrimFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
	return slices.ContainsFunc(ownNames, func(own string) bool { return strings.EqualFold(name, own) })
}

// keptLines is the naive stripping: what is not blank of a block whose first line
// is as it should be.
func keptLines(block string) (kept []string) {
	gone := false
	for _, line := range lineEnd.Split(block, -1) {
		gone = ownLine.MatchString(line) || gone && line != "" && strings.ContainsRune(" \t\v\f", rune(line[0]))
		if line != "" && !gone {
			kept = append(kept, line)
		}
	}
	return kept
}

var factText = regexp.MustCompile(`\A[!-~]{1,128}\z`)

// modelFacts reads a block as a client does.
func modelFacts(block string) (f Facts) {
	lines := lineEnd.Split(block, -1)
	if !strings.HasPrefix(lines[0], firstLine) {
		return Facts{}
	}
	seen := map[string]bool{}
	for _, line := range lines[1:] {
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		i := slices.IndexFunc(headers[:], func(h struct {
			name string
			bad  BadHeader
			take func(*Facts, []byte) bool
		}) bool {
			return strings.EqualFold(strings.TrimRight(name, " \t"), headerPrefix+h.name)
		})
		if i < 0 || headers[i].take == nil {
			continue
		}
		value = strings.Trim(value, " \t")
		bad := seen[headers[i].name]
		seen[headers[i].name] = true
		text := []byte(value)
		if !factText.MatchString(value) {
			text = nil
		}
		switch headers[i].name {
		case "mode":
			n := slices.Index([]string{"none", "broadcast", "semaphore", "session", "fanout", "direct"}, value)
			f.Mode, bad = Mode(max(n, 0)), bad || n <= 0
		case "session":
			f.Session, bad = text, bad || text == nil
		case "session-end":
			f.End, bad = true, false
		case "timeout":
			ms, ok := modelTimeout(value)
			f.Timeout, bad = ms, bad || !ok
		case "to-type":
			f.ToType, bad = text, bad || text == nil
		case "to-organisation":
			f.ToOrganisation, bad = text, bad || text == nil
		}
		if bad && f.Bad == BadNone {
			f.Bad = headers[i].bad
		}
	}
	if f.Bad != BadNone {
		f = Facts{Bad: f.Bad}
	}
	return f
}

func modelTimeout(s string) (uint32, bool) {
	ms, ok := parseTimeout([]byte(s)) // what package time takes for none, since it is too long
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		ms, ok = uint32(n), n > 0
	} else if d, err := time.ParseDuration(s); err == nil {
		ms, ok = uint32(min(max(d.Milliseconds(), 0), 1<<32-1)), d >= time.Millisecond
	}
	return ms, ok
}

// checkFrom tells the sender of a message: no reader finds that twice, and nats.go
// finds it wherever it finds headers.
func checkFrom(t *testing.T, block string) {
	told := string(AppendFrom(nil, []byte(block), []byte("o/t/i")))
	if len(told) > len(block)+len("o/t/i")+FromSize {
		t.Fatalf("%q grew to %d bytes", block, len(told))
	}
	if first := strings.HasPrefix(block, firstLine+"\r\n"); first || block == "" {
		for name, names := range readers {
			n := 0
			for _, s := range names(told) {
				if strings.EqualFold(s, "Gatehouse-From") {
					n++
				}
			}
			if n > 1 && name != "trimming" {
				t.Fatalf("%s finds it %d times in %q", name, n, told)
			}
		}
	}
	h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(strings.TrimPrefix(told, firstLine+"\r\n")))).ReadMIMEHeader()
	if from := h["Gatehouse-From"]; err == nil && strings.HasPrefix(told, firstLine+"\r\n") && !slices.Equal(from, []string{"o/t/i"}) {
		t.Fatalf("%q says %q", told, from)
	}
}

// FuzzHeaders: after stripping no reader finds a name that is the broker's; what
// is left are the other lines of the block, byte for byte; stripping again finds
// nothing; the facts are the model's.
func FuzzHeaders(f *testing.F) {
	mustSeed(f, 3)
	for _, in := range []string{"NATS/1.0\r\nGatehouse-Mode: fanout\r\nGatehouse-Timeout: 1.5s\r\n\r\n",
		"NATS/1.0\r\nA: b\rGatehouse-From: x\r\n\nC: d\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0\nxGatehouse-Lost: 1\r\n",
		"NATS/1.0\r\nGatehouse-Expect: 1\r\n folded\r\ngatehouse-session: s\r\nGatehouse-To-Type:t\r\n\r\n"} {
		f.Add([]byte(in))
	}
	f.Fuzz(checkHeaders)
}

func checkHeaders(t *testing.T, in []byte) {
	const canary = "\r\nGatehouse-From: payload"
	whole := append(bytes.Clone(in), canary...)
	var got Facts
	rest := ReadHeaders(whole[:len(in):len(in)], &got)
	left := string(rest)
	if !strings.HasSuffix(string(whole), canary) || len(left) > len(in) || left != string(whole[:len(left)]) {
		t.Fatalf("%q: %q of %q", in, left, whole)
	}
	for name, names := range readers {
		for _, n := range names(left + "\r\n\r\n") {
			if isOwnName(n) {
				t.Fatalf("%q became %q, in which %s finds %q", in, left, name, n)
			}
		}
	}
	if strings.HasPrefix(string(in), firstLine+"\r\n") {
		if kept := lineEnd.Split(left, -1); !slices.Equal(slices.DeleteFunc(kept, func(s string) bool { return s == "" }), keptLines(string(in))) {
			t.Fatalf("%q became %q", in, left)
		}
	}
	want := modelFacts(left)
	if got.said = 0; !reflect.DeepEqual(got, want) {
		t.Fatalf("%q says %+v, want %+v", in, got, want)
	}
	checkFrom(t, left)
	var again Facts
	if twice := ReadHeaders([]byte(left), &again); string(twice) != left {
		t.Fatalf("%q became %q, then %q", in, left, twice)
	}
	if again.said = 0; !reflect.DeepEqual(again, want) {
		t.Fatalf("%q says %+v the second time", in, again)
	}
}

// TestHeadersOfPieces puts blocks together of what matters to any reader.
func TestHeadersOfPieces(t *testing.T) {
	pieces := []string{"NATS/1.0", "\r\n", "\r\n", "\r\n", "\r", "\n", " ", "\t", ":", ": ", "\x00", "\x0b", "\xef\xbb\xbf", "\u017f", "x", "A: b", "\r\n\r\n", "0",
		"Gatehouse-", "From", "gatehouse-from", "GATEHOUSE-LOST: 1", "\r\nGatehouse-Expect: 2\r\n", "\r\nGatehouse-Answered", "Gatehou\u017fe-From: x",
		"\r\nGatehouse-Mode: session\r\n", "\r\nGatehouse-Session: s\r\n", "\ngatehouse-timeout: 7\n",
		"\r\nGatehouse-Mode: ", "fanout", "direct", "\r\nGatehouse-Session: ", "-End: ", "\r\nGatehouse-Timeout: ", "1.5s", "\r\nGatehouse-To-Type: ", "\nGatehouse-To-Organisation:"}
	random := rand.New(rand.NewPCG(3, 4))
	stripped, said, n := 0, 0, 60000
	if testing.Short() {
		n /= 10
	}
	for range n {
		in := ""
		if random.IntN(4) > 0 {
			in = "NATS/1.0\r\n"
		}
		for range 1 + random.IntN(12) {
			in += pieces[random.IntN(len(pieces))]
		}
		checkHeaders(t, []byte(in))
		rest, f := read(in)
		if rest != in {
			stripped++
		}
		if f.Mode != ModeNone || len(f.Session) > 0 || f.Timeout > 0 {
			said++
		}
	}
	if stripped < n/12 || said < n/60 {
		t.Errorf("%d stripped, %d that say something", stripped, said)
	}
}
