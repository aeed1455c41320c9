package console

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
)

func TestHandlers(t *testing.T) {
	// A message without a handler would be taken and do nothing.
	want := []privsep.Kind{privsep.KindListener, privsep.KindStatsGet, privsep.KindShutdown, privsep.KindSettings, privsep.KindListenerGone, privsep.KindStatus, privsep.KindPeer, privsep.KindSubs, privsep.KindSystemConn}
	for _, k := range privsep.KindsTo(privsep.RoleConsole) {
		setup := []privsep.Kind{privsep.KindBoot, privsep.KindConfig, privsep.KindSegment, privsep.KindSetupEnd, privsep.KindAdopt}
		if !slices.Contains(want, k) && !slices.Contains(setup, k) {
			t.Errorf("%v is for the console", k)
		}
	}
}

// Every answer says that it is not to be kept, framed or guessed at, and is read only.
func TestGuard(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, c := range []struct {
		method, path, host, body string
		want                     int
	}{
		{"GET", "/healthz", "127.0.0.1", "", 200},
		{"HEAD", "/healthz", "127.0.0.1:8222", "", 200},
		{"GET", "/healthz", "localhost:8222", "", 200},
		{"GET", "/healthz", "LOCALHOST", "", 200},
		{"GET", "/healthz", "[::1]:8222", "", 200},
		{"GET", "/healthz", "127.9.9.9", "", 200},
		{"GET", "/healthz", "watch.example", "", 200},
		{"GET", "/healthz", "WATCH.example:80", "", 200},
		{"GET", "/healthz", "evil.example", "", 421},
		{"GET", "/healthz", "127.0.0.1.evil.example", "", 421},
		{"GET", "/healthz", "192.0.2.1", "", 421},
		{"GET", "/healthz", "localhost.evil.example", "", 421},
		{"GET", "/healthz", "", "", 421},
		{"POST", "/healthz", "localhost", "", 405},
		{"PUT", "/varz", "localhost", "x", 405},
		{"OPTIONS", "*", "localhost", "", 405},
		{"TRACE", "/", "localhost", "", 405},
		{"CONNECT", "evil.example:1", "localhost", "", 405},
		{"GET", "/healthz", "localhost", "a body", 413},
		{"GET", "/" + strings.Repeat("x", maxURL), "localhost", "", 414},
		{"GET", "/", "localhost", "", 200},
		{"HEAD", "/", "localhost", "", 200},
		{"GET", "/", "evil.example", "", 421},
		{"GET", "/page.html", "localhost", "", 404},
		{"GET", "/nothing", "localhost", "", 404},
		{"GET", "/../etc/passwd", "localhost", "", 0}, // no file is looked at: 404, or where it leads to
	} {
		conn := g.tcp()
		length := ""
		if c.body != "" {
			length = fmt.Sprintf("Content-Length: %d\r\n", len(c.body))
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\n%sOrigin: http://evil.example\r\nConnection: close\r\n\r\n%s", c.method, c.path, c.host, length, c.body)
		r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.method})
		if err != nil {
			t.Errorf("%s %.30s of %q: %v", c.method, c.path, c.host, err)
			continue
		}
		if r.StatusCode != c.want && c.want != 0 || c.want == 0 && r.StatusCode == 200 {
			t.Errorf("%s %.30s of %q: %d, want %d", c.method, c.path, c.host, r.StatusCode, c.want)
		}
		h := r.Header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Server") != "" {
			t.Errorf("%s %.30s: headers %v", c.method, c.path, h)
		}
		r.Body.Close()
		conn.Close()
	}
}

// What is no HTTP, too long or too slow ends its connection, and nothing else.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	slow := g.tcp() // for headerTime
	io.WriteString(slow, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
	for name, request := range map[string]string{
		"nothing":           "",
		"no HTTP":           "INFO {}\r\n\r\n",
		"TLS":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 100),
		"HTTP/2":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"huge header":       "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"many headers":      "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n",
		"two hosts":         "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
		"no host":           "GET /healthz HTTP/1.1\r\n\r\n",
		"two lengths":       "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"length and chunks": "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"endless body":      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 200),
		"absolute":          "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"zero bytes":        "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"upgrade":           "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		conn := g.tcp()
		go func() { // whoever is hung up on cannot write all of it
			io.WriteString(conn, request)
			conn.(*net.TCPConn).CloseWrite()
		}()
		answer, _ := io.ReadAll(conn)
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%s is answered: %.100s", name, answer)
		}
	}
	if status, _ := g.get("/healthz"); status != 200 {
		t.Errorf("after all that: %d", status)
	}
	began := time.Now()
	if !hungUp(slow) || time.Since(began) > 2*headerTime {
		t.Error("headers may take for ever")
	}
}

// As many connections as may be, all busy, keep others away from the same kind of socket
// only; idle ones make way.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var idle []net.Conn
	for range maxConns {
		c := g.tcp()
		io.WriteString(c, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != 404 {
			t.Fatalf("%v %v", r, err)
		}
		io.Copy(io.Discard, r.Body)
		idle = append(idle, c)
	}
	var busy []net.Conn
	for range maxConns {
		c := g.tcp()
		io.WriteString(c, "GET /nothing HTTP/1.1\r\n")
		busy = append(busy, c)
	}
	for _, c := range idle {
		if !hungUp(c) {
			t.Fatal("an idle one stays")
		}
	}
	if late := g.tcp(); !hungUp(late) {
		t.Error("one more than may be is taken in")
	}
	if status, _ := g.get("/healthz"); status != 200 {
		t.Errorf("over the Unix socket: %d", status)
	}
	io.WriteString(busy[0], "Host: localhost\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(busy[0]), nil); err != nil || r.StatusCode != 404 {
		t.Errorf("one of those that were there: %v %v", r, err)
	}
}
