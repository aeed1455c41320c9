package store

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
)

// samples has at least one record of every kind.
func samples() []Record {
	c := Conn{Slot: 0x01020304, Gen: 0xa1a2a3a4}
	to := AppendRecipient(nil, 1, 2, []byte("sid"))
	to = AppendRecipient(to, 3, 4, []byte("22"))
	return []Record{
		&RecOpen{Conn: c, UID: 1 << 40, Listener: 3, Port: 4222, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}},
		&RecOpen{Conn: c, UID: 7, Unix: true},
		&RecOpen{Conn: c, UID: 8, Challenge: 1<<63 + 9, TLS: true},
		&RecConnect{Conn: c, JSON: []byte(`{"verbose":true}`)},
		&RecConnect{Conn: c, Again: true, JSON: []byte(`{}`)},
		&RecConnect{Conn: c, Chain: []byte{0x30, 0}, JSON: []byte(`{}`)},
		&RecSub{Conn: c, Subject: []byte("a.*.>"), Queue: []byte("q"), SID: []byte("9")},
		&RecSub{Conn: c, Subject: []byte("a"), Queue: []byte{}, SID: []byte("10")},
		&RecUnsub{Conn: c, Max: 5, SID: []byte("9")},
		&RecPub{Conn: c, Seq: seqMask, Off: 16, Len: 100, HeaderLen: -1, Subject: []byte("px.a"), Reply: []byte{}, Facts: []byte{}},
		&RecPub{Conn: c, Seq: 1, Len: 20, HeaderLen: 20, Subject: []byte("a"), Reply: []byte("_INBOX.1"), Facts: []byte{}},
		&RecPub{Conn: c, Seq: seqMask, Len: 20, HeaderLen: 20, Subject: []byte("a"), Reply: []byte{}, Facts: (&Facts{Mode: ModeFanout}).Append(nil)},
		&RecPub{Conn: c, Seq: 2, Len: 20, HeaderLen: 20, Subject: []byte("a"), Reply: []byte("r"), Facts: bytes.Repeat([]byte{'f'}, MaxFacts)},
		&RecPing{c}, &RecFail{c, 3}, &RecClosed{c, 4}, &RecCongested{c}, &RecRelieved{c}, &RecReset{1 << 33}, &RecStuck{seqMask},
		&RecMove{c, 63},
		&RecAsk{Conn: c, Subject: []byte("$GATE.ticket"), Reply: []byte("_INBOX.1"), Body: []byte("{}")},
		&RecAsk{Conn: c, Subject: []byte("$GATE.a"), Reply: []byte{}, Body: bytes.Repeat([]byte{'b'}, MaxAsk)},
		&RecAsk{Conn: c, Long: true, Subject: []byte("$GATE.a"), Reply: []byte("r"), Body: []byte{}},
		&InsDeliver{Handle: Handle{2, 5, 32, 64}, HeaderLen: 12, Flags: DeliverMore,
			Subject: []byte("px.a"), Reply: []byte("r"), From: []byte{}, Recipients: to},
		&InsDeliver{Handle: Handle{2, 5, 32, 64}, HeaderLen: -1, Subject: []byte("px.a"), Reply: []byte("r"), From: []byte("o/t/i ~"), Recipients: to},
		&InsDeliver{HeaderLen: -1, Subject: []byte("a"), Reply: []byte{}, From: bytes.Repeat([]byte{'f'}, MaxFrom), Recipients: []byte{}},
		&InsDeliver{Handle: Handle{1, seqMask, 0, 0}, HeaderLen: -1, Subject: []byte("s"), Reply: []byte{}, From: []byte{}, Recipients: []byte{}},
		&InsSend{c, FlagClose, []byte("-ERR 'x'\r\n")},
		&InsSession{Conn: c, Flags: SessionOpen | SessionHeaders}, &InsSession{c, SessionOpen, 1 << 20, 1 << 30, 1000}, &InsHold{c}, &InsResume{c}, &InsNewRouter{}, &InsNewRouter{Forget: true},
		&InsArriving{c, ArrivingHeaders | ArrivingCongested, 1 << 40}, &InsMoved{c, MovedNot},
		&InsGreeting{WayUnix, [4][]byte{[]byte("INFO "), []byte("a"), {}, []byte("\r\n")}},
		&InsChallenges{1, bytes.Repeat([]byte{'c'}, ChallengeLen)}, &InsChallenges{1 << 63, bytes.Repeat([]byte{'c'}, MaxChallenges*ChallengeLen)},
	}
}

func encode(r Record) []byte {
	b := make([]byte, r.Size())
	return b[:r.Put(b)]
}

// A record survives the ring; no prefix of it and nothing longer with a fixed
// size is one.
func TestRecordRoundTrip(t *testing.T) {
	seen := map[RecKind]bool{}
	for _, r := range samples() {
		rec := encode(r)
		k := Kind(rec)
		if seen[k] = true; len(rec) != r.Size() || k.String() == "" {
			t.Errorf("%T: %d bytes of %d, kind %d", r, len(rec), r.Size(), k)
		}
		got := NewRecord(k)
		if err := got.Parse(rec); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%T: %+v, %v; want %+v", r, got, err, r)
		}
		for n := range rec {
			short := NewRecord(k)
			if err := short.Parse(rec[:n]); err != nil && !reflect.DeepEqual(short, NewRecord(k)) {
				t.Errorf("%T: an error at %d bytes leaves %+v", r, n, short)
			} else if err == nil && !bytes.Equal(encode(short), rec[:n]) {
				t.Errorf("%T: accepts %d bytes that it would not write", r, n)
			}
		}
		ring := newRing(t, 64<<10)
		if !ring.p.Put(r) || ring.p.Publish() {
			t.Fatal("not put")
		}
		if b, err := ring.c.Next(); err != nil || !bytes.Equal(b, rec) {
			t.Errorf("%T: %x out of the ring, %v", r, b, err)
		}
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no sample of %s", k)
		}
	}
	if Kind(nil) != KindNone || NewRecord(KindNone) != nil || NewRecord(200) != nil {
		t.Error("a kind that does not exist")
	}
}

// A number that changes here needs a new layoutVersion.
func TestRecordLayout(t *testing.T) {
	for k, want := range map[RecKind]string{
		1: "OPEN", 2: "CONNECT", 3: "SUB", 4: "UNSUB", 5: "PUB", 6: "PING", 7: "FAIL", 8: "CLOSED", 9: "CONGESTED",
		10: "RELIEVED", 11: "RESET", 12: "STUCK", 13: "MOVE", 33: "DELIVER", 34: "SEND", 35: "SESSION", 36: "HOLD", 37: "RESUME",
		38: "NEW_ROUTER", 39: "ARRIVING", 40: "MOVED", 41: "GREETING", 42: "CHALLENGES",
	} {
		if k.String() != want {
			t.Errorf("%d is %s, not %s", k, k, want)
		}
	}
	pub := &RecPub{Conn: Conn{1, 2}, Seq: 3, Off: 16, Len: 5, HeaderLen: -1, Subject: []byte("a.b"), Reply: []byte("r")}
	del := &InsDeliver{Handle: Handle{1, 3, 16, 5}, HeaderLen: -1, Subject: []byte("a.b"), Reply: []byte("r"),
		Recipients: AppendRecipient(nil, 9, 8, []byte("7"))}
	facts := (&Facts{Mode: ModeSession, End: true, Timeout: 500, Session: []byte("s"), ToType: []byte("ty"), ToOrganisation: []byte("org")}).Append(nil)
	told := *pub
	told.Facts = facts
	signed := *del
	signed.From = []byte("me")
	for r, want := range map[Record]string{
		&told: "05030000 01000000 02000000 ffffffff 0300000000001000 10000000 05000000 612e62 72" +
			"03 00 01 01 f4010000 02 03 73 7479 6f7267",
		&signed: "21030000 01000000 0300000000000100 10000000 05000000 ffffffff 0200 0000 612e62 72 6d65" +
			"09000000 08000000 0100 37 00",
		&InsSession{Conn{1, 2}, SessionOpen, 3, 4, 5}: "23010000 01000000 02000000 03000000 04000000 05000000",
		pub: "05030000 01000000 02000000 ffffffff 0300000000000000 10000000 05000000 612e62 72",
		del: "21030000 01000000 0300000000000100 10000000 05000000 ffffffff 0000 0000 612e62 72" +
			"09000000 08000000 0100 37 00",
	} {
		b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(want), []byte(" "), nil)))
		if check(t, err); !bytes.Equal(encode(r), b) {
			t.Errorf("%T: %x, want %x", r, encode(r), b)
		}
	}
}

func TestRecordNonsense(t *testing.T) {
	for name, r := range map[string]Record{
		"headers of -2":             &RecPub{HeaderLen: -2, Subject: []byte("a")},
		"headers beyond the body":   &RecPub{HeaderLen: 6, Len: 5},
		"headers beyond, delivered": &InsDeliver{Handle: Handle{Len: 5}, HeaderLen: 6},
		"facts too long":            &RecPub{HeaderLen: -1, Facts: make([]byte, MaxFacts+1)},
		"from with a line end":      &InsDeliver{HeaderLen: -1, From: []byte("a\r\nb: c")},
		"from with a tab":           &InsDeliver{HeaderLen: -1, From: []byte("a\tb")},
		"from with DEL":             &InsDeliver{HeaderLen: -1, From: []byte("a\x7f")},
		"from with a high byte":     &InsDeliver{HeaderLen: -1, From: []byte("a\x80")},
		"from too long":             &InsDeliver{HeaderLen: -1, From: bytes.Repeat([]byte{'a'}, MaxFrom+1)},
	} {
		if NewRecord(Kind(encode(r))).Parse(encode(r)) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRecipients(t *testing.T) {
	var list []byte
	for i := range 10 {
		list = AppendRecipient(list, uint32(i), uint32(100+i), bytes.Repeat([]byte{'x'}, i))
	}
	b := list
	for i := range 10 {
		slot, gen, sid, rest, ok := NextRecipient(b)
		if !ok || slot != uint32(i) || gen != uint32(100+i) || len(sid) != i || cap(sid) != i {
			t.Fatalf("recipient %d: %d %d %q %v", i, slot, gen, sid, ok)
		}
		b = rest
	}
	if _, _, _, rest, ok := NextRecipient(b); ok || len(rest) != 0 {
		t.Fatal("no end")
	}
	for n := 1; n < len(list); n++ {
		b := list[:n]
		for ok := true; ok; {
			_, _, _, b, ok = NextRecipient(b)
		}
		if entry := bytes.HasPrefix(list[n:], b); len(b) == 0 && entry && n%4 != 0 {
			t.Fatalf("a list cut at %d ends well", n)
		}
	}
	if got := AppendRecipient(nil, 1, 2, make([]byte, MaxSID+1)); got != nil {
		t.Fatal("a sid that is too long")
	}
	if _, _, sid, _, ok := NextRecipient(AppendRecipient(nil, 1, 2, make([]byte, MaxSID))); !ok || len(sid) != MaxSID {
		t.Fatal("the longest sid")
	}
}

// FuzzRecord: what a decoder accepts encodes to the same bytes; after an error
// the record is zero.
func FuzzRecord(f *testing.F) {
	seeds(f, 4)
	for _, r := range samples() {
		f.Add(encode(r))
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		r := NewRecord(Kind(rec))
		if r == nil {
			return
		}
		if err := r.Parse(rec); err != nil {
			if !reflect.DeepEqual(r, NewRecord(Kind(rec))) {
				t.Fatalf("%T: %+v after %v", r, r, err)
			}
			return
		}
		if !bytes.Equal(encode(r), rec) {
			t.Fatalf("%T: %x encodes to %x", r, rec, encode(r))
		}
		if d, ok := r.(*InsDeliver); ok {
			var again []byte
			b := d.Recipients
			for {
				slot, gen, sid, rest, ok := NextRecipient(b)
				if !ok {
					break
				}
				again, b = AppendRecipient(again, slot, gen, sid), rest
			}
			if !bytes.Equal(append(again, b...), d.Recipients) {
				t.Fatalf("recipients %x encode to %x", d.Recipients, again)
			}
		}
	})
}
