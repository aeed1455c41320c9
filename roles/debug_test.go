package roles

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// lines runs a role on input and gives what it prints, INFO left out.
func lines(t *testing.T, role, input string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := debug(role, strings.NewReader(input), &out); err != nil {
		t.Fatalf("%s: %v\n%s", role, err, &out)
	}
	var kept []string
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
		if !strings.Contains(line, `"data":"INFO `) {
			kept = append(kept, strings.TrimSuffix(line, "\n"))
		}
	}
	return kept
}

const routerSession = `{"kind":"OPEN","slot":1,"gen":1,"uid":1}
{"kind":"CONNECT","slot":1,"gen":1,"json":"{\"verbose\":false}"}
`

// The end of the input comes at once, the answers all the same.
func TestDebugRouterAnswersAll(t *testing.T) {
	const n = 500
	input := routerSession + `{"kind":"SUB","slot":1,"gen":1,"subject":">","sid":"1"}` + "\n" +
		strings.Repeat(`{"kind":"PUB","slot":1,"gen":1,"subject":"a"}`+"\n", n)
	got := lines(t, "router", strings.TrimSuffix(input, "\n"))
	if len(got) != n {
		t.Fatalf("%d answers, want %d", len(got), n)
	}
	for i, line := range got {
		want := fmt.Sprintf(`{"kind":"DELIVER","cm":0,"arena":0,"seq":%d,"subject":"a","recipients":[{"slot":1,"gen":1,"sid":"1"}]}`, i+1)
		if line != want {
			t.Fatalf("%s\nwant %s", line, want)
		}
	}
}

// One message has more to say than a ring holds, so that the router waits for
// room in the middle of it. All of it comes, and nothing is taken for its end.
func TestDebugRouterFullRing(t *testing.T) {
	const n, long = 500, 4000
	var input strings.Builder
	input.WriteString(routerSession)
	for i := range n {
		fmt.Fprintf(&input, `{"kind":"SUB","slot":1,"gen":1,"subject":">","sid":"%0*d"}`+"\n", long, i)
	}
	input.WriteString(`{"kind":"PUB","slot":1,"gen":1,"subject":"a"}` + "\n" + `{"kind":"PING","slot":1,"gen":1}` + "\n")
	got := lines(t, "router", input.String())
	sids := map[string]bool{}
	for i, line := range got[:len(got)-1] {
		var ins struct {
			Recipients []struct{ SID string }
			More       bool
		}
		if err := json.Unmarshal([]byte(line), &ins); err != nil {
			t.Fatal(err)
		}
		last := i == len(got)-2
		if ins.More == last {
			t.Fatalf("piece %d of %d: more %v", i, len(got)-1, ins.More)
		}
		for _, r := range ins.Recipients {
			sids[r.SID] = true
		}
	}
	if len(sids) != n {
		t.Fatalf("%d recipients, want %d", len(sids), n)
	}
	if pong := got[len(got)-1]; pong != `{"kind":"SEND","cm":0,"slot":1,"gen":1,"data":"PONG\r\n"}` {
		t.Fatalf("at the end: %s", pong)
	}
}

// A record that no cm could have made out of a control line is the cm's fault,
// and no reason for the router to wait for room that there never will be. It
// hears the cm's next process.
func TestDebugRouterLongFields(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for _, record := range []string{
		`{"kind":"PUB","slot":1,"gen":1,"subject":"` + long + `"}`,
		`{"kind":"PUB","slot":1,"gen":1,"subject":"a","reply":"` + long + `"}`,
		`{"kind":"SUB","slot":1,"gen":1,"subject":"` + long + `","sid":"1"}`,
		`{"kind":"SUB","slot":1,"gen":1,"subject":"a","sid":"` + long + `"}`,
	} {
		got := lines(t, "router", routerSession+record+"\n"+`{"kind":"PING","slot":1,"gen":1}`+"\n"+`{"kind":"CM_GONE"}`+"\n"+
			routerSession+`{"kind":"PING","slot":1,"gen":1}`)
		want := []string{
			`{"log":{"level":"error","event":"record refused","peer":"cm/0","err":"longer than a control line: store: malformed record"}}`,
			`{"kind":"CM_FAULT","cm":0,"reason":"corrupt"}`,
			`{"log":{"level":"info","event":"sessions ended with their cm","peer":"cm/0","n":1}}`,
			`{"kind":"SEND","cm":0,"slot":1,"gen":1,"data":"PONG\r\n"}`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.60s: %s", record, got)
		}
	}
	if got := lines(t, "router", routerSession+`{"kind":"CONNECT","json":"`+strings.Repeat("x", 300<<10)+`"}`); !slices.Equal(got, []string{`{"error":"line 3: too long for a ring"}`}) {
		t.Errorf("record above the ring's limit: %s", got)
	}
}

// An -ERR with a hostile subject in it is longer than an instruction may be.
func TestDebugRouterLongAnswer(t *testing.T) {
	subject := "$GR." + strings.Repeat(`\u0001`, 4090)
	got := lines(t, "router", routerSession+`{"kind":"PUB","slot":1,"gen":1,"subject":"`+subject+`"}`)
	if len(got) == 0 || !strings.HasPrefix(got[0], `{"log":{"level":"info","event":"not permitted","cid":1,"reason":"publish"`) {
		t.Fatalf("%.200q", got)
	}
	got = got[1:]
	var text string
	for _, line := range got {
		var ins struct{ Kind, Data string }
		if err := json.Unmarshal([]byte(line), &ins); err != nil || ins.Kind != "SEND" {
			t.Fatalf("%.100s", line)
		}
		text += ins.Data
	}
	want := `-ERR 'Permissions Violation for Publish to "$GR.` + strings.Repeat(`\x01`, 4090) + `"'` + "\r\n"
	if text != want || len(got) < 2 {
		t.Fatalf("%d instructions with %d bytes, want %d", len(got), len(text), len(want))
	}
}

func TestDebugUnknownRole(t *testing.T) {
	if err := debug("parent", strings.NewReader(""), io.Discard); err == nil || err.Error() != `bad role "parent"` {
		t.Fatal(err)
	}
}

// A reader of the output that has gone ends the program with an error.
func TestDebugOutputGone(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	for _, l := range loners {
		role := l.id.Role.String()
		if err := debug(role, strings.NewReader("x\n"), w); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", role, err)
		}
	}
}

// session is a role in this process that is talked to while it runs.
type session struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *bufio.Scanner
	ended chan error
}

func startSession(t *testing.T, role string) *session {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &session{t, inW, bufio.NewScanner(outR), make(chan error, 1)}
	go func() {
		err := debug(role, inR, outW)
		outW.Close()
		s.ended <- err
	}()
	t.Cleanup(func() {
		inW.Close()
		outR.Close()
	})
	return s
}

func (s *session) say(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// hear takes a line, which must begin with text, and gives it as an object.
func (s *session) hear(text string) map[string]any {
	s.t.Helper()
	if !s.out.Scan() || !strings.HasPrefix(s.out.Text(), text) {
		s.t.Fatalf("%s\nwant %s", s.out.Text(), text)
	}
	m := map[string]any{}
	if err := json.Unmarshal(s.out.Bytes(), &m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// end ends the input; nothing may come any more.
func (s *session) end() {
	s.t.Helper()
	s.in.Close()
	if s.out.Scan() {
		s.t.Fatalf("after the end of the input: %s", s.out.Text())
	}
	if err := <-s.ended; err != nil {
		s.t.Fatal(err)
	}
}

func dial(t *testing.T, listen map[string]any) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", listen["listen"].(string))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// What a cm is told to write before the end of the input is written.
func TestDebugCMWritesBeforeEnd(t *testing.T) {
	s := startSession(t, "cm")
	s.hear(`{"kind":"RESET"`)
	c := dial(t, s.hear(`{"listen"`))
	s.hear(`{"kind":"OPEN","cm":0,"slot":0,"gen":1,"uid":1,`)
	want := ""
	for i := range 100 {
		text := fmt.Sprintf("line %d\r\n", i)
		b, _ := json.Marshal(text)
		s.say(`{"kind":"SEND","slot":0,"gen":1,"data":` + string(b) + `}`)
		want += text
	}
	s.end()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%v: %q", err, got)
	}
}

// A cm that has no slot left closes who comes; a slot that is free again is
// used again.
func TestDebugCMSlots(t *testing.T) {
	s := startSession(t, "cm")
	s.hear(`{"kind":"RESET"`)
	listen := s.hear(`{"listen"`)
	cfg := debugSettings(1)
	slots := cfg.Places()
	first := dial(t, listen)
	s.hear(`{"kind":"OPEN","cm":0,"slot":0,`)
	for i := 1; i < slots; i++ {
		dial(t, listen)
		s.hear(fmt.Sprintf(`{"kind":"OPEN","cm":0,"slot":%d,`, i))
	}
	if _, err := dial(t, listen).Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("one too many: %v", err)
	}
	first.Close()
	s.hear(`{"kind":"CLOSED","cm":0,"slot":0,"gen":1,`)
	dial(t, listen)
	s.hear(`{"kind":"OPEN","cm":0,"slot":0,`)
	s.end()
}

// Each cm gets its share, and max_connections is kept to.
func TestDebugDispatcherFull(t *testing.T) {
	s := startSession(t, "dispatcher")
	listen := s.hear(`{"listen"`)
	slots := debugSettings(2).MaxConnections
	share := map[any]int{}
	for range slots {
		dial(t, listen)
		h := s.hear(`{"kind":"CONN_HANDOFF"`)
		share[h["cm"]]++
		if h["ticket"] != "good" {
			t.Fatalf("ticket of %v", h)
		}
	}
	if share[0.0] != slots/2 || share[1.0] != slots/2 {
		t.Fatalf("shares %v", share)
	}
	text, err := io.ReadAll(dial(t, listen))
	if err != nil || !strings.HasPrefix(string(text), "INFO {") || !strings.HasSuffix(string(text), "-ERR 'maximum connections exceeded'\r\n") {
		t.Fatalf("one too many: %v %q", err, text)
	}
	s.hear(`{"log":{"level":"warn","event":"connection refused"`)
	s.say(`{"kind":"CLOSED","cm":1,"slot":31}`)
	s.say(`{"kind":"STATS_GET"}`)
	s.hear(`{"kind":"STATS","connections":63,"accepted":64,"refused_max":1}`)
	dial(t, listen)
	s.hear(fmt.Sprintf(`{"kind":"CONN_HANDOFF","cm":1,"slot":%d,"uid":65,`, slots)) // the next that is free
	s.end()
}
