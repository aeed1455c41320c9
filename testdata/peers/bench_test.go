package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	program(os.Args)
	silence = 500 * time.Millisecond
	os.Exit(m.Run())
}

func quick() *options {
	return &options{
		window: 256 << 10, idle: 10, warm: 10 * time.Millisecond,
		span: 200 * time.Millisecond, rrSpan: 200 * time.Millisecond, connSpan: 300 * time.Millisecond,
		balanceSpan: 300 * time.Millisecond, loginSpan: 300 * time.Millisecond,
	}
}

// Every figure of the table must come from a case, and every value a case
// returns must have its row.
func TestCasesFillTheTable(t *testing.T) {
	r := newReport(quick(), []*command{{name: "a"}, {name: "b"}})
	dir, ids := t.TempDir(), map[keyKind]*identity{}
	for _, c := range cases {
		fake := new(fakeBroker)
		if c.tls != nil {
			if ids[c.tls.key] == nil {
				id, err := newIdentity(c.tls.key, dir)
				if err != nil {
					t.Fatal(err)
				}
				ids[c.tls.key] = id
			}
			fake.id = ids[c.tls.key]
		}
		values, err := c.run(context.Background(), quick(), fake.start(t))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for name, v := range values {
			if v <= 0 && !strings.HasSuffix(c.name, "idle-memory") && !strings.HasPrefix(name, "CPU per new") &&
				!strings.HasSuffix(name, outcomeNames[refused]) && !strings.HasSuffix(name, outcomeNames[unanswered]) {
				t.Errorf("%s = %v", name, v)
			}
			for i := range 2 {
				r.add(name, i, v)
			}
			delete(values, name)
		}
	}
	r.print(io.Discard)
	if len(r.Figures) != len(figures) {
		t.Errorf("%d of %d figures measured", len(r.Figures), len(figures))
	}
}

func TestLossIsAnError(t *testing.T) {
	s := stream{label: "16 B 1-4", size: 16, subs: 4}
	for name, f := range map[string]*fakeBroker{
		"missing":   {drop: 1000},
		"delivered": {repeat: 1000}, // one more than expected
	} {
		_, err := s.run(context.Background(), quick(), f.start(t))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("drop %d, repeat %d: error %v, want one with %q", f.drop, f.repeat, err, name)
		}
	}
}

// A client takes no other certificate than the broker's own, and only from
// whoever has its key.
func TestForeignCertificate(t *testing.T) {
	dir := t.TempDir()
	mine, err := newIdentity(p256, dir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newIdentity(rsa2048, dir)
	if err != nil {
		t.Fatal(err)
	}
	b := (&fakeBroker{id: mine}).start(t)
	for _, c := range []struct {
		id *identity
		ok bool
	}{{mine, true}, {other, false}} {
		b.tls = c.id.client()
		conn, _, err := b.open(connectLine)
		if (err == nil) != c.ok {
			t.Errorf("certificate %v: error %v", c.id.leaf.PublicKeyAlgorithm, err)
		}
		if err == nil {
			conn.close()
		}
	}
}

func TestMissingReplyIsAnError(t *testing.T) {
	r := requests{label: "request-reply 8", n: 8}
	if _, err := r.run(context.Background(), quick(), (&fakeBroker{drop: 20}).start(t)); err == nil {
		t.Error("no error")
	}
}

func TestFramesAtAnySplit(t *testing.T) {
	f := newFrames("MSG a.b 1 3\r\n", 3)
	in := "MSG a.b 1 3\r\nM\r\n\r\nPING\r\nMSG a.b 1 3\r\nxyz\r\nINFO {} \r\nMSG a.b 1 3\r\nabc\r\n"
	for cut := range len(in) {
		var lines []string
		control := func(l []byte) error { lines = append(lines, string(l)); return nil }
		a, used, err := f.count([]byte(in[:cut]), control)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := f.count([]byte(in[used:]), control)
		if err != nil || a+b != 3 || strings.Join(lines, "") != "PING\r\nINFO {} \r\n" {
			t.Fatalf("cut %d: %d+%d messages, %q, %v", cut, a, b, lines, err)
		}
	}
	for _, bad := range []string{
		"MSG a.b 1 3\r\nxyz..", "MSG a.b 2 3\r\nxyz\r\nx", "MSG a.b 1 4\r\nxyz4\r\n", "HMSG a.b 1 3 3\r\n",
	} {
		if n, _, err := f.count([]byte(bad), func([]byte) error { return nil }); err == nil {
			t.Errorf("%q: %d messages, no error", bad, n)
		}
	}
}

func TestVerdict(t *testing.T) {
	more, less := figure{more: true, bound: 1}, figure{bound: 0.6}
	for _, c := range []struct {
		f     figure
		ratio float64
		want  string
	}{{more, 1, "pass"}, {more, 0.99, "FAIL"}, {less, 0.6, "pass"}, {less, 0.61, "FAIL"}, {figure{}, 9, "-"}} {
		if got := c.f.meets(c.ratio, c.f.bound, "pass", "FAIL"); got != c.want {
			t.Errorf("%+v at %v: %s, want %s", c.f, c.ratio, got, c.want)
		}
	}
}

func TestUsageOfOwnTree(t *testing.T) {
	before := cpuUsage(os.Getpid())
	for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
		_ = before.total[0]
	}
	used := cpuUsage(os.Getpid()).since(before)
	if used <= 0 || used > 5*time.Second {
		t.Errorf("used %v", used)
	}
	if m, err := pss(os.Getpid()); err != nil || m < 1<<20 {
		t.Errorf("pss %d, %v", m, err)
	}
}
