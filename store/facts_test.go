package store

import (
	"bytes"
	"reflect"
	"testing"
)

func factSamples() []Facts {
	text := []byte{}
	for c := byte('!'); c <= '~'; c++ {
		text = append(text, c)
	}
	long := bytes.Repeat([]byte{'x'}, MaxFact)
	return []Facts{
		{Mode: ModeBroadcast}, {Mode: ModeSemaphore}, {Mode: ModeSession, Session: []byte("s")}, {Mode: ModeFanout, Timeout: 500}, {Mode: ModeDirect},
		{Bad: BadMode}, {Bad: BadSession}, {Bad: BadTimeout}, {Bad: BadType}, {Bad: BadOrganisation},
		{End: true}, {Timeout: 1<<32 - 1}, {Session: text}, {ToType: text}, {ToOrganisation: text},
		{Mode: ModeFanout, End: true, Timeout: 1, Session: long, ToType: long, ToOrganisation: long},
	}
}

func TestFactsRoundTrip(t *testing.T) {
	for _, f := range factSamples() {
		b := f.Append([]byte("before"))[len("before"):]
		for _, p := range []*[]byte{&f.Session, &f.ToType, &f.ToOrganisation} {
			if *p == nil {
				*p = []byte{}
			}
		}
		var got Facts
		if err := got.Parse(b); err != nil || !reflect.DeepEqual(got, f) || len(b) > MaxFacts {
			t.Errorf("%+v: %+v, %v", f, got, err)
		}
		for n := 1; n < len(b); n++ {
			if got.Parse(b[:n]) == nil && !bytes.Equal(got.Append(nil), b[:n]) {
				t.Errorf("%+v: accepts %d bytes", f, n)
			}
		}
	}
	if b := new(Facts).Append(nil); len(b) != 0 {
		t.Errorf("nothing is %x", b)
	}
	if f := (Facts{Bad: BadMode}); f.Parse(nil) != nil || !reflect.DeepEqual(f, Facts{}) {
		t.Errorf("no bytes are %+v", f)
	}
}

// What Append would not write is refused.
func TestFactsNonsense(t *testing.T) {
	for name, b := range map[string]string{
		"nothing":          "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"mode 6":           "\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"bad 6":            "\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00",
		"flag 2":           "\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00",
		"bad and mode":     "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"bad and text":     "\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00x",
		"too short":        "\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"trailing byte":    "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00x",
		"text missing":     "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"a blank":          "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00 ",
		"a line feed":      "\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\n",
		"DEL":              "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
		"a high byte":      "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff",
		"session too long": "\x01\x00\x00\x81\x00\x00\x00\x00\x00\x00" + string(bytes.Repeat([]byte{'x'}, MaxFact+1)),
	} {
		var f Facts
		if f.Parse([]byte(b)) == nil || !reflect.DeepEqual(f, Facts{}) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestModeNames(t *testing.T) {
	for m, want := range []string{"", "broadcast", "semaphore", "session", "fanout", "direct", ""} {
		if got := Mode(m).String(); got != want {
			t.Errorf("mode %d is %q", m, got)
		}
	}
	if Mode(255).String() != "" {
		t.Error("a mode that does not exist")
	}
}

// FuzzFacts: what is accepted encodes to the same bytes and has texts that can
// stand in a line; after an error there is nothing.
func FuzzFacts(f *testing.F) {
	seeds(f, 3)
	for _, s := range factSamples() {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Facts
		if got.Parse(b) != nil {
			if !reflect.DeepEqual(got, Facts{}) {
				t.Fatalf("%x: error with content", b)
			}
			return
		}
		if !bytes.Equal(got.Append(nil), b) {
			t.Fatalf("%x encodes to %x", b, got.Append(nil))
		}
		for _, text := range [][]byte{got.Session, got.ToType, got.ToOrganisation} {
			if len(text) > MaxFact || bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Fatalf("text %q", text)
			}
		}
	})
}
