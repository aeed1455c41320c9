package transcript

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The brokers that a step may be for.
const (
	ours   = "gatehouse"
	theirs = "nats-server"
)

// transcript is one file of testdata/wire.
type transcript struct {
	name    string
	rules   []rule
	differs []string
	config  string // lines of [limits]
	leaves  bool   // stops its broker
	steps   []step
}

// rule is a line of the protocol: a tag for it, and its words.
type rule struct{ tag, words string }

// step is one line. What op is, doc.go says; one that is a word has no conn.
type step struct {
	line   int
	broker string // "" for both
	conns  []string
	op     string
	arg    string // as written
	bytes  []byte // of a text, with its CRLF
	wait   time.Duration
}

func (s *step) String() string {
	return fmt.Sprintf("line %d: %s%s %s", s.line, strings.Join(s.conns, ","), s.op, s.arg)
}

// load reads every transcript.
func load(t *testing.T) []*transcript {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(wireDir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in %s: %v", wireDir, err)
	}
	var all []*transcript
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := parse(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tr)
	}
	return all
}

// parse reads one transcript. Its error names file and line.
func parse(name, text string) (*transcript, error) {
	tr := &transcript{name: name}
	explained := false
	for i, line := range strings.Split(text, "\n") {
		differs := len(tr.differs)
		err := tr.parseLine(i+1, line)
		if err != nil {
			return nil, fmt.Errorf("%s.txt:%d: %w", name, i+1, err)
		}
		// A difference is explained in its own paragraph.
		explained = line != "" && (explained || len(tr.differs) > differs)
		if n := len(tr.steps); n > 0 && tr.steps[n-1].line == i+1 && tr.steps[n-1].broker != "" && !explained {
			return nil, fmt.Errorf("%s.txt:%d: a difference without its reason", name, i+1)
		}
	}
	if len(tr.rules) == 0 || len(tr.steps) == 0 {
		return nil, fmt.Errorf("%s.txt: no rule or no step", name)
	}
	return tr, nil
}

var (
	ruleLine   = regexp.MustCompile(`^([a-z0-9]+(?:-[a-z0-9]+)*): (.+)$`)
	configLine = regexp.MustCompile(`^[a-z_]+ = \S+$`)
	stepLine   = regexp.MustCompile(`^([A-Z][A-Za-z0-9]*(?:,[A-Z][A-Za-z0-9]*)*)(>|=|~|<[~?1*+%]?)(?: (.*))?$`)
)

func (tr *transcript) parseLine(n int, line string) error {
	if line != strings.TrimSpace(line) {
		return fmt.Errorf("white space at an end of the line")
	}
	if words, ok := strings.CutPrefix(line, "# rule: "); ok {
		m := ruleLine.FindStringSubmatch(words)
		if m == nil {
			return fmt.Errorf("not TAG: WORDS: %q", words)
		}
		tr.rules = append(tr.rules, rule{m[1], m[2]})
		return nil
	}
	if words, ok := strings.CutPrefix(line, "# differs: "); ok {
		tr.differs = append(tr.differs, words)
		return nil
	}
	if pair, ok := strings.CutPrefix(line, "config: "); ok {
		if !configLine.MatchString(pair) || len(tr.steps) > 0 {
			return fmt.Errorf("not KEY = VALUE before the first step: %q", pair)
		}
		tr.config += pair + "\n"
		return nil
	}
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	s, err := parseStep(line)
	s.line = n
	tr.leaves = tr.leaves || s.op == "leave"
	tr.steps = append(tr.steps, s)
	return err
}

func parseStep(line string) (s step, err error) {
	for _, broker := range []string{ours, theirs} {
		if rest, ok := strings.CutPrefix(line, broker+": "); ok {
			s.broker, line = broker, rest
		}
	}
	if line == "leave" || line == "settle" {
		s.op = line
		return s, nil
	}
	if d, ok := strings.CutPrefix(line, "wait "); ok {
		s.op = "wait"
		s.wait, err = time.ParseDuration(d)
		return s, err
	}
	m := stepLine.FindStringSubmatch(line)
	if m == nil {
		return s, fmt.Errorf("no step: %q", line)
	}
	s.conns, s.op, s.arg = strings.Split(m[1], ","), m[2], m[3]
	switch {
	case len(s.conns) > 1 && s.op != "<%":
		err = fmt.Errorf("%s is for one connection", s.op)
	case (s.op == "=" || s.op == "~") != (s.arg == ""):
		err = fmt.Errorf("%s with %q", s.op, s.arg)
	case slices.Contains([]string{">", "<", "<?", "<1", "<*", "<+"}, s.op) && !s.special():
		s.bytes, err = unescape(s.arg)
	}
	return s, err
}

// special tells whether what stands in place of a text is no text.
func (s *step) special() bool {
	switch s.op {
	case ">":
		return s.arg == "EOF"
	case "<":
		return s.arg == "EOF" || s.arg == "refused" || s.isInfo()
	}
	return false
}

func (s *step) isInfo() bool {
	return s.op == "<" && (s.arg == "INFO" || strings.HasPrefix(s.arg, "INFO "))
}
