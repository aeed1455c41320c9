package privsep

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestLogRoundTrip(t *testing.T) {
	long := strings.Repeat("\x1b[31m\n", 100)
	in := LogLine{Level: LevelWarn, Dropped: 9, Event: "State CHANGE\n", Fields: []Field{
		Str(KeyReason, long), Int(KeyN, -5), Err(errors.New("no")), Str(KeyRole, "parent"),
		Int(KeyPID, 1), Str(KeyReason, "again"), {Key: numLogKeys}, {Key: 255, Text: "x"},
		{Key: KeyAddr, Text: long},
	}}
	got, err := DecodeLog(in.append(nil))
	want := LogLine{Level: LevelWarn, Dropped: 9, Event: "_tate _______", Fields: []Field{
		Str(KeyReason, long[:MaxLogText]), Int(KeyN, -5), Str(KeyErr, "no"), Str(KeyAddr, long[:MaxLogText]),
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
}

// Every key at full length fits into a LOG.
func TestLogFullLine(t *testing.T) {
	l := LogLine{Event: strings.Repeat("e", 1000)}
	for k := range numLogKeys {
		l.Fields = append(l.Fields, Field{Key: k, Text: strings.Repeat("x", 1000)})
	}
	b := l.append(nil)
	if err := Permit(KindLog, RoleCM, RoleParent, PhaseRun, len(b), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeLog(b); err != nil || len(got.Fields) != int(numLogKeys)-3 {
		t.Fatalf("%d fields, %v", len(got.Fields), err)
	}
}

func TestLogDecodeRefuses(t *testing.T) {
	line := func(count byte, fields ...byte) []byte {
		return append([]byte{byte(LevelInfo), 0, 0, 0, 0, 2, 'o', 'k', count}, fields...)
	}
	if _, err := DecodeLog(line(1, byte(KeyN), logText, 1, 'x')); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"level":          append([]byte{byte(numLevels)}, line(0)[1:]...),
		"trailing":       line(0, 0),
		"missing field":  line(1),
		"role":           line(1, byte(KeyRole), logText, 0),
		"pid":            line(1, byte(KeyPID), logText, 0),
		"no key":         line(1, 0, logText, 0),
		"unknown key":    line(1, byte(numLogKeys), logText, 0),
		"key 255":        line(1, 255, logText, 0),
		"type":           line(1, byte(KeyN), 2, 0),
		"short number":   line(1, byte(KeyN), logNumber, 1, 2, 3),
		"long text":      line(1, append([]byte{byte(KeyN), logText, 129}, make([]byte, 129)...)...),
		"twice":          line(2, byte(KeyN), logText, 0, byte(KeyN), logText, 0),
		"empty event":    {1, 0, 0, 0, 0, 0, 0},
		"capital event":  {1, 0, 0, 0, 0, 1, 'A', 0},
		"control event":  {1, 0, 0, 0, 0, 1, '\n', 0},
		"long event":     append(append([]byte{1, 0, 0, 0, 0, 49}, bytes.Repeat([]byte("e"), 49)...), 0),
		"255 of nothing": line(255),
	} {
		if l, err := DecodeLog(b); !errors.Is(err, ErrShape) || !reflect.DeepEqual(l, LogLine{}) {
			t.Errorf("%s: %+v %v", name, l, err)
		}
	}
}

func TestFieldValue(t *testing.T) {
	for in, want := range map[string]string{
		"plain-word/1": "plain-word/1", "": `""`, "two words": `"two words"`, "a=b": `"a=b"`,
		"\x1b[2J": `"\x1b[2J"`, "é": `"\u00e9"`, "\xff\xfe": `"\xff\xfe"`, `\`: `"\\"`,
	} {
		f := Str(KeyReason, in)
		if got := f.Value(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	n, none := Int(KeyN, -3), Err(nil)
	if n.Value() != "-3" || none.Value() != "none" {
		t.Errorf("%s %s", n.Value(), none.Value())
	}
}

// A Logger without a channel is silent rather than fatal.
func TestLoggerNil(t *testing.T) {
	var none *Logger
	none.Info("nothing")
	NewLogger(nil).Error("nothing", Int(KeyN, 1))
}

// Law: what DecodeLog accepts encodes to the same bytes, holds no key twice and
// prints without a control character; on error the line is zero.
func FuzzDecodeLog(f *testing.F) {
	mustCorpus(f, 3)
	l := LogLine{Level: LevelInfo, Dropped: 3, Event: "client gone", Fields: []Field{Int(KeyN, 4), Str(KeyAddr, "::1")}}
	f.Add(l.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeLog(b)
		if err != nil {
			if !reflect.DeepEqual(l, LogLine{}) {
				t.Fatalf("%v left %+v", err, l)
			}
			return
		}
		if again := l.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded %x", b, again)
		}
		for i := range l.Fields {
			if strings.ContainsFunc(l.Fields[i].Value(), unicode.IsControl) {
				t.Fatalf("control character in %q", l.Fields[i].Value())
			}
		}
	})
}
