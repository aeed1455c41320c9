package process

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// watch asks the console at its Unix socket.
func (b *broker) watch(path string) (status int, body string) {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.run, "console.sock"))
	}}}
	r, err := c.Get("http://localhost" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(text)
}

// shows waits for an answer that has a text in it.
func (b *broker) shows(path string, status int, want string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; {
		got, body := b.watch(path)
		if got == status && strings.Contains(body, want) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: %d %s, want %d with %s", path, got, body, status, want)
		}
	}
}

// The console is there while it listens anywhere; it is killed, replaced, left without a
// parent and adopted like any other role, and says how that is.
func TestConsole(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{tls: "sign"})
	if pid := b.tree()["console"]; pid != 0 {
		t.Errorf("a console that listens nowhere: %d", pid)
	}
	b.edit("[console]\nunix = \"\"\n", "[console]\nunix = \"console.sock\"\n")
	mark := b.log.Mark()
	b.reload("reloaded")
	if b.log.Find(mark, "role ready", patience, "role", "console") == nil {
		t.Fatal("no console after a reload")
	}
	const ok = `{"status":"ok"}`
	b.shows("/healthz", 200, ok)
	if st, err := os.Stat(filepath.Join(b.run, "console.sock")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("its socket: %v, %v", st.Mode(), err)
	}

	c := b.natsClient()
	defer c.Close()
	_, err := c.SubscribeSync("px.>")
	must(t, err)
	must(t, c.Flush())
	const subscribed = `"px.\u003e"` // JSON for a page
	b.shows("/connz?subs=1", 200, subscribed)

	secure := b.natsClientAt("tls://"+b.tls, nats.Secure(b.clientTLS()))
	b.shows("/connz", 200, `"tls_version":"1.3"`)
	b.shows("/connz", 200, `"tls_cipher_suite":"TLS_AES_128_GCM_SHA256"`)
	secure.Close()

	mark = b.log.Mark()
	b.kill("console")
	if b.log.Find(mark, "role ready", patience, "role", "console") == nil {
		t.Fatal("no console after its death")
	}
	b.shows("/connz?subs=1", 200, subscribed)
	b.restart("router")
	b.shows("/connz?subs=1", 200, subscribed)
	b.restart("console")
	b.shows("/connz?subs=1", 200, subscribed)

	left := b.orphan()
	b.shows("/healthz", 503, "the parent does not answer")
	var z struct{ Connections []struct{ CID uint64 } }
	if status, body := b.watch("/connz"); status != 200 || json.Unmarshal([]byte(body), &z) != nil || len(z.Connections) != 1 {
		t.Errorf("without a parent: %d %s", status, body)
	}
	b.succeed()
	b.adopted(left)
	b.shows("/healthz", 200, ok)
	b.shows("/connz?subs=1", 200, subscribed)

	b.edit("unix = \"console.sock\"\n", "unix = \"\"\n")
	mark = b.log.Mark()
	b.reload("reloaded")
	if b.log.Find(mark, "role ended", patience, "role", "console") == nil {
		t.Error("a console that is to listen nowhere stays")
	}
	if _, err := os.Stat(filepath.Join(b.run, "console.sock")); !os.IsNotExist(err) {
		t.Errorf("its socket: %v", err)
	}
}

// What strangers send ends their connections, and never the console: behind its walls
// net/http has the calls that it needs.
func TestConsoleHostile(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	b.edit("[console]\nunix = \"\"\n", "[console]\ntcp = [\"127.0.0.1:0\"]\n")
	b.start()
	before := b.tree()
	addr := b.status().Console[0]
	for name, request := range map[string]string{
		"no HTTP":      "INFO {}\r\n\r\n",
		"huge header":  "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"body":         "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000000),
		"chunks":       "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 200),
		"expectation":  "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
		"bad host":     "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"pipeline":     strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 50),
		"half":         "GET / HT",
		"large answer": "GET /statusz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		for _, reads := range []bool{true, false} {
			c, err := net.Dial("tcp", addr)
			must(t, err)
			c.SetDeadline(time.Now().Add(patience))
			done := make(chan struct{})
			go func() {
				io.WriteString(c, request) // whoever is hung up on cannot write all of it
				c.(*net.TCPConn).CloseWrite()
				close(done)
			}()
			if reads {
				io.Copy(io.Discard, c)
			}
			<-done
			c.Close()
			if got := b.tree()["console"]; got != before["console"] {
				t.Fatalf("%s: the console was %d and is %d", name, before["console"], got)
			}
		}
	}
	b.shows("/healthz", 200, "ok")
}
