package cm

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	mrand "math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
)

// settle waits for goroutines that are about to end.
func settle(t *testing.T, most int) {
	t.Helper()
	lookFor(t, func() bool { return runtime.NumGoroutine() <= most }, func() {
		buf := make([]byte, 1<<16)
		t.Fatalf("%d goroutines, want %d\n%s", runtime.NumGoroutine(), most, buf[:runtime.Stack(buf, true)])
	})
}

// Connections that stop in the middle of a handshake hold up nobody, and leave
// nothing behind.
func TestHalfHandshakes(t *testing.T) {
	const n = 1000
	g := newRig(t, func(s *privsep.Settings) { s.MaxConnections, s.AuthTimeout = n+10, 10*time.Second })
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	ping(t, g.client(cfg))
	before := runtime.NumGoroutine()
	hello := clientHello(t)
	var halves []net.Conn
	for i := range n {
		raw := g.dial()
		readInfo(raw)
		if i%2 == 0 {
			raw.Write(hello)
		} else {
			raw.Write(hello[:1+i%(len(hello)-1)])
		}
		halves = append(halves, raw)
	}
	g.until("all are at it", func() bool { return len(g.signs) == 1+n/2 })
	start := time.Now()
	ping(t, g.client(cfg))
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("a handshake took %v beside %d halves", d, n)
	}
	for i, raw := range halves {
		if i%3 == 0 { // a reset rather than an end
			raw.(*net.TCPConn).SetLinger(0)
		}
		raw.Close()
	}
	if s := g.shaken(n + 2); s.HandshakesFailed != n {
		t.Errorf("%+v", s)
	}
	settle(t, before+runtime.GOMAXPROCS(0)) // which wait for the next handshake
	g.until("few lines", func() bool { return len(g.logs) <= 10*complaintsMost })
}

// Whatever bytes come instead of a handshake, the connection ends, bare or with
// an alert, and the cm goes on.
func TestGarbage(t *testing.T) {
	hello := clientHello(t)
	rnd := mrand.New(mrand.NewPCG(3, 4))
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	broken := bytes.Clone(hello)
	broken[len(broken)/2] ^= 0x55
	inputs := map[string][]byte{
		"CONNECT in the clear": []byte("CONNECT {\"verbose\":false}\r\nPING\r\n"),
		"HTTP":                 []byte("GET / HTTP/1.1\r\n\r\n"),
		"noise":                noise,
		"SSLv2":                append([]byte{0x80, 0x80, 1, 3, 1}, noise[:200]...),
		"giant record":         append([]byte{22, 3, 1, 0xff, 0xff}, noise[:65535]...),
		"giant hello":          giantHello(),
		"empty records":        bytes.Repeat([]byte{22, 3, 1, 0, 0}, 1000),
		"alerts":               bytes.Repeat([]byte{21, 3, 1, 0, 2, 1, 90}, 1000),
		"application data":     append([]byte{23, 3, 3, 0, 100}, noise[:100]...),
		"broken hello":         broken,
		"two hellos":           append(bytes.Clone(hello), hello...),
		"hello and noise":      append(bytes.Clone(hello), noise...),
	}
	for name, input := range inputs {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s first=%v", name, first), func(t *testing.T) {
				g := newRig(t, func(s *privsep.Settings) { s.TLS.HandshakeFirst = first; s.AuthTimeout = time.Second })
				cfg := trusting(g.certificate(1, newKey(t, "p256")))
				raw := g.dial()
				if !first {
					readInfo(raw)
				}
				go raw.Write(input)
				answer, _ := io.ReadAll(raw)
				if (name == "CONNECT in the clear" || name == "HTTP") && len(answer) > 0 {
					t.Errorf("answer %q, nats-server closes without one", answer)
				}
				if s := g.shaken(1); s.HandshakesFailed != 1 {
					t.Errorf("%+v", s)
				}
				ping(t, g.client(cfg))
			})
		}
	}
}

// giantHello announces a handshake message of 16 MiB in records that are fine.
func giantHello() []byte {
	var b []byte
	for i := range 8 {
		b = append(b, 22, 3, 1, 0x40, 0)
		body := make([]byte, 0x4000)
		if i == 0 {
			copy(body, []byte{1, 0xff, 0xff, 0xff})
		}
		b = append(b, body...)
	}
	return b
}

// forger seals records of its own under a client's keys.
type forger struct {
	raw    net.Conn
	secret []byte
	hash   func() hash.Hash
	keyLen int
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newForger(t *testing.T, g *rig, cfg *tls.Config) *forger {
	t.Helper()
	var log bytes.Buffer
	cfg = cfg.Clone()
	cfg.KeyLogWriter = &log
	c := g.client(cfg)
	f := &forger{raw: c.NetConn(), hash: sha256.New, keyLen: 16}
	switch suite := c.ConnectionState().CipherSuite; suite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		f.hash, f.keyLen = sha512.New384, 32
	default:
		t.Skipf("needs AES-GCM, this machine prefers %s", tls.CipherSuiteName(suite))
	}
	for s := bufio.NewScanner(&log); s.Scan(); {
		if w := strings.Fields(s.Text()); w[0] == "CLIENT_TRAFFIC_SECRET_0" {
			f.secret, _ = hex.DecodeString(w[2])
		}
	}
	f.rekey(t)
	return f
}

// expand is HKDF-Expand-Label of RFC 8446, 7.1, with an empty context.
func (f *forger) expand(t *testing.T, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	b, err := hkdf.Expand(f.hash, f.secret, string(append(info, 0)), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *forger) rekey(t *testing.T) {
	block, err := aes.NewCipher(f.expand(t, "key", f.keyLen))
	if err != nil {
		t.Fatal(err)
	}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	f.iv, f.seq = f.expand(t, "iv", 12), 0
}

// seal makes one record.
func (f *forger) seal(dst []byte, typ byte, body []byte) []byte {
	n := len(body) + 1 + 16
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	nonce := bytes.Clone(f.iv)
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], f.seq)
	for i := range seq {
		nonce[4+i] ^= seq[i]
	}
	f.seq++
	dst = append(dst, head...)
	return f.aead.Seal(dst, nonce, append(bytes.Clone(body), typ), head)
}

// update makes a KeyUpdate and goes over to the next key.
func (f *forger) update(t *testing.T, dst []byte, requested byte) []byte {
	dst = f.seal(dst, 22, []byte{24, 0, 0, 1, requested})
	f.secret = f.expand(t, "traffic upd", len(f.secret))
	f.rekey(t)
	return dst
}

const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

// An established connection that plays with records ends, or costs what its
// bytes cost; the others do not notice.
func TestRecords(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, f *forger) []byte
		ends bool
	}{
		{"data", func(t *testing.T, f *forger) []byte { return f.seal(nil, typeData, []byte("PING\r\n")) }, false},
		{"a few empty records", func(t *testing.T, f *forger) (b []byte) {
			for range 10 {
				b = f.seal(b, typeData, nil)
			}
			return f.seal(b, typeData, []byte("PING\r\n"))
		}, false},
		{"many empty records", func(t *testing.T, f *forger) (b []byte) {
			for range 100 {
				b = f.seal(b, typeData, nil)
			}
			return b
		}, true},
		{"one byte each", func(t *testing.T, f *forger) (b []byte) {
			for range 3000 {
				for _, x := range []byte("PING\r\n") {
					b = f.seal(b, typeData, []byte{x})
				}
			}
			return b
		}, false},
		{"a key update", func(t *testing.T, f *forger) []byte {
			return f.seal(f.update(t, nil, 1), typeData, []byte("PING\r\n"))
		}, false},
		{"a key update in pieces", func(t *testing.T, f *forger) []byte {
			b := f.seal(nil, typeHandshake, []byte{24, 0})
			b = f.seal(b, typeHandshake, []byte{0, 1, 0})
			f.secret = f.expand(t, "traffic upd", len(f.secret))
			f.rekey(t)
			return f.seal(b, typeData, []byte("PING\r\n"))
		}, false},
		{"key updates in a row", func(t *testing.T, f *forger) (b []byte) {
			for range 100 {
				b = f.update(t, b, 0)
			}
			return b
		}, true},
		{"key updates with data between, unanswered", func(t *testing.T, f *forger) (b []byte) {
			for range 2000 {
				b = f.seal(f.update(t, b, 0), typeData, []byte("PING\r\n"))
			}
			return b
		}, false},
		{"key updates with data between, to be answered", func(t *testing.T, f *forger) (b []byte) {
			for range 5000 {
				b = f.seal(f.update(t, b, 1), typeData, []byte("\r\n"))
			}
			return b
		}, true},
		{"endless handshake message", func(t *testing.T, f *forger) []byte {
			b := f.seal(nil, typeHandshake, []byte{24, 0xff, 0xff, 0xff})
			for range 20 {
				b = f.seal(b, typeHandshake, make([]byte, 16000))
			}
			return b
		}, true},
		{"a second hello", func(t *testing.T, f *forger) []byte { return f.seal(nil, typeHandshake, clientHello(t)[5:]) }, true},
		{"a broken record", func(t *testing.T, f *forger) []byte {
			b := f.seal(nil, typeData, []byte("PING\r\n"))
			b[len(b)-1] ^= 1
			return b
		}, true},
		{"a record too long", func(t *testing.T, f *forger) []byte {
			return append([]byte{23, 3, 3, 0xff, 0xff}, make([]byte, 65535)...)
		}, true},
		{"an alert", func(t *testing.T, f *forger) []byte { return f.seal(nil, typeAlert, []byte{2, 40}) }, true},
		{"alerts without end", func(t *testing.T, f *forger) (b []byte) {
			for range 100 {
				b = f.seal(b, typeAlert, []byte{1, 90})
			}
			return b
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, nil)
			cfg := trusting(g.certificate(1, newKey(t, "p256")))
			other := g.client(cfg)
			f := newForger(t, g, cfg)
			input := c.make(t, f)
			wrote := make(chan struct{})
			go func() { defer close(wrote); f.raw.Write(input) }()
			go io.Copy(io.Discard, f.raw)
			start := time.Now()
			ping(t, other)
			if d := time.Since(start); d > time.Second {
				t.Errorf("another connection waited %v", d)
			}
			if !c.ends {
				<-wrote
				go f.raw.Write(f.seal(nil, typeData, []byte("PUB end 0\r\n\r\n")))
				lookFor(t, func() bool { return g.counters().InMsgs > 0 }, func() { t.Fatal("no message came") })
				g.do(func() {
					if len(g.closed) > 0 {
						t.Error("the connection ended")
					}
				})
				return
			}
			g.until("the end", func() bool { return len(g.closed) == 1 })
			ping(t, other)
		})
	}
}

// A client that asks for keys to be changed and never reads does not pile up
// answers.
func TestKeyUpdatesUnread(t *testing.T) {
	g := newRig(t, nil)
	g.do(func() { g.buffer = 4096 })
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	f := newForger(t, g, cfg)
	for i := 0; ; i++ {
		var b []byte
		for range 10 {
			b = f.seal(f.update(t, b, 1), typeData, []byte("\r\n"))
		}
		if _, err := f.raw.Write(b); err != nil {
			break
		}
		if i > 200000 {
			t.Fatal("never cut off")
		}
	}
	g.until("the end", func() bool { return len(g.closed) == 1 })
}

// Resets at every point of a handshake.
func TestResets(t *testing.T) {
	g := newRig(t, nil)
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	before := runtime.NumGoroutine()
	const n = 100
	for i := range n {
		raw := g.dial().(*net.TCPConn)
		raw.SetLinger(0)
		cut := &cutter{Conn: raw, left: 20 * i}
		readInfo(raw)
		tls.Client(cut, cfg).Handshake()
		raw.Close()
	}
	g.shaken(n)
	g.until("all closed", func() bool { return len(g.closed) == n })
	settle(t, before+runtime.GOMAXPROCS(0)) // which wait for the next handshake
	ping(t, g.client(cfg))
}

// cutter closes a connection after so many bytes in either direction.
type cutter struct {
	net.Conn
	left int
}

func (c *cutter) Write(b []byte) (int, error) { return c.cut(b, c.Conn.Write) }
func (c *cutter) Read(b []byte) (int, error)  { return c.cut(b, c.Conn.Read) }

func (c *cutter) cut(b []byte, f func([]byte) (int, error)) (int, error) {
	if c.left < len(b) {
		b = b[:c.left]
	}
	n, err := f(b)
	if c.left -= n; c.left <= 0 && err == nil {
		c.Conn.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}
