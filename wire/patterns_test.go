package wire

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// universe has every subject of up to three tokens out of two letters and one that
// no pattern names.
func universe() (all []string) {
	tokens := []string{"a", "b", "z"}
	level := []string{""}
	for range 3 {
		var next []string
		for _, s := range level {
			for _, t := range tokens {
				next = append(next, strings.TrimPrefix(s+"."+t, "."))
			}
		}
		all, level = append(all, next...), next
	}
	return all
}

func pattern(t *rapid.T, name string) string {
	tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", ">"}), 1, 3).Draw(t, name)
	for i, tok := range tokens {
		if tok == ">" {
			tokens = tokens[:i+1]
			break
		}
	}
	return strings.Join(tokens, ".")
}

// Subset and Overlap say of patterns what Match says of each subject.
func TestPatterns(t *testing.T) {
	all := universe()
	rapid.Check(t, func(t *rapid.T) {
		p, q := pattern(t, "p"), pattern(t, "q")
		subset, overlap := true, false
		for _, s := range all {
			inP, inQ := Match([]byte(p), []byte(s)), Match([]byte(q), []byte(s))
			subset = subset && (!inP || inQ)
			overlap = overlap || inP && inQ
		}
		// With three tokens at most, "a.b.>" matches what "a.b.*" does.
		deep := strings.HasSuffix(p, ">")
		if got := Subset([]byte(p), []byte(q)); got != subset && !(deep && !got) {
			t.Fatalf("Subset(%q, %q) = %v", p, q, got)
		}
		if got := Overlap([]byte(p), []byte(q)); got != overlap {
			t.Fatalf("Overlap(%q, %q) = %v", p, q, got)
		}
	})
	for _, tt := range []struct {
		p, q string
		want bool
	}{{"a.>", "a.*", false}, {"a.*", "a.>", true}, {">", ">", true}, {">", "*.>", false}, {"*.>", ">", true}, {"a.b.>", "a.b.*", false}, {"a", "a.>", false}} {
		if got := Subset([]byte(tt.p), []byte(tt.q)); got != tt.want {
			t.Errorf("Subset(%q, %q) = %v", tt.p, tt.q, got)
		}
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string][2]string{
		"pricer/1": {"pricer", "1"}, "a/b": {"a", "b"}, "": {}, "pricer": {}, "/1": {}, "pricer/": {}, "a/b/c": {}, "a.b/1": {}, "a/*": {}, "a/>": {}, "a b/1": {},
		"a/\x7f": {}, "a/\n": {}, "é/1": {}, strings.Repeat("x", 128) + "/1": {strings.Repeat("x", 128), "1"}, strings.Repeat("x", 129) + "/1": {},
	} {
		kind, instance, ok := SplitName(name)
		if ok != (want[0] != "") || ok && [2]string{kind, instance} != want {
			t.Errorf("%q: %q %q %v", name, kind, instance, ok)
		}
		if ok {
			if s := AppendDirect(nil, kind, instance); !Direct(s) || !Special(s) || !ValidSubject(s) || !IsLiteral(s) {
				t.Errorf("%q: %q", name, s)
			}
		}
	}
}

func TestAppendStatus(t *testing.T) {
	for _, tt := range []struct {
		code        int
		text, lines string
		want        string
	}{
		{503, "Responder Lost", "", "HMSG r 7 31 31\r\nNATS/1.0 503 Responder Lost\r\n\r\n\r\n"},
		{100, "", "Gatehouse-Expect: 3\r\n", "HMSG r 7 37 37\r\nNATS/1.0 100\r\nGatehouse-Expect: 3\r\n\r\n\r\n"},
	} {
		if got := string(AppendStatus(nil, []byte("r"), []byte("7"), tt.code, tt.text, []byte(tt.lines))); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
