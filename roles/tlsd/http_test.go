package tlsd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gatehouse/roles/tlsd/protocol"
)

const (
	get   = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	sized = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
)

// Wherever a whole exchange is cut, nobody else could go on; behind it somebody could.
func TestBetween(t *testing.T) {
	for name, tt := range map[string]struct{ request, answer string }{
		"sized":     {get, sized},
		"empty":     {get, "HTTP/1.1 200\r\ncontent-length:0\r\nConnection: keep-alive\r\n\r\n"},
		"chunked":   {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n1 \r\n\n\r\n0\r\n\r\n"},
		"trailers":  {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n"},
		"no body":   {get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"},
		"HEAD":      {"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"POST":      {"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n", sized},
		"in chunks": {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", sized},
		"continue":  {get, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n" + sized},
		"long":      {"GET /" + strings.Repeat("x", maxLine-30) + " HTTP/1.1\r\n\r\n", sized},
	} {
		for cut := range len(tt.request) + len(tt.answer) {
			var x exchange
			for range 2 { // and so it goes on
				all, request := tt.request+tt.answer, len(tt.request)
				x.sent([]byte(all[:min(cut, request)]))
				x.came([]byte(all[request:max(cut, request)]))
				if x.between() != (cut == 0) {
					t.Fatalf("%s: at %d: %+v", name, cut, x)
				}
				x.sent([]byte(all[min(cut, request):request]))
				x.came([]byte(all[max(cut, request):]))
				if !x.between() {
					t.Fatalf("%s: after %d and the rest: %+v", name, cut, x)
				}
			}
		}
	}
}

// What could be read in two ways, or ends with the connection, is never between.
func TestLost(t *testing.T) {
	for name, tt := range map[string]struct{ request, answer string }{
		"not HTTP":            {"EHLO h\r\n", ""},
		"HTTP/1.0":            {"GET / HTTP/1.0\r\n\r\n", sized},
		"CONNECT":             {"CONNECT h:1 HTTP/1.1\r\n\r\n", sized},
		"pipelined":           {get + get, sized + sized},
		"unasked":             {"", sized},
		"two answers":         {get, sized + sized},
		"no length":           {get, "HTTP/1.1 200 OK\r\n\r\nabc"},
		"both lengths":        {get, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"},
		"and the other way":   {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
		"two lengths":         {get, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
		"odd length":          {get, "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"},
		"huge length":         {get, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"},
		"huge chunk":          {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"},
		"odd coding":          {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		"blank before colon":  {get, "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc"},
		"folded":              {get, "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 3\r\n\r\n"},
		"bare LF":             {get, "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"},
		"bare CR":             {get, "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 4\r\nContent-Length: 3\r\n\r\nabc"},
		"NUL":                 {"GET /\x00 HTTP/1.1\r\n\r\n", sized},
		"close":               {get, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"},
		"upgrade":             {get, "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		"request with close":  {"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", sized},
		"a line without end":  {"GET /" + strings.Repeat("x", 2*maxLine), ""},
		"status of two":       {get, "HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc"},
		"answer in HTTP/1.0":  {get, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
		"an empty line first": {"\r\n" + get, sized},
	} {
		var x exchange
		x.sent([]byte(tt.request))
		x.came([]byte(tt.answer))
		x.sent([]byte(get))
		x.came([]byte(sized))
		if !x.lost || x.between() {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

// Law: it does not matter in what pieces bytes come; and where it is between exchanges,
// net/http, if it reads all of that, reads as many whole requests as answers.
func FuzzExchange(f *testing.F) {
	f.Add([]byte(get+"GET /b HTTP/1.1\r\n\r\n"), []byte(sized+"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"), byte(7))
	f.Add([]byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), []byte("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), byte(3))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n"), []byte("HTTP/1.1 204 None\r\n\r\n"), byte(1))
	f.Fuzz(func(t *testing.T, requests, answers []byte, step byte) {
		heads, n, good := readRequests(requests)
		var x, y exchange
		for i := range max(n, 1) { // each request before its answer, as a server has it
			next := answers
			if good {
				x.sent(requests[heads[i]:heads[i+1]])
				for piece := range slices.Chunk(requests[heads[i]:heads[i+1]], int(step)+1) {
					y.sent(piece)
				}
				if next = answers[:answerEnd(answers, requests[heads[i]:])]; i == n-1 {
					next = answers
				}
			} else {
				x.sent(requests)
				for piece := range slices.Chunk(requests, int(step)+1) {
					y.sent(piece)
				}
			}
			answers = answers[len(next):]
			x.came(next)
			for piece := range slices.Chunk(next, int(step)+1) {
				y.came(piece)
			}
			if x.between() != y.between() || x.lost != y.lost {
				t.Fatalf("in pieces of %d: %+v, %+v", step, x, y)
			}
			if good && x.between() && answerEnd(next, requests[heads[i]:]) != len(next) {
				t.Fatalf("%q is not the answer to %q", next, requests[heads[i]:heads[i+1]])
			}
		}
	})
}

// readRequests gives where each request begins, and where the last one ends.
func readRequests(b []byte) (at []int, n int, good bool) {
	at = []int{0}
	for at[n] < len(b) {
		left := bytes.NewReader(b[at[n]:])
		r := bufio.NewReaderSize(left, 16)
		req, err := http.ReadRequest(r)
		if err != nil {
			return at, n, false
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return at, n, false
		}
		at = append(at, len(b)-left.Len()-r.Buffered())
		n++
	}
	return at, n, n > 0
}

// answerEnd gives the length of the final answer to a request and of those before it;
// that of all if net/http reads none.
func answerEnd(b, request []byte) int {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return len(b)
	}
	left := bytes.NewReader(b)
	r := bufio.NewReaderSize(left, 16)
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			return len(b)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return len(b)
		}
		if resp.StatusCode >= 200 {
			return len(b) - left.Len() - r.Buffered()
		}
	}
}

// A program that does not know that it shares lets a session go between exchanges, and
// ends it anywhere else.
func TestReleaseHTTP(t *testing.T) {
	r := newRig(t)
	to := r.serve(func(c *tls.Conn) {
		for br := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.WriteString(c, map[string]string{"/whole": sized, "/part": sized[:len(sized)-1]}[req.URL.Path])
		}
	})
	r.policy("s", to, nil)
	for _, tt := range []struct {
		path   string
		answer int // bytes
		after  string
		shakes int32
	}{
		{"/whole", len(sized), "\xff\xff\xff\xff", 1},
		{"/part", len(sized) - 1, "", 1},
		{"/whole", len(sized), "\xff\xff\xff\xff", 2},
	} {
		conn := r.raw("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: s\nEncoding: chunks\nRelease: http\n\n")
		if a := r.answer(conn); a.Code != protocol.OK {
			t.Fatalf("%s: %+v", tt.path, a)
		}
		request := "GET " + tt.path + " HTTP/1.1\r\nHost: h\r\n\r\n"
		_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...))
		must(t, err)
		b := make([]byte, protocol.ChunkHeader+tt.answer)
		if _, err := io.ReadFull(conn, b); err != nil || string(b[protocol.ChunkHeader:]) != sized[:tt.answer] {
			t.Fatalf("%s: %q %v", tt.path, b, err)
		}
		_, err = conn.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(protocol.Release)), uint64(tt.answer)))
		must(t, err)
		if b, err := io.ReadAll(conn); err != nil || string(b) != tt.after {
			t.Fatalf("%s: after RELEASE: %q %v", tt.path, b, err)
		}
		if n := to.shakes.Load(); n != tt.shakes {
			t.Errorf("%s: %d handshakes", tt.path, n)
		}
	}
}
