package transcript

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRules holds the transcripts to the list of what they prove: a rule that
// is no longer proved is missed here.
func TestRules(t *testing.T) {
	var list strings.Builder
	where := map[string]string{}
	for _, tr := range load(t) {
		fmt.Fprintf(&list, "%s.txt\n", tr.name)
		for _, r := range tr.rules {
			if other := where[r.tag]; other != "" {
				t.Errorf("%s is in %s.txt and in %s.txt", r.tag, other, tr.name)
			}
			where[r.tag] = tr.name
			fmt.Fprintf(&list, "\t%s: %s\n", r.tag, r.words)
		}
		for _, why := range tr.differs {
			fmt.Fprintf(&list, "\t%s answers otherwise: %s\n", theirs, why)
		}
	}
	golden := filepath.Join(wireDir, "rules.ok")
	if *update {
		must(t, os.WriteFile(golden, []byte(list.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	have := map[string]bool{}
	for line := range strings.Lines(list.String()) {
		have[line] = true
	}
	for line := range strings.Lines(string(want)) {
		if !have[line] {
			t.Errorf("not proved: %s", strings.TrimSpace(line))
		}
	}
	if list.String() != string(want) {
		t.Errorf("%s is not what the transcripts say (-update rewrites it)", golden)
	}
}

// TestRefused: what is no transcript must not pass as one that proves nothing.
func TestRefused(t *testing.T) {
	const head = "# rule: tag: words\n"
	for name, text := range map[string]string{
		"no rule":               "A> PING\n",
		"no step":               head,
		"unknown step":          head + "A+ PING\n",
		"no text":               head + "A>\n",
		"text after =":          head + "A= PONG\n",
		"two senders":           head + "A,B> PING\n",
		"lower case":            head + "a> PING\n",
		"late config":           head + "A> PING\nconfig: max_payload = 1\n",
		"bad config":            head + "config: max_payload 1\nA> PING\n",
		"trailing space":        head + "A> PING \n",
		"bad rule":              "# rule: words\nA> PING\n",
		"unexplained":           head + "nats-server: A< PONG\n",
		"explained elsewhere":   head + "# differs: reason\n\nnats-server: A< PONG\n",
		"unknown escape":        head + "A> \\q\n",
		"escape at the end":     head + "A> \\\n",
		"half a byte":           head + "A> \\x1\n",
		"no byte":               head + "A> \\xgg\n",
		"open bracket":          head + "A> \\(3*x\n",
		"no count":              head + "A> \\(x)\n",
		"zero times":            head + "A> \\(0*x)\n",
		"something after no CR": head + "A> x\\cy\n",
		"bad duration":          head + "wait long\n",
	} {
		if _, err := parse("name", text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{
		`PING`:                 "PING\r\n",
		`PING\n\c`:             "PING\n",
		`\x00\xff\t\\\)`:       "\x00\xff\t\\)\r\n",
		`a\(3*b\(2*c)d)e`:      "abccdbccdbccde\r\n",
		`\(2*a\r\n)\c`:         "a\r\na\r\n",
		`{"name":"\(2*(x\))"}`: `{"name":"(x)(x)"}` + "\r\n",
		`größe`:                "größe\r\n",
	} {
		if got, err := unescape(text); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
}
