package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// fullInfo has text s and truth in every field.
func fullInfo(s string, entries int) *Info {
	i := &Info{Gatehouse: &GatehouseInfo{}}
	fill(reflect.ValueOf(i).Elem(), s, entries)
	fill(reflect.ValueOf(i.Gatehouse).Elem(), s, entries)
	return i
}

func fill(v reflect.Value, s string, entries int) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(s)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int:
			f.SetInt(1)
		case reflect.Uint64:
			f.SetUint(1)
		case reflect.Slice:
			for range entries {
				f.Set(reflect.Append(f, reflect.ValueOf(s)))
			}
		}
	}
}

// TestInfoKeys freezes what clients look for: all keys, and those that are
// always there.
func TestInfoKeys(t *testing.T) {
	golden(t, "info.ok", string(AppendInfo(nil, &Info{}))+string(AppendInfo(nil, fullInfo("x", 1))))
}

// readInfo checks the frame of an INFO line and returns what it says.
func readInfo(t *testing.T, line []byte) (i Info) {
	t.Helper()
	text, ok := strings.CutPrefix(string(line), "INFO ")
	text, end := strings.CutSuffix(text, " \r\n")
	if !ok || !end || len(line) >= 4096 || strings.ContainsAny(text, "\r\n") {
		t.Fatalf("%d bytes: %.100q", len(line), line)
	}
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestInfoRoundTrip(t *testing.T) {
	want := fullInfo(`ab"c<é>`, 3)
	line := AppendInfo([]byte("+"), want)
	if got := readInfo(t, line[1:]); line[0] != '+' || !reflect.DeepEqual(&got, want) {
		t.Errorf("%+v", got)
	}
}

// TestInfoCut: one long text is cut to 256 bytes and nothing else changes.
func TestInfoCut(t *testing.T) {
	i := fullInfo("x", 1)
	i.ServerName = strings.Repeat("é", 1000) + "x"
	i.Cluster = "x" + strings.Repeat("é", 1000)
	before := *i
	got := readInfo(t, AppendInfo(nil, i))
	if got.ServerName != strings.Repeat("é", 128) || got.Cluster != "x"+strings.Repeat("é", 127) || got.Nonce != "x" {
		t.Errorf("%+v", got)
	}
	if !reflect.DeepEqual(*i, before) {
		t.Error("changed the caller's")
	}
}

// FuzzInfo: the line is short and readable whatever is in it.
func FuzzInfo(f *testing.F) {
	mustSeed(f, 2)
	f.Add("x", uint16(1))
	f.Add(strings.Repeat("\x00", 300), uint16(1000))
	f.Fuzz(func(t *testing.T, s string, entries uint16) {
		got := readInfo(t, AppendInfo(nil, fullInfo(s, int(entries%200))))
		if len(s) <= 8 && entries <= 2 && utf8.ValidString(s) && got.Nonce != s {
			t.Errorf("%q became %q", s, got.Nonce)
		}
	})
}
