package wire

import (
	"fmt"
	"testing"
)

func TestAppendMsg(t *testing.T) {
	for _, tt := range []struct {
		subject, sid, reply string
		headerLen, size     int
		want                string
	}{
		{"foo", "1", "", -1, 5, "MSG foo 1 5\r\n"},
		{"foo", "1", "bar", -1, 0, "MSG foo 1 bar 0\r\n"},
		{"foo", "x", "", 0, 5, "MSG foo x 5\r\n"},
		{"foo", "1", "", 12, 14, "HMSG foo 1 12 14\r\n"},
		{"foo", "1", "bar", 12, 12, "HMSG foo 1 bar 12 12\r\n"},
		{"é", "1", "", -1, 1048576, "MSG é 1 1048576\r\n"},
	} {
		got := AppendMsg([]byte("+"), []byte(tt.subject), []byte(tt.sid), []byte(tt.reply), tt.headerLen, tt.size)
		if string(got) != "+"+tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestAppendMsgSizes(t *testing.T) {
	for n := range 10_100 {
		if got, want := string(AppendMsg(nil, []byte("a"), []byte("1"), nil, -1, n)), fmt.Sprintf("MSG a 1 %d\r\n", n); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestAppendNoResponders(t *testing.T) {
	const want = "+HMSG s033.r 77 43 43\r\nNATS/1.0 503\r\nNats-Subject: s033.nobody\r\n\r\n\r\n"
	got := AppendNoResponders([]byte("+"), []byte("s033.r"), []byte("77"), []byte("s033.nobody"))
	if string(got) != want {
		t.Errorf("%q", got)
	}
}

func TestReadyLines(t *testing.T) {
	if OK != "+OK\r\n" || Ping != "PING\r\n" || Pong != "PONG\r\n" {
		t.Error(OK, Ping, Pong)
	}
}

func TestWriterAllocations(t *testing.T) {
	dst := make([]byte, 0, 256)
	subject, sid, reply := []byte("foo"), []byte("1"), []byte("bar")
	if n := testing.AllocsPerRun(100, func() {
		AppendMsg(dst, subject, sid, reply, 12, 14)
		AppendNoResponders(dst, reply, sid, subject)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendFrom(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "NATS/1.0\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0":                         "NATS/1.0\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\n":                     "NATS/1.0\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\n\r\n":                 "NATS/1.0\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\nA: b\r\n\r\n":         "NATS/1.0\r\nA: b\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\nA: b\r\n":             "NATS/1.0\r\nA: b\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\nA: b":                 "NATS/1.0\r\nA: b\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\nA: b\n\n":               "NATS/1.0\nA: b\nGatehouse-From: me\r\n\n",
		"NATS/1.0\r\nA: b\r\n\r\nC: d\r\n": "NATS/1.0\r\nA: b\r\nGatehouse-From: me\r\n\r\nC: d\r\n",
		"NATS/1.0\r\nA: b\r\r\n\r\n":       "NATS/1.0\r\nA: b\r\r\nGatehouse-From: me\r\n\r\n",
		"NATS/1.0\r\n folded\r\n\r\n":      "NATS/1.0\r\n folded\r\nGatehouse-From: me\r\n\r\n",
		"\n":                               "\nGatehouse-From: me\r\n\r\n",
		"\r":                               "\r\r\nGatehouse-From: me\r\n\r\n",
	} {
		if got := string(AppendFrom([]byte("x"), []byte(in), []byte("me"))); got != "x"+want {
			t.Errorf("%q: %q, want %q", in, got[1:], want)
		}
	}
}
