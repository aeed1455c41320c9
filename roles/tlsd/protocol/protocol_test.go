package protocol

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		head string
		want Request
	}{
		"least": {"CONNECT h:443 GATEHOUSE-TLS/1\n\n",
			Request{Target: "h:443", Session: "h:443", Shared: true, Timeout: DefaultTimeout}},
		"all": {"CONNECT [::1]:443 GATEHOUSE-TLS/1\r\nSession: bank\r\nMode: framed\nFrame: line\nRead: none\nSNI: x.example\nALPN: a,b\nTimeout: 1.5s\nEncoding: chunks\nChain: yes\r\n\r\n",
			Request{Target: "[::1]:443", Session: "bank", Shared: true, Mode: Framed, Frame: FrameLine, Read: ReadNone, SNI: "x.example",
				ALPN: []string{"a", "b"}, Timeout: 1500 * time.Millisecond, Chunks: true, Chain: true}},
		"http": {"CONNECT h:1 GATEHOUSE-TLS/1\nEncoding: chunks\nRelease: http\n\n",
			Request{Target: "h:1", Session: "h:1", Shared: true, Timeout: DefaultTimeout, Chunks: true, HTTP: true}},
		"unshared": {"CONNECT h:1 GATEHOUSE-TLS/1\nShared: no\n\n", Request{Target: "h:1", Session: "h:1", Timeout: DefaultTimeout}},
		"attach":   {"ATTACH bank GATEHOUSE-TLS/1\nTimeout: 1s\n\n", Request{Verb: Attach, Target: "bank", Shared: true, Timeout: time.Second}},
		"list":     {"LIST GATEHOUSE-TLS/1\n\n", Request{Verb: List, Shared: true}},
		"close":    {"CLOSE bank GATEHOUSE-TLS/1\n\n", Request{Verb: Close, Target: "bank", Shared: true}},
	} {
		got, err := Parse([]byte(tt.head))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	connect := func(headers ...string) string {
		return "CONNECT h:443 GATEHOUSE-TLS/1\n" + strings.Join(headers, "\n") + "\n\n"
	}
	for name, head := range map[string]string{
		"nothing":             "",
		"an empty line":       "\n",
		"no end":              "CONNECT h:443 GATEHOUSE-TLS/1\n",
		"more behind it":      "CONNECT h:443 GATEHOUSE-TLS/1\n\nx",
		"HTTP":                "CONNECT h:443 HTTP/1.1\n\n",
		"lower case":          "connect h:443 GATEHOUSE-TLS/1\n\n",
		"two blanks":          "CONNECT  h:443 GATEHOUSE-TLS/1\n\n",
		"no port":             "CONNECT h GATEHOUSE-TLS/1\n\n",
		"port 0":              "CONNECT h:0 GATEHOUSE-TLS/1\n\n",
		"another port 443":    "CONNECT h:0443 GATEHOUSE-TLS/1\n\n",
		"port 65536":          "CONNECT h:65536 GATEHOUSE-TLS/1\n\n",
		"no host":             "CONNECT :443 GATEHOUSE-TLS/1\n\n",
		"list of what":        "LIST x GATEHOUSE-TLS/1\n\n",
		"attach to all":       "ATTACH x* GATEHOUSE-TLS/1\n\n",
		"unknown header":      connect("Colour: red"),
		"twice":               connect("Chain: yes", "Chain: yes"),
		"another verb's":      "ATTACH x GATEHOUSE-TLS/1\nMode: raw\n\n",
		"no value":            connect("SNI:"),
		"no colon":            connect("Chain yes"),
		"bad mode":            connect("Mode: broadcast"),
		"raw and plain":       connect("Mode: raw"),
		"framed and unshared": connect("Mode: framed", "Shared: no"),
		"frames of none":      connect("Frame: line"),
		"http and plain":      connect("Release: http"),
		"http and framed":     connect("Release: http", "Encoding: chunks", "Mode: framed"),
		"no time":             connect("Timeout: 0s"),
		"a day":               connect("Timeout: 24h"),
		"a control character": connect("SNI: a\x00b"),
		"a carriage return":   connect("SNI: a\rb"),
		"no ASCII":            connect("SNI: \u00e4"),
		"empty protocol":      connect("ALPN: a,,b"),
		"nine protocols":      connect("ALPN: 1,2,3,4,5,6,7,8,9"),
		"a long name":         connect("Session: " + strings.Repeat("s", MaxSession+1)),
		"a blank in a name":   connect("Session: a b"),
		"too long":            connect("SNI: " + strings.Repeat("s", MaxHead)),
	} {
		if got, err := Parse([]byte(head)); !errors.Is(err, ErrMalformed) || !reflect.DeepEqual(got, Request{}) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// Law: what is accepted is within bounds and means the same when it is written again,
// and End finds the same end however much has come; an error comes with nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte("CONNECT h:443 GATEHOUSE-TLS/1\r\nSession: s\r\nMode: raw\r\nEncoding: chunks\r\nALPN: h2,x\r\nTimeout: 2s\r\n\r\n"))
	f.Add([]byte("CONNECT [::1]:1 GATEHOUSE-TLS/1\nMode: framed\nFrame: line\nRead: all\nSNI: x\nChain: yes\n\n"))
	f.Add([]byte("CONNECT h:443 GATEHOUSE-TLS/1\nEncoding: chunks\nRelease: http\n\n"))
	f.Add([]byte("CONNECT h:443 GATEHOUSE-TLS/1\nShared: no\n\nGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("ATTACH 6f0c GATEHOUSE-TLS/1\n\n"))
	f.Add([]byte("LIST GATEHOUSE-TLS/1\n\n"))
	f.Add([]byte("CLOSE x GATEHOUSE-TLS/1\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := End(b)
		for n := range min(end, 300) {
			if End(b[:n]) != 0 {
				t.Fatalf("ends at %d of %d", n, end)
			}
		}
		r, err := Parse(b[:end])
		if err != nil {
			if !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%v with %+v", err, r)
			}
			return
		}
		if end > MaxHead || len(r.Session) > MaxSession || len(r.SNI) > MaxHost || len(r.ALPN) > MaxProtocols {
			t.Fatalf("too much: %+v", r)
		}
		again, err := Parse(r.Append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

// Law: an answer that is accepted is the same when it is written again.
func FuzzParseAnswer(f *testing.F) {
	a := Answer{Code: OK, Text: "opened"}
	a.Add("Session", "s")
	a.Add("Subject", "CN=\u00e4\n")
	f.Add(a.Append(nil))
	f.Add([]byte(Name + " 403 refused\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAnswer(b)
		if err != nil {
			if a != nil {
				t.Fatal("an error with an answer")
			}
			return
		}
		if got := a.Append(nil); string(got) != string(b) {
			t.Fatalf("%q became %q", b, got)
		}
	})
}
