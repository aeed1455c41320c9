package wire

import "testing"

var matchTests = []struct {
	pattern, subject string
	want             bool
}{
	{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.b", "a", false}, {"a.b", "a.b", true},
	{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false}, {"*.b", "a.b", true},
	{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {"a.>", "b.c", false},
	{"a.*.>", "a.b", false}, {"a.*.>", "a.b.c", true}, {"*.*", "a.b", true}, {"*.>", "a.b", true},
	{"a.*", "a.*", true}, {"a.*", "a.>", true}, {"a.>", "a.*", true}, {"a.x", "a.*", false}, {"a.>", "a.>.x", true}, {"a.*", "a.*.>", false}, {"a.*.x", "a.>.x", true},
	{"a.b*", "a.b*", true}, {"a.b*", "a.bc", false}, {"a.>b", "a.cb", false}, {"a.>b", "a.>b", true},
	{">", "a..b", false}, {"a.*.b", "a..b", false}, {">", "", false}, {"*", "", false}, {"a.>", "a.", false}, {"*.a", ".a", false},
	{"a..b", "a..b", false}, {"", "", false}, {">.a", "b.a", false}, {"a.>.b", "a.x.b", false}, {"A", "a", false},
	{"é.*", "é.ü", true}, {"\xff", "\xff", true}, {"\xff", "\xfe", false},
}

func TestMatch(t *testing.T) {
	for _, tt := range matchTests {
		if got := Match([]byte(tt.pattern), []byte(tt.subject)); got != tt.want {
			t.Errorf("%q %q: %v", tt.pattern, tt.subject, got)
		}
	}
}

func TestSubjects(t *testing.T) {
	for s, want := range map[string]struct{ valid, literal bool }{
		"a": {true, true}, "a.b": {true, true}, "*": {true, false}, ">": {true, false}, "a.*": {true, false}, "a.>": {true, false}, "*.a": {true, false},
		"a*b": {true, true}, "a.*b": {true, true}, "a>": {true, true}, "**": {true, true}, "é.\xff": {true, true}, "a\x00": {true, true},
		"": {false, true}, ".": {false, true}, ".a": {false, true}, "a.": {false, true}, "a..b": {false, true},
		">.a": {false, false}, "a.>.b": {false, false}, ">.": {false, false}, "*.": {false, false}, "a..*": {false, false},
	} {
		if got := ValidSubject([]byte(s)); got != want.valid {
			t.Errorf("ValidSubject(%q) = %v", s, got)
		}
		if got := IsLiteral([]byte(s)); got != want.literal {
			t.Errorf("IsLiteral(%q) = %v", s, got)
		}
	}
}

// TestReserved has what nats-server 2.15 was seen to refuse and to take.
func TestReserved(t *testing.T) {
	for s, want := range map[string]struct{ publish, reply bool }{
		"_GR_.x": {true, true}, "_GR_..": {true, true}, "_GR_.": {false, false}, "_GR_": {false, false}, "_GR_x.y": {false, false}, "_gr_.x": {false, false},
		"$GR.x": {true, true}, "$GR.a.b": {true, true}, "$GR.": {false, false}, "$GR": {false, false}, "$GNR.x": {false, false},
		"$NRG.x": {true, false}, "$NRG.": {true, false}, "$NRG": {false, false}, "$NRGx.y": {false, false},
		"_R_.x": {false, true}, "_R_.": {false, true}, "_R_": {false, false}, "_R_x": {false, false},
		"$JS.ACK.x": {false, true}, "$JS.ACK.": {false, false}, "$JS.ACK": {false, false}, "$JS.ACKx.y": {false, false}, "$JS.API.x": {false, false},
		"$SYS.x": {false, false}, "a": {false, false}, "": {false, false},
	} {
		if got := ReservedPublish([]byte(s)); got != want.publish {
			t.Errorf("ReservedPublish(%q) = %v", s, got)
		}
		if want.publish && !Special([]byte(s)) {
			t.Errorf("%q is not special", s)
		}
		if got := ReservedReply([]byte(s)); got != want.reply {
			t.Errorf("ReservedReply(%q) = %v", s, got)
		}
	}
}
