package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// call runs a command in this process.
func call(env Env, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env.Version, env.Stdin, env.Stdout, env.Stderr = "test", strings.NewReader(""), &out, &errs
	code = Main(append([]string{"gatehouse"}, args...), env)
	return code, out.String(), errs.String()
}

func TestServeGetsTheConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.toml")
	if err := os.WriteFile(path, []byte("[cm]\ncount = 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got *parent.Config
	var from string
	env := Env{Serve: func(cfg *parent.Config, source string) error { got, from = cfg, source; return nil }}
	if code, _, stderr := call(env, "serve", "-c", path); code != ExitOK || stderr != "" {
		t.Fatalf("code %d, %s", code, stderr)
	}
	if got == nil || got.CM.Count != 5 || from != path {
		t.Errorf("serve was given %+v from %q", got, from)
	}
	env.Serve = func(*parent.Config, string) error { return errors.New("listen 127.0.0.1:4222:\naddress in use") }
	if code, _, stderr := call(env, "serve", "-c", path); code != ExitFailed || stderr != "gatehouse: listen 127.0.0.1:4222: address in use\n" {
		t.Errorf("code %d, %q", code, stderr)
	}
}

func TestDebugGetsTheRole(t *testing.T) {
	for _, role := range []string{"dispatcher", "cm", "router"} {
		var got string
		env := Env{Debug: func(r string) error { got = r; return nil }}
		if code, _, stderr := call(env, role, "--debug"); code != ExitOK || got != role {
			t.Errorf("%s --debug: code %d, role %q, %s", role, code, got, stderr)
		}
	}
}

// Help is all that somebody has: every command and flag has its words.
func TestEverythingIsExplained(t *testing.T) {
	commands := (&program{}).app().Commands
	for i := 0; i < len(commands); i++ {
		c := commands[i]
		commands = append(commands, c.Subcommands...)
		if c.Usage == "" || c.UsageText == "" || c.Description == "" && c.Name != "version" {
			t.Errorf("command %s is not explained", c.Name)
		}
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); !ok || d.GetUsage() == "" {
				t.Errorf("flag %v of %s is not explained", f.Names(), c.Name)
			} else if d.TakesValue() && !strings.Contains(d.GetUsage(), "`") && d.GetDefaultText() == "" {
				t.Errorf("flag %v of %s does not name its value", f.Names(), c.Name)
			}
		}
	}
}

func TestArrange(t *testing.T) {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "raw"},
		&cli.IntFlag{Name: "count"},
		&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}},
	}
	for _, tt := range []struct{ in, want string }{
		{"", "--"},
		{"px body", "-- px body"},
		{"px --count 3 body --raw", "--count 3 --raw -- px body"},
		{"px -H k:v --header=a:b body", "-H k:v --header=a:b -- px body"},
		{"--raw px", "--raw -- px"},
		{"px -- --count 3", "-- px --count 3"},
		{"px -", "-- px -"},
		{"px --unknown body", "--unknown -- px body"},
		{"px --count", "--count -- px"},
	} {
		if got := strings.Join(arrange(flags, strings.Fields(tt.in)), " "); got != tt.want {
			t.Errorf("arrange(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"},
		{size(0), "0 B"}, {size(1023), "1023 B"}, {size(1024), "1.0 KiB"}, {size(10189), "10 KiB"}, {size(1023 << 10), "1.0 MiB"}, {size(64 << 20), "64 MiB"}, {size(1<<64 - 1), "16 EiB"},
		{rate(950), "950"}, {rate(45100), "45.1 k"}, {rate(2310000), "2.31 M"},
		{latency(0), "0 ns"}, {latency(870), "870 ns"}, {latency(999.6e3), "1.00 ms"}, {latency(45100), "45.1 us"}, {latency(2312345), "2.31 ms"}, {latency(99960000), "100 ms"}, {latency(72e9), "72.0 s"},
		{age(-time.Second), "0s"}, {age(59 * time.Second), "59s"}, {age(3599 * time.Second), "59m59s"}, {age(90 * time.Minute), "1h30m"}, {age(76 * time.Hour), "3d4h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// What a terminal gets must not change the terminal.
func TestVisible(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"px.eur", "px.eur"},
		{"Grüße, 東京 \"quoted\" \\", "Grüße, 東京 \"quoted\" \\"},
		{"a\x1b[2Jb", `a\x1b[2Jb`},
		{"line\nline\ttab", "line\nline\ttab"},
		{"\xff\u202e\r\"", `\xff\u202e\r"`},
	} {
		if got := visibleBody(tt.in); got != tt.want {
			t.Errorf("visibleBody(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	if got := visible("a\nb"); got != `a\nb` {
		t.Errorf("a line feed in a subject shows as %q", got)
	}
}

func TestPlainErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.DNSError{Name: "x", Err: "no such host"}, "look up x: no such host"},
		{os.ErrDeadlineExceeded, "no answer in time"},
		{fmt.Errorf("read: %w", io.EOF), "the broker closed the connection"},
		{nats.ErrMaxPayload, "maximum payload exceeded"},
	} {
		if got := plain(tt.err).Error(); got != tt.want {
			t.Errorf("plain(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"nats://127.0.0.1:4222", "nats://127.0.0.1:4222"},
		{"nats://a:secret@h:1,nats://b:secret@h:2", "nats://a:xxxxx@h:1,nats://b:xxxxx@h:2"},
		{"a:secret@h:1", "...@h:1"},
		{"nats://a:secret %@h:1", "...@h:1"},
		{"unix:///run/a@b.sock", "unix:///run/a@b.sock"},
	} {
		if got := redacted(tt.in); got != tt.want {
			t.Errorf("redacted(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	var got nats.Header
	var bad error
	app := &cli.App{
		Flags: []cli.Flag{headerFlag()}, DisableSliceFlagSeparator: true,
		Action: func(c *cli.Context) error { got, bad = headers(c); return nil },
	}
	if err := app.Run([]string{"x", "-H", "A: b, c:d", "-H", "A:2", "-H", "Empty:"}); err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	if want := (nats.Header{"A": {"b, c:d", "2"}, "Empty": {""}}); !reflect.DeepEqual(got, want) {
		t.Errorf("headers %v, want %v", got, want)
	}
	for _, h := range []string{"novalue", ":v", "a b:c", "a:b\r\nc:d"} {
		if err := app.Run([]string{"x", "-H", h}); err != nil || bad == nil {
			t.Errorf("header %q was taken: %v", h, err)
		}
	}
}
