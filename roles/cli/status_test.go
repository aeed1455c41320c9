package cli

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse/roles/parent"
)

// fakeParent answers one request on the control socket and returns what was
// asked.
func fakeParent(t *testing.T, answer []byte) (dir string, asked <-chan []byte) {
	dir = t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	frames := make(chan []byte, 1)
	go func() {
		defer close(frames)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		frame := make([]byte, 16)
		if _, err := io.ReadFull(conn, frame); err == nil {
			frames <- frame
			conn.Write(answer)
		}
	}()
	return dir, frames
}

func sampleStatus(now time.Time) *parent.Status {
	return &parent.Status{
		Version: "1.0", Environment: "orga", Broker: "one", Started: now.Add(-3 * time.Hour), PID: 10, Root: true,
		Warnings: []string{"no authentication on loopback"}, Listeners: []string{"tcp 127.0.0.1:4222"},
		Directory: &parent.Directory{URLs: []string{"ldaps://a:636", "ldap://b:389"}, State: "down", Since: now.Add(-time.Minute), LastError: "directory_tls", Asked: 7, Failed: 2},
		Transfer:  &parent.Transfer{Algorithm: "EdDSA", Memory: "memfd_secret", Erased: true, Signed: 12, Refused: 3},
		Audit:     &parent.Audit{To: "/var/log/audit.log", Written: 1200, Lost: 3, Error: "no space left on device"},
		NextStart: []parent.Held{{Key: "cm.count", Running: "1", File: "4"}},
		Processes: []parent.Process{
			{Role: "parent", PID: 10, State: "running", Started: now.Add(-3 * time.Hour), Memory: 3 << 20, Threads: 7, NoNewPrivs: true, Capabilities: []string{"kill", "setuid"}},
			{Role: "cm/0", PID: 12, UID: 61116, State: "running", Started: now.Add(-time.Minute), Restarts: 2, Connections: 5000,
				Subscriptions: 12, InMsgs: 1234567, OutMsgs: 7654321, InBytes: 20 << 20, OutBytes: 3 << 30, SlowConsumers: 1,
				Memory: 40 << 20, Threads: 5, NoNewPrivs: true, NoCaps: true, Seccomp: 2, Landlock: 7, OwnNetwork: true, Missing: []string{"mdwe"}},
			{Role: "router", PID: 13, UID: 61103, State: "backoff", Started: now, Seccomp: -1},
		},
		Arenas: []parent.Arena{{CM: 0, Size: 64 << 20, Used: 4096, Bodies: 3}},
	}
}

func TestStatusText(t *testing.T) {
	now := time.Unix(1e9, 0)
	want := `broker one in environment orga, version 1.0, up 3h0m, pid 10, as root
listen tcp 127.0.0.1:4222
transfer key EdDSA, in memfd_secret, 12 tickets signed, 3 refused
directory ldaps://a:636 ldap://b:389, down for 1m0s, asked 7 times, 2 without an answer, last error directory_tls
audit log /var/log/audit.log, 1200 lines, 3 lost, not written now: no space left on device
warning: no authentication on loopback
next start: cm.count = 4, 1 until then

ROLE       PID    UID  STATE      UP  RESTARTS  CONNS  SUBS    MSGS IN   MSGS OUT      IN      OUT  SLOW   MEMORY  THREADS  SANDBOX
parent      10      0  running  3h0m         0      0     0          0          0     0 B      0 B     0  3.0 MiB        7  nnp caps:kill,setuid
├─ cm/0     12  61116  running  1m0s         2  5,000    12  1,234,567  7,654,321  20 MiB  3.0 GiB     1   40 MiB        5  nnp nocaps seccomp landlock:7 netns no-mdwe
└─ router   13  61103  backoff    0s         0      0     0          0          0     0 B      0 B     0      0 B        0  seccomp on some threads only

ARENA    SIZE     USED  BODIES
cm/0   64 MiB  4.0 KiB       3
`
	st := sampleStatus(now)
	if got := statusText(st, now, paint{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	st.Processes = append(st.Processes, parent.Process{Role: "auth", Logins: 1234, NoLogins: 5})
	if got, want := statusText(st, now, paint{}), "\nLOGINS  ACCEPTED  REFUSED  WAITING\nauth       1,234        5        0\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// One binary is one line; of several each says who runs it.
func TestStatusBinaries(t *testing.T) {
	process := func(role, sum string) parent.Process {
		return parent.Process{Role: role, Record: &parent.Record{SHA256: sum}}
	}
	ps := []parent.Process{process("parent", "aa"), {Role: "auth"}, process("router", "aa")}
	if got, want := binaries(ps), "binary sha256 aa\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := binaries(append(ps, process("tlsd", ""))), "binary sha256 aa of parent router\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	ps = append(ps, process("cm/0", "bb"), process("cm/1", "aa"))
	if got, want := binaries(ps), "binary sha256 aa of parent router cm/1\nbinary sha256 bb of cm/0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Colours stand for what is not as usual, and words say the same.
func TestStatusColours(t *testing.T) {
	st := sampleStatus(time.Unix(1e9, 0))
	st.Offences = []parent.Offence{{Role: "cm/0", Kind: "SIGN", Reason: "replayed", Count: 1}}
	text := statusText(st, time.Unix(1e9, 0), paint{on: true})
	for _, want := range []string{"\x1b[33mwarning: no authentication on loopback\x1b[0m\n", " \x1b[31mbackoff\x1b[0m ", "\x1b[31mnot written now: no space left on device\x1b[0m\n", "\x1b[31mreplayed\x1b[0m"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%q", want, text)
		}
	}
	plain := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(text, "")
	if want := statusText(st, time.Unix(1e9, 0), paint{}); plain != want {
		t.Errorf("without colours\n%s\nwant\n%s", plain, want)
	}
}

func TestStatusAsks(t *testing.T) {
	answer, err := json.Marshal(sampleStatus(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	dir, asked := fakeParent(t, answer)
	code, stdout, stderr := call(Env{}, "status", "--runtime-dir", dir)
	if code != ExitOK || !strings.Contains(stdout, "└─ router") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	frame := <-asked
	if string(frame[:8]) != controlMagic || binary.LittleEndian.Uint32(frame[8:]) != 1 || binary.LittleEndian.Uint32(frame[12:]) != 0 {
		t.Errorf("asked with % x", frame)
	}
}

// What a newer broker adds is not lost on the way to a program.
func TestStatusJSONIsPassedOn(t *testing.T) {
	dir, _ := fakeParent(t, []byte("{\"version\":\"9\",\"future\":[1,2]}\n"))
	code, stdout, stderr := call(Env{}, "status", "--json", "--runtime-dir", dir)
	if want := "{\n  \"version\": \"9\",\n  \"future\": [\n    1,\n    2\n  ]\n}\n"; code != ExitOK || stdout != want {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
}

func TestStatusOfABadAnswer(t *testing.T) {
	for _, tt := range []struct{ answer, want string }{
		{"", "gave no answer"},
		{"{\"version\":", "unexpected end of JSON input"},
		{"not JSON", "invalid character"},
	} {
		dir, _ := fakeParent(t, []byte(tt.answer))
		code, stdout, stderr := call(Env{}, "status", "--runtime-dir", dir)
		if code != ExitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.want) {
			t.Errorf("answer %q: code %d, %q", tt.answer, code, stderr)
		}
	}
}

func TestStatusAfterACrash(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, controlSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if code, _, stderr := call(Env{}, "status", "--runtime-dir", dir); code != ExitFailed || stderr != "gatehouse: no broker runs in "+dir+" any more: gatehouse serve goes on with what is left of it\n" {
		t.Errorf("code %d, %q", code, stderr)
	}
}
