package roles

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
)

// A kind that package store knows can be written and read here.
func TestEveryKindHasShape(t *testing.T) {
	for k := range 256 {
		kind := store.RecKind(k)
		if known := store.NewRecord(kind) != nil; known != (shapes[kind] != nil) {
			t.Errorf("kind %d %q: known to store: %v, has a shape: %v", k, kind, known, !known)
		}
	}
}

var (
	anyConn = rapid.Custom(func(t *rapid.T) store.Conn {
		return store.Conn{Slot: rapid.Uint32().Draw(t, "slot"), Gen: rapid.Uint32().Draw(t, "gen")}
	})
	anyBytes = rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 9), rapid.Map(rapid.StringN(0, 9, -1), func(s string) []byte { return []byte(s) }))
)

// drawRecord fills a record of a kind with anything that its fields can hold.
func drawRecord(t *rapid.T, kind store.RecKind) store.Record {
	r := newRecord(kind)
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		switch p := f.Addr().Interface().(type) {
		case *store.Conn:
			*p = anyConn.Draw(t, name)
		case *store.Handle:
			*p = store.Handle{Arena: rapid.Uint16().Draw(t, "arena"), Seq: rapid.Uint64Range(0, maxSeq).Draw(t, "seq"),
				Off: rapid.Uint32().Draw(t, "off"), Len: rapid.Uint32().Draw(t, "len")}
		case *[16]byte:
			copy(p[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
		case *[]byte:
			*p = anyBytes.Draw(t, name)
			switch name {
			case "Recipients":
				*p = drawRecipients(t)
			case "Facts":
				*p = drawFacts(t)
			case "Texts":
				n := rapid.IntRange(1, 3).Draw(t, "challenges") * store.ChallengeLen
				*p = rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name)
			}
		case *uint64:
			if *p = rapid.Uint64Range(0, maxSeq).Draw(t, name); name == "First" {
				*p++
			}
		case *uint32:
			*p = rapid.Uint32().Draw(t, name)
		case *uint16:
			*p = rapid.Uint16().Draw(t, name)
			if name == "Flags" {
				*p &= store.DeliverMore
			}
		case *uint8:
			*p = rapid.Byte().Draw(t, name)
			if kind == store.KindSend {
				*p &= store.FlagClose
			}
			if kind == store.KindSession {
				*p &= 15
			}
			if kind == store.KindArriving {
				*p &= store.ArrivingHeaders | store.ArrivingHeld | store.ArrivingCongested
			}
			if kind == store.KindMoved {
				*p &= store.MovedNot
			}
		case *store.Way:
			*p = store.Way(rapid.IntRange(0, int(store.NumWays)-1).Draw(t, name))
		case *[4][]byte:
			for i := range p {
				p[i] = anyBytes.Draw(t, name)
			}
		case *int32:
			*p = rapid.Int32Min(-1).Draw(t, name)
		case *bool:
			*p = rapid.Bool().Draw(t, name)
		default:
			t.Fatalf("%s is a %T", name, p)
		}
	}
	return r
}

// drawFacts gives facts or, since a cm may send them, bytes that are none.
func drawFacts(t *rapid.T) []byte {
	if rapid.Bool().Draw(t, "no facts") {
		return anyBytes.Draw(t, "Facts")
	}
	text := rapid.Map(rapid.StringMatching(`[!-~]{0,9}`), func(s string) []byte { return []byte(s) })
	f := store.Facts{Mode: rapid.SampledFrom([]store.Mode{store.ModeNone, store.ModeFanout, store.ModeDirect}).Draw(t, "mode"),
		End: rapid.Bool().Draw(t, "end"), Timeout: rapid.Uint32().Draw(t, "timeout"),
		Session: text.Draw(t, "session"), ToType: text.Draw(t, "type"), ToOrganisation: text.Draw(t, "organisation")}
	return f.Append(nil)
}

func drawRecipients(t *rapid.T) (list []byte) {
	for range rapid.IntRange(0, 3).Draw(t, "recipients") {
		c := anyConn.Draw(t, "to")
		list = store.AppendRecipient(list, c.Slot, c.Gen, anyBytes.Draw(t, "sid"))
	}
	return list
}

// What is printed of a record is a line from which the same record is read.
func TestRecordRoundTrip(t *testing.T) {
	for kind := range shapes {
		t.Run(kind.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				r := drawRecord(t, kind)
				line := recordLine(0, r, kind)
				c, err := parseLine(line)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				cmOf(c, 1)
				got := newRecord(kind)
				if err := decodeRecord(c, got, kind); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				a, b := make([]byte, r.Size()), make([]byte, got.Size())
				if r.Put(a); len(a) != got.Put(b) || !bytes.Equal(a, b) {
					t.Fatalf("%sread as %+v, was %+v", line, got, r)
				}
			})
		})
	}
}

func TestRecordLine(t *testing.T) {
	every := store.Facts{Mode: store.ModeFanout, End: true, Timeout: 500, Session: []byte("s"), ToType: []byte("t"), ToOrganisation: []byte("o")}
	to := store.AppendRecipient(store.AppendRecipient(nil, 1, 2, []byte("a")), 3, 4, []byte{0xff})
	for _, c := range []struct {
		r    store.Record
		kind store.RecKind
		want string
	}{
		{&store.RecOpen{}, store.KindOpen, `{"kind":"OPEN","cm":2,"slot":0,"gen":0,"uid":0}`},
		{&store.RecOpen{Addr: [16]byte{10: 255, 255, 10, 0, 0, 1}, Port: 9, Listener: 1}, store.KindOpen,
			`{"kind":"OPEN","cm":2,"slot":0,"gen":0,"uid":0,"listener":1,"addr":"10.0.0.1","port":9}`},
		{&store.RecOpen{Unix: true}, store.KindOpen, `{"kind":"OPEN","cm":2,"slot":0,"gen":0,"uid":0,"unix":true}`},
		{&store.RecPub{HeaderLen: -1, Subject: []byte("a.>")}, store.KindPub, `{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,"subject":"a.>"}`},
		{&store.RecPub{}, store.KindPub, `{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,"header_len":0}`},
		{&store.RecPub{HeaderLen: -1, Subject: []byte("\ufffd\"\n")}, store.KindPub, `{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,"subject":"` + "\ufffd" + `\"\n"}`},
		{&store.InsDeliver{HeaderLen: -1, Recipients: to, Flags: store.DeliverMore}, store.KindDeliver,
			`{"kind":"DELIVER","cm":2,"arena":0,"seq":0,"recipients":[{"slot":1,"gen":2,"sid":"a"},{"slot":3,"gen":4,"sid_base64":"/w=="}],"more":true}`},
		{&store.RecPub{HeaderLen: -1, Facts: every.Append(nil)}, store.KindPub, `{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,` +
			`"facts":{"mode":"fanout","timeout":500,"end":true,"session":"s","to_type":"t","to_organisation":"o"}}`},
		{&store.RecPub{HeaderLen: -1, Facts: (&store.Facts{Bad: store.BadTimeout}).Append(nil)}, store.KindPub,
			`{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,"facts":{"bad":"timeout"}}`},
		{&store.RecPub{HeaderLen: -1, Facts: []byte("x")}, store.KindPub, `{"kind":"PUB","cm":2,"slot":0,"gen":0,"seq":0,"facts_bytes":"x"}`},
		{&store.InsDeliver{HeaderLen: -1, From: []byte("acme/pricer")}, store.KindDeliver, `{"kind":"DELIVER","cm":2,"arena":0,"seq":0,"from":"acme/pricer"}`},
		{&store.InsSession{Flags: store.SessionOpen, Rate: 10, MaxPayload: 11, MaxPending: 12}, store.KindSession,
			`{"kind":"SESSION","cm":2,"slot":0,"gen":0,"open":true,"max_payload":11,"max_pending":12,"rate":10}`},
		{&store.InsSend{Data: []byte("+OK\r\n"), Flags: store.FlagClose}, store.KindSend, `{"kind":"SEND","cm":2,"slot":0,"gen":0,"data":"+OK\r\n","close":true}`},
	} {
		if got := string(recordLine(2, c.r, c.kind)); got != c.want+"\n" {
			t.Errorf("%swant %s", got, c.want)
		}
	}
}

// What is printed of a profile or of settings is read as the same.
func TestProfileLine(t *testing.T) {
	want := privsep.Profile{Last: true, Name: "desk", PublishAllow: []string{"px.>"}, SubscribeAll: true, SubscribeDeny: []string{"\u00e9", "\"*\""},
		Modes: privsep.ModeFanout | privsep.ModeDirect, Types: []string{"pricer"}, Responses: -1, Weight: 7, Rate: 100, MaxPending: 1 << 30,
		MaxAge: time.Hour}
	w := newLine("PROFILE")
	profile(w, &want)
	text := `{"kind":"PROFILE","name":"desk","subscribe_all":true,"publish_allow":["px.>"],"subscribe_deny":["\u00e9","\"*\""],"types":["pricer"],` +
		`"modes":["fanout","direct"],"responses":-1,"weight":7,"rate":100,"max_pending":1073741824,"max_age_ms":3600000,"last":true}`
	line := w.line()
	if string(line) != strings.ReplaceAll(text, `\u00e9`, "\u00e9")+"\n" {
		t.Errorf("%swant %s", line, text)
	}
	r, err := parseLine(line)
	if err != nil {
		t.Fatal(err)
	}
	var got privsep.Profile
	if profile(r, &got); r.end() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v, want %+v", got, r.err, want)
	}

	set := privsep.Live{RequestTimeout: time.Second, SessionIdle: time.Minute, ReplaceInstance: true, Auth: true, AnonymousProfile: "desk"}
	w = newLine("SETTINGS")
	live(w, &set)
	if r, err = parseLine(w.line()); err != nil {
		t.Fatal(err)
	}
	var again privsep.Live
	if live(r, &again); r.end() != nil || !reflect.DeepEqual(again, set) {
		t.Errorf("%+v %v, want %+v", again, r.err, set)
	}
}

func TestLogLine(t *testing.T) {
	l := privsep.LogLine{Level: privsep.LevelWarn, Event: "connection refused", Dropped: 3,
		Fields: []privsep.Field{privsep.Str(privsep.KeyReason, "a\"\xff"), privsep.Int(privsep.KeyN, -2)}}
	want := `{"log":{"level":"warn","event":"connection refused","reason":"a\"\ufffd","n":-2,"dropped":3}}` + "\n"
	if got := string(logLine(&l)); got != want {
		t.Errorf("%swant %s", got, want)
	}
}

// Lines that are refused, each with the words that say why.
func TestLineRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                                    "not a JSON object",
		"{":                                   "not a JSON object",
		"[]":                                  "not a JSON object",
		"null":                                "not a JSON object: null",
		"{}{}":                                "not a JSON object",
		`{"kind":"PING","slot":1,"gen":1}x`:   "not a JSON object",
		`{"slot":1}`:                          "kind is missing",
		`{"kind":""}`:                         "kind is missing",
		`{"kind":null}`:                       "kind: null is no string",
		"{\"kind\":\"SUB\",\"sid\":\"\xff\"}": "not UTF-8",
		`{"kind":"SUB","sid":1}`:              "sid: 1 is no string",
		`{"kind":"SUB","sid":null}`:           "sid: null is no string",
		`{"kind":"SUB","sid":"","sid_base64":""}`: "sid: given twice",
		`{"kind":"SUB","sid_base64":"YQ"}`:        "sid_base64: illegal base64",
		`{"kind":"SUB","sid_base64":"YR=="}`:      "sid_base64: illegal base64",
		`{"kind":"SUB","sid_base64":7}`:           "sid_base64: 7 is no string",
		`{"kind":"SUB","sids":"1"}`:               `unknown key "sids"`,
		`{"kind":"SUB","SID":"1"}`:                `unknown key "SID"`,
		`{"kind":"PING","slot":1.0}`:              "slot: 1.0 is no number from 0 to 4294967295",
		`{"kind":"PING","slot":1e3}`:              "slot: 1e3 is no number",
		`{"kind":"PING","slot":null}`:             "slot: null is no number",
		`{"kind":"FAIL","code":256}`:              "code: 256 is no number from 0 to 255",
		`{"kind":"PUB","seq":281474976710656}`:    "seq: 281474976710656 is above",
		`{"kind":"PUB","header_len":2147483648}`:  "header_len: 2147483648 is no number from -2147483648 to 2147483647",
		`{"kind":"OPEN","unix":1}`:                "unix: 1 is neither true nor false",
		`{"kind":"OPEN","addr":"fe80::1%eth0"}`:   "is no IP address",
		`{"kind":"OPEN","addr":1}`:                "addr: 1 is no string",
		`{"kind":"OPEN","cm":1}`:                  "cm: 1: there is cm/0 to cm/0",
		`{"kind":"PUB","facts":1}`:                "facts: not a JSON object",
		`{"kind":"PUB","facts":{"mode":"any"}}`:   `facts: mode: "any" is none of ["broadcast" "semaphore"`,
		`{"kind":"PUB","facts":{"bad":1}}`:        "facts: bad: 1 is no string",
		`{"kind":"PUB","facts":{"session":"` + strings.Repeat("x", store.MaxFact+1) + `"}}`: "facts: session: longer than 128 bytes",
		`{"kind":"PUB","facts":{"from":"x"}}`:                                               `facts: unknown key "from"`,
		`{"kind":"PUB","facts_bytes":"` + strings.Repeat("x", store.MaxFacts+1) + `"}`:      "facts_bytes: longer than 394 bytes",
		`{"kind":"DELIVER","from":"` + strings.Repeat("x", store.MaxFrom+1) + `"}`:          "from: longer than 2048 bytes",
		`{"kind":"DELIVER","recipients":null}`:                                              "recipients: no array of objects",
		`{"kind":"DELIVER","recipients":{}}`:                                                "recipients: no array of objects",
		`{"kind":"DELIVER","recipients":[1]}`:                                               "recipients[0]: not a JSON object",
		`{"kind":"DELIVER","recipients":[{},{"sid":1}]}`:                                    "recipients[1]: sid: 1 is no string",
		`{"kind":"DELIVER","recipients":[{},{"more":true}]}`:                                `recipients[1]: unknown key "more"`,
	} {
		if _, _, err := readRecord([]byte(line)); err == nil || !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

// readRecord reads a line of any kind that there is.
func readRecord(line []byte) (store.Record, store.RecKind, error) {
	c, err := parseLine(line)
	if err != nil {
		return nil, 0, err
	}
	for kind := range shapes {
		if kind.String() == c.kind {
			cmOf(c, 1)
			r := newRecord(kind)
			return r, kind, decodeRecord(c, r, kind)
		}
	}
	return nil, 0, os.ErrNotExist
}

// Law: a line is refused, or the record read from it prints as a line from
// which the very same is read and printed.
func FuzzDebugLine(f *testing.F) {
	files, _ := filepath.Glob("testdata/fuzz/FuzzDebugLine/*")
	if len(files) < 5 {
		f.Fatalf("%d seed files, want 5 or more", len(files))
	}
	f.Add([]byte(`{"kind":"OPEN","cm":0,"slot":1,"gen":1,"uid":1,"addr":"::1","port":1,"unix":true}`))
	f.Add([]byte(`{"kind":"DELIVER","arena":1,"seq":1,"recipients":[{"slot":1,"gen":1,"sid_base64":"/w=="}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, kind, err := readRecord(line)
		if err != nil {
			return
		}
		first := recordLine(0, r, kind)
		again, _, err := readRecord(first)
		if err != nil {
			t.Fatalf("%sof %q: %v", first, line, err)
		}
		if second := recordLine(0, again, kind); !bytes.Equal(first, second) {
			t.Fatalf("%sthen %s", first, second)
		}
	})
}
