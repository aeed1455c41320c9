package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/wire"
)

// newTestServer is a server without a parent that would answer.
func newTestServer(t testing.TB) *server {
	t.Helper()
	mem, err := standin.New(standin.Settings(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.Close)
	child, parent, err := mem.Child(privsep.ID{Role: privsep.RoleConsole})
	if err != nil {
		t.Fatal(err)
	}
	parent.Close()
	c, err := newConsole(child.Setup, child.Parent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.poll.Close()
		child.Parent.Close()
	})
	return c.server
}

// What is asked is answered as nats-server does: with data, an error, a word that nobody
// is there, or not at all.
func TestSystemAnswers(t *testing.T) {
	s := newTestServer(t)
	for _, c := range []struct{ subject, body, want string }{
		{"SERVER.PING", "", "statsz"},
		{"SERVER.PING", `{"server_name":"debug","exact_match":true}`, "statsz"},
		{"SERVER.PING", `{"server_name":"bug"}`, "statsz"},
		{"SERVER.PING", `{"server_name":"bug","exact_match":true}`, "silence"},
		{"SERVER.PING", `{"server_name":"other"}`, "silence"},
		{"SERVER.PING.VARZ", `{"cluster":"c"}`, "silence"},
		{"SERVER.PING.VARZ", `{"tags":["t"]}`, "silence"},
		{"SERVER.PING.STATSZ", " \n", "statsz"},
		{"SERVER.PING.VARZ", "null", "data server_id"},
		{"SERVER.DEBUG.VARZ", `{"server_name":"other"}`, "data server_id"},
		{"SERVER.DEBUG.STATSZ", "", "statsz"},
		{"SERVER.PING.CONNZ", `{"sort":"","auth":true,"limit":2048,"state":2,"exact_match":true}`, "data connections"},
		{"SERVER.PING.CONNZ", `{"subscriptions":true}`, "error 503"}, // there is no router that says whose
		{"SERVER.PING.CONNZ", `{"sort":"bytes_to","cid":7,"offset":-1,"limit":-1,"mqtt_client":"m"}`, "data connections"},
		{"SERVER.PING.CONNZ", `{"sort":"colour"}`, "error 400"},
		{"SERVER.PING.CONNZ", `{"state":3}`, "error 400"},
		{"SERVER.PING.CONNZ", `{"limit":"1"}`, "error 400"},
		{"SERVER.PING.CONNZ", `{bad`, "error 400"},
		{"SERVER.PING.CONNZ", `[]`, "error 400"},
		{"SERVER.PING.CONNZ", strings.Repeat(" ", maxQuestion+1), "error 413"},
		{"SERVER.PING.SUBSZ", "", "data num_subscriptions"},
		{"SERVER.PING.HEALTHZ", "", "data status"},
		{"SERVER.PING.ACCOUNTZ", "", "data accounts"},
		{"SERVER.PING.IDZ", "", "plain id"},
		{"ACCOUNT.$G.CONNZ", "", "data connections"},
		{"ACCOUNT.PING.CONNZ", "", "data connections"},
		{"ACCOUNT.$G.INFO", "", "data account_name"},
		{"ACCOUNT.PING.STATZ", "", "data account_statz"},
		{"ACCOUNT.A.CONNZ", "", "nobody"},
		{"ACCOUNT.$G.VARZ", "", "nobody"},
		{"SERVER.PING.INFO", "", "nobody"},
		{"SERVER.PING.STATZ", "", "nobody"},
		{"SERVER.PING.KICK", "", "nobody"},
		{"SERVER.OTHER.VARZ", "", "nobody"},
		{"SERVER.DEBUG", "", "nobody"},
		{"SERVER.DEBUG.RELOAD", "", "nobody"},
		{"SERVER.PING.VARZ.X", "", "nobody"},
		{"SERVER.PING.", "", "nobody"},
		{"", "", "nobody"},
		{"CLUSTER.PING.VARZ", "", "nobody"},
	} {
		got := react(t, s.system(&question{subject: "$SYS.REQ." + c.subject, body: []byte(c.body), long: len(c.body) > maxQuestion}, 7))
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %.40s: %.200s, want %s", c.subject, c.body, got, c.want)
		}
	}
}

// react says in words what a reaction is, and holds it against its shape.
func react(t testing.TB, r reaction) string {
	t.Helper()
	switch {
	case r.nobody:
		return "nobody"
	case r.body == nil:
		return "silence"
	}
	var got struct {
		Server *wire.ServerInfo
		Data   map[string]any
		Statsz *statsz
		Error  *apiError
		ID     string
	}
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	if got.ID == "DEBUG" {
		return "plain id"
	}
	if got.Server == nil || got.Server.ID != "DEBUG" || got.Server.Seq != 7 || got.Server.Time == "" {
		t.Fatalf("who answers %s", r.body)
	}
	all := ""
	if got.Statsz != nil {
		all += "statsz "
	}
	if got.Error != nil {
		all += fmt.Sprint("error ", got.Error.Code)
	}
	if got.Data != nil {
		all += "data"
		for _, key := range []string{"server_id", "connections", "num_subscriptions", "status", "accounts", "account_name", "account_statz"} {
			if _, ok := got.Data[key]; ok && (key != "server_id" || got.Data["uptime"] != nil) {
				all += " " + key
			}
		}
	}
	return all
}

// Law: whatever a client asks, the answer is one object of the known shape, with one of
// data, figures and an error, or there is none.
func FuzzSystemOptions(f *testing.F) {
	mustCorpus(f, "FuzzSystemOptions", 3)
	s := newTestServer(f)
	subjects := []string{"SERVER.PING.CONNZ", "SERVER.DEBUG.VARZ", "SERVER.PING", "ACCOUNT.PING.CONNZ", "SERVER.PING.SUBSZ"}
	for _, body := range []string{"", "{}", `{"sort":"cid","state":1,"limit":3,"user":"a&limit=9","acc":"$G"}`, `{"server_name":"d","tags":[]}`} {
		f.Add(uint8(0), []byte(body))
	}
	f.Fuzz(func(t *testing.T, subject uint8, body []byte) {
		got := react(t, s.system(&question{subject: "$SYS.REQ." + subjects[int(subject)%len(subjects)], body: body}, 7))
		if n := strings.Count(got, "data") + strings.Count(got, "statsz") + strings.Count(got, "error") + strings.Count(got, "silence"); n != 1 {
			t.Fatalf("%q: %s", body, got)
		}
	})
}

// Law: whatever a cm sends, the console sends what is the client protocol, and nothing but
// its hello, PONGs and answers.
func FuzzSystemTalk(f *testing.F) {
	mustCorpus(f, "FuzzSystemTalk", 3)
	s := newTestServer(f)
	for _, in := range []string{
		"INFO {}\r\nPING\r\n+OK\r\nMSG $SYS.REQ.SERVER.PING.IDZ 1 r 2\r\n{}\r\n",
		"INFO {}\r\nHMSG $SYS.REQ.SERVER.PING.IDZ 1 r 12 14\r\nNATS/1.0\r\n\r\n{}\r\nMSG a 1 r 0\r\n\r\n-ERR 'x'\r\n",
		"INFO {}\r\nMSG a 1 r\tq 0\r\n\r\n", "INFO {}\r\nMSG a 1 99999999999\r\n", "PING\r\n", "INFO {}\r\nHMSG a 1 r 9 2\r\n{}\r\n",
		"INFO {}\r\nMSG a 1 r 20000\r\n" + strings.Repeat("x", 20000) + "\r\nPING\r\n",
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		k := talk{server: s, to: &out}
		err := k.run(bytes.NewReader(in))
		if err == nil {
			t.Fatal("it ended without an error")
		}
		if cap(k.body) > 2*maxQuestion || cap(k.out) > maxLine {
			t.Fatalf("kept %d and %d bytes", cap(k.body), cap(k.out))
		}
		var p wire.Parser
		p.SetHeaders(true)
		lim := wire.Limits{ControlLine: maxLine, Connect: maxLine, Payload: maxSize}
		ops := map[wire.Op]int{}
		for b := out.Bytes(); len(b) > 0; {
			var fr wire.Frame
			n, ev, err := p.Next(b, &lim, &fr)
			if err != nil {
				t.Fatalf("%v in %q", err, out.Bytes())
			}
			if ev == wire.Control || ev == wire.Message || ev == wire.MessageStart {
				ops[fr.Op]++
			}
			b = b[n:]
		}
		if p.Started() || ops[wire.OpConnect] > 1 || ops[wire.OpSub] > 1 || ops[wire.OpUnsub]+ops[wire.OpPing]+ops[wire.OpIgnored] > 0 {
			t.Fatalf("sent %q", out.Bytes())
		}
	})
}

// One request after the other is answered, each on its own subject, until the end.
func TestSystemTalk(t *testing.T) {
	s := newTestServer(t)
	var out bytes.Buffer
	k := talk{server: s, to: &out}
	long := strings.Repeat("x", maxQuestion+1)
	in := "INFO {}\r\nPING\r\n" +
		"MSG $SYS.REQ.SERVER.PING.IDZ 1 r.1 0\r\n\r\n" +
		"MSG $SYS.REQ.SERVER.PING.IDZ 1 2\r\n{}\r\n" + // wants no answer
		"HMSG $SYS.REQ.SERVER.PING.IDZ 1 r.2 12 33\r\nNATS/1.0\r\n\r\n{\"server_name\":\"x\"}  \r\n" +
		fmt.Sprintf("MSG $SYS.REQ.SERVER.PING.VARZ 1 r.3 %d\r\n%s\r\n", len(long), long) +
		"MSG $SYS.REQ.SERVER.PING.NOPE 1 r.4 0\r\n\r\n"
	if err := k.run(strings.NewReader(in)); err != io.EOF {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(out.String(), hello, "HELLO;")
	id := `{"host":"127.0.0.1","id":"DEBUG","name":"debug"}`
	want := fmt.Sprintf("HELLO;PONG\r\nPUB r.1 %d\r\n%s\r\nPUB r.3 ", len(id), id)
	end := "HPUB r.4 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, end) || !strings.Contains(got, `"code":413`) {
		t.Errorf("sent %q", got)
	}
}

// mustCorpus fails where fewer files than there should be are in a fuzz target's corpus.
func mustCorpus(t testing.TB, target string, least int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
	if err != nil || len(files) < least {
		t.Fatalf("%d files in the corpus of %s, %v", len(files), target, err)
	}
}
