package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fakeConsole answers for a broker in the folder that it gives.
func fakeConsole(t *testing.T, paths map[string]http.HandlerFunc) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, consoleSocket))
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	for path, h := range paths {
		m.HandleFunc(path, h)
	}
	s := &http.Server{Handler: m}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return dir
}

var watchTime = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func sampleConnections() []connection {
	return []connection{
		{CID: 7, IP: "192.0.2.1", Port: 50000, Start: watchTime.Add(-time.Hour), LastActivity: watchTime.Add(-time.Minute), User: "alice", Name: "pricer/1",
			Lang: "go", Version: "1.52.0", CM: "cm/0", TLS: "1.3", Subscriptions: 12, InMsgs: 1234567, OutMsgs: 3, InBytes: 5 << 20, OutBytes: 12, Pending: 4096},
		{CID: 9, IP: "2001:db8::1", Port: 4, Start: watchTime, LastActivity: watchTime, CM: "cm/1",
			Name: "evil\x1b[2J\u202e\u009b" + strings.Repeat("x", 100), Lang: "\xff\xfe", Version: "e\u0301"},
		{CID: 10, Unix: true, PID: 4711, Start: watchTime.Add(-50 * time.Hour), LastActivity: watchTime.Add(-49 * time.Hour), CM: "cm/1"},
	}
}

// answerConnz pages through list as the console does.
func answerConnz(list []connection, asked *[]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		*asked = append(*asked, r.URL.RawQuery)
		limit, _ := strconv.Atoi(q.Get("limit"))
		offset, _ := strconv.Atoi(q.Get("offset"))
		some := slices.Clone(list)
		if user := q.Get("user"); user != "" {
			some = slices.DeleteFunc(some, func(c connection) bool { return c.User != user })
		}
		total := len(some)
		some = some[min(offset, total):min(offset+limit, total)]
		json.NewEncoder(w).Encode(map[string]any{"now": watchTime, "total": total, "connections": some, "future": 1})
	}
}

func TestConns(t *testing.T) {
	var asked []string
	dir := fakeConsole(t, map[string]http.HandlerFunc{"/connz": answerConnz(sampleConnections(), &asked)})
	want := `CID  ADDRESS          USER   NAME                      LANG          VERSION  CM    TLS  SUBS    MSGS IN  MSGS OUT       IN   OUT  PENDING  IDLE    UP
  7  192.0.2.1:50000  alice  pricer/1                  go            1.52.0   cm/0  1.3    12  1,234,567         3  5.0 MiB  12 B  4.0 KiB  1m0s  1h0m
  9  [2001:db8::1]:4  -      evil\x1b[2J\u202e\u009b…  \ufffd\ufffd  e\u0301  cm/1  -       0          0         0      0 B   0 B      0 B    0s    0s
 10  pid 4711         -      -                         -             -        cm/1  -       0          0         0      0 B   0 B      0 B  2d1h  2d2h
`
	code, stdout, stderr := call(Env{}, "conns", "--runtime-dir", dir)
	if code != ExitOK || stderr != "" || stdout != want {
		t.Errorf("code %d, got\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
	if !slices.Equal(asked, []string{"auth=1&limit=4096&offset=0&sort=cid"}) {
		t.Errorf("asked for %q", asked)
	}
	asked = nil
	code, stdout, _ = call(Env{}, "conns", "--runtime-dir", dir, "--limit", "1", "--sort", "bytes_to", "--user", "alice")
	if code != ExitOK || strings.Count(stdout, "\n") != 2 || !slices.Equal(asked, []string{"auth=1&limit=1&offset=0&sort=bytes_to&user=alice"}) {
		t.Errorf("code %d, %q\n%s", code, asked, stdout)
	}
	code, stdout, _ = call(Env{}, "conns", "--runtime-dir", dir, "--limit", "2")
	if code != ExitOK || !strings.HasSuffix(stdout, "\nand 1 more\n") {
		t.Errorf("code %d\n%s", code, stdout)
	}
}

// Programs get what the console says, also what we do not know, in ASCII.
func TestConnsJSON(t *testing.T) {
	dir := fakeConsole(t, map[string]http.HandlerFunc{"/connz": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "{\"total\":1,\"connections\":[{\"cid\":7,\"name\":\"\u009b2J\",\"future\":{\"a\":[1]}}]}")
	}})
	code, stdout, stderr := call(Env{}, "conns", "--json", "--runtime-dir", dir)
	var got struct {
		Total       int
		Connections []struct {
			CID    int
			Name   string
			Future struct{ A []int }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != ExitOK || got.Total != 1 || got.Connections[0].Name != "\u009b2J" || got.Connections[0].Future.A[0] != 1 {
		t.Errorf("code %d, %v, %+v\n%s%s", code, err, got, stdout, stderr)
	}
	if strings.ContainsFunc(stdout, func(r rune) bool { return r > '~' }) {
		t.Errorf("not ASCII: %q", stdout)
	}
}

// More connections than go into an answer come in several, each of them once.
func TestConnsPages(t *testing.T) {
	var list []connection
	for i := range 2*pageSize + 5 {
		list = append(list, connection{CID: uint64(i + 1), User: "alice"})
	}
	list[pageSize+1] = list[pageSize-1] // it has moved in the order meanwhile
	var asked []string
	dir := fakeConsole(t, map[string]http.HandlerFunc{"/connz": answerConnz(list, &asked)})
	code, stdout, stderr := call(Env{}, "conns", "--runtime-dir", dir)
	if lines := strings.Count(stdout, "\n"); code != ExitOK || lines != 2*pageSize+4+2 || len(asked) != 3 {
		t.Errorf("code %d, %d lines, asked %q, %s", code, lines, asked, stderr)
	}
}

// Whatever a console says, there is one line about it, or a table in which nothing of it
// does anything to a terminal.
func TestConsoleThatMakesNoSense(t *testing.T) {
	for _, tt := range []struct {
		status       int
		answer, want string
	}{
		{200, "", "unexpected end of JSON input"},
		{200, "<html>", "invalid character"},
		{200, `{"connections":[{"cid":-1}]}`, "cannot unmarshal"},
		{200, `{"connections":{}}`, "cannot unmarshal"},
		{400, "no such value of sort\x1b[2J\nand more", `400 Bad Request: no such value of sort\x1b[2J`},
		{503, "", "503 Service Unavailable: -"},
	} {
		dir := fakeConsole(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.answer)
		}})
		for _, command := range []string{"conns", "top"} {
			code, stdout, stderr := call(Env{}, command, "--runtime-dir", dir)
			if code != ExitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || command == "conns" && !strings.Contains(stderr, tt.want) {
				t.Errorf("%s, %q: code %d, %q%q", command, tt.answer, code, stdout, stderr)
			}
		}
	}
}

func TestNoConsole(t *testing.T) {
	dir := t.TempDir()
	want := "gatehouse: no console at " + filepath.Join(dir, consoleSocket) + ": no broker runs there, or it was started without console.unix\n"
	for _, args := range [][]string{{"conns"}, {"top"}, {"kick", "--user", "alice"}} {
		if code, _, stderr := call(Env{}, append(args, "--runtime-dir", dir)...); code != ExitFailed || stderr != want {
			t.Errorf("%s: code %d, %q", args, code, stderr)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, consoleSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if code, _, stderr := call(Env{}, "conns", "--runtime-dir", dir); code != ExitFailed || !strings.Contains(stderr, "any more: status shows whether the broker runs") {
		t.Errorf("code %d, %q", code, stderr)
	}
}

// answerStatusz gives a sample that has grown by some with each question.
func answerStatusz(asked *int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := uint64(*asked)
		*asked++
		now := watchTime.Add(time.Duration(n) * 2 * time.Second)
		st := sampleStatus(watchTime)
		st.Processes[1].InMsgs += 2000 * n
		json.NewEncoder(w).Encode(map[string]any{"now": now, "status": st, "stale": false, "varz": map[string]uint64{
			"connections": 5000, "total_connections": 123456, "subscriptions": 12, "in_msgs": 1000 + 2000*n, "out_msgs": 10, "in_bytes": 4096 * n, "slow_consumers": 1}})
	}
}

func TestTopOnce(t *testing.T) {
	var asked []string
	looks := 0
	dir := fakeConsole(t, map[string]http.HandlerFunc{"/statusz": answerStatusz(&looks), "/connz": answerConnz(sampleConnections(), &asked)})
	code, stdout, stderr := call(Env{}, "top", "--runtime-dir", dir, "--interval", "1ms", "--limit", "2", "--sort", "idle")
	if code != ExitOK || stderr != "" || looks != 2 {
		t.Fatalf("code %d, %d looks, %s", code, looks, stderr)
	}
	want := `broker one in environment orga, version 1.0, up 3h0m
5,000 connections, 123,456 ever, 12 subscriptions, 1 slow consumers
in 1000 messages/s, 2.0 KiB/s   out 0 messages/s, 0 B/s

ROLE    PID  STATE      UP  RESTARTS  CONNS  IN/S  OUT/S  BYTES IN/S  BYTES OUT/S   MEMORY
parent   10  running  3h0m         0      0     0      0         0 B          0 B  3.0 MiB
cm/0     12  running  1m2s         2  5,000  1000      0         0 B          0 B   40 MiB
router   13  backoff    2s         0      0     0      0         0 B          0 B      0 B
`
	if !strings.HasPrefix(stdout, want) {
		t.Errorf("got\n%s\nwant\n%s", stdout, want)
	}
	if !strings.Contains(stdout, "  by idle\n") || !strings.HasSuffix(stdout, "\nand 1 more\n") || strings.Contains(stdout, "\x1b") {
		t.Errorf("%s", stdout)
	}
	if !strings.Contains(asked[0], "limit=2&offset=0&sort=idle") {
		t.Errorf("asked for %q", asked)
	}
}

// What is wrong is said above what is shown, which stays.
func TestTopOfALostConsole(t *testing.T) {
	var asked []string
	looks, down := 0, false
	connz := answerConnz(sampleConnections(), &asked)
	dir := fakeConsole(t, map[string]http.HandlerFunc{"/statusz": func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(503)
			return
		}
		answerStatusz(&looks)(w, r)
	}, "/connz": connz})
	v := &top{watcher: newWatcher(filepath.Join(dir, consoleSocket)), sort: "subs", limit: 10, every: time.Second}
	defer v.watcher.close()
	if err := v.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(v.page(paint{}), "\n"); !strings.Contains(text, "in - messages/s, -/s") {
		t.Errorf("rates of one look:\n%s", text)
	}
	down = true
	if v.look(t.Context()) == nil {
		t.Fatal("nothing is wrong")
	}
	if lines := v.page(paint{on: true}); !strings.Contains(lines[1], "as of ") || !strings.Contains(lines[1], "503") || !strings.HasPrefix(lines[1], "\x1b[31m") || len(lines) < 10 {
		t.Errorf("%q", lines)
	}
	down = false
	for key, want := range map[byte]string{'c': "cid", 'o': "msgs_to", 'O': "bytes_to"} {
		if !v.press(t.Context(), key) || v.sort != want || v.lost != nil {
			t.Errorf("%c: by %s, %v", key, v.sort, v.lost)
		}
	}
	if !v.press(t.Context(), ' ') || !v.paused || !v.press(t.Context(), 'x') || v.press(t.Context(), 'q') || v.press(t.Context(), ctrlC) {
		t.Error("keys")
	}
}

// Every order has a key, and the help names it.
func TestTopKeys(t *testing.T) {
	var sorts []string
	for _, k := range topKeys {
		sorts = append(sorts, k.sort)
	}
	if !slices.Equal(sortedSet(sorts), sortedSet(connSorts)) {
		t.Errorf("keys for %q, orders %q", sorts, connSorts)
	}
}

func TestShown(t *testing.T) {
	texts := []string{"", "pricer/1", "\x1b[2J", "\u009b", "\u202eabc", "e\u0301", "\xff", "\u200b", "日本", `a\b"`}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		runes := make([]rune, rnd.IntN(14))
		for i := range runes {
			runes[i] = rune(rnd.IntN(1 << rnd.IntN(21)))
		}
		texts = append(texts, string(runes), string(runes)[rnd.IntN(1+len(string(runes))):])
	}
	for _, s := range texts {
		got := shown(s, 10)
		if n := len([]rune(got)); n < 1 || n > 10 {
			t.Fatalf("%q has %d characters", got, n)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Fatalf("%q holds %U", got, r)
			}
		}
	}
}
