package tlsd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// patience is how long anything may take that must happen.
const patience = 20 * time.Second

// authority signs certificates of servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	a := &authority{}
	a.cert, a.key = sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return a
}

func sign(t testing.TB, like *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	like.SerialNumber = big.NewInt(time.Now().UnixNano())
	if like.NotAfter.IsZero() {
		like.NotBefore, like.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := like, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, like, parent, key.Public(), signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

// server makes a certificate for names and the loopback address.
func (a *authority) server(t testing.TB, names ...string) tls.Certificate {
	cert, key := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// expired is a server's certificate of yesterday.
func expired() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
}

// remote is a TLS server that counts handshakes.
type remote struct {
	addr   string
	port   uint16
	shakes atomic.Int32

	mu    sync.Mutex
	conns []*tls.Conn
}

// serveTLS has handle serve each connection.
func serveTLS(t testing.TB, cfg *tls.Config, handle func(*tls.Conn)) *remote {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &remote{addr: l.Addr().String(), port: uint16(l.Addr().(*net.TCPAddr).Port)}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); r.drop(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(conn, cfg)
			r.mu.Lock()
			r.conns = append(r.conns, c)
			r.mu.Unlock()
			all.Go(func() {
				defer c.Close()
				if c.Handshake() == nil {
					r.shakes.Add(1)
					handle(c)
				}
			})
		}
	})
	return r
}

// drop closes all connections of the server, without a word.
func (r *remote) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.NetConn().Close()
	}
}

// echo sends back what comes.
func echo(c *tls.Conn) { io.Copy(c, c) }

// echoLines sends each line back.
func echoLines(c *tls.Conn) {
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

// once sends a line back, says goodbye and ends.
func once(c *tls.Conn) {
	if line, err := bufio.NewReader(c).ReadBytes('\n'); err == nil {
		c.Write(append(line, "bye\n"...))
	}
}

// echoFrames sends each frame of u32 back, and counts those that are no frames of the
// test's.
func echoFrames(bad *atomic.Int32) func(*tls.Conn) {
	return func(c *tls.Conn) {
		for r := bufio.NewReader(c); ; {
			frame, err := readFrame(r)
			if err != nil {
				return
			}
			if !whole(frame) {
				bad.Add(1)
			}
			if _, err := c.Write(frame); err != nil {
				return
			}
		}
	}
}

// echoAnyFrames sends each frame back, whatever it is.
func echoAnyFrames(c *tls.Conn) {
	for r := bufio.NewReader(c); ; {
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		if _, err := c.Write(frame); err != nil {
			return
		}
	}
}

// greet says something first, and answers "long" with more than a frame may have.
func greet(c *tls.Conn) {
	io.WriteString(c, "welcome\n")
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if string(line) == "long\n" {
			line = append(bytes.Repeat([]byte("x"), 1<<17), '\n')
		}
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	frame := append(head, make([]byte, binary.BigEndian.Uint32(head))...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// frameOf is the n-th frame of a writer: of a length and with bytes that follow from
// the two.
func frameOf(writer, n int) []byte {
	size := 8 + (writer*31+n*17)%300
	frame := binary.BigEndian.AppendUint32(nil, uint32(size))
	frame = binary.BigEndian.AppendUint32(frame, uint32(writer))
	frame = binary.BigEndian.AppendUint32(frame, uint32(n))
	for len(frame) < 4+size {
		frame = append(frame, byte(writer+n+len(frame)))
	}
	return frame
}

func whole(frame []byte) bool {
	if len(frame) < 12 {
		return false
	}
	want := frameOf(int(binary.BigEndian.Uint32(frame[4:])), int(binary.BigEndian.Uint32(frame[8:])))
	return string(frame) == string(want)
}

// rig is a hub with a socket, in this process.
type rig struct {
	t      testing.TB
	hub    *hub
	ca     *authority
	socket string
	set    []privsep.TLSPolicyText
	server tls.Certificate
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOf(t, func(*hub) {})
}

// newRigOf is newRig with a hub that is changed before it begins.
func newRigOf(t testing.TB, change func(*hub)) *rig {
	t.Helper()
	ca := newAuthority(t)
	// Not t.TempDir: the path of a Unix socket must stay short.
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, ca: ca, socket: filepath.Join(dir, "tlsd"), server: ca.server(t, "server.example")}
	parent := privsep.NewChannel(-1, privsep.RoleTLSD, privsep.RoleParent, privsep.Key{})
	r.hub = newHub(privsep.TLSDSettings{MaxSessions: 100, MaxCallers: 200, UIDSessions: 50, UIDCallers: 150, UIDMemory: 16 << 20},
		new(privsep.Journal), newAsking(parent), newShards(0, 1))
	change(r.hub)
	_, r.hub.bell, err = privsep.Doorbell()
	must(t, err)
	fd, err := privsep.ListenUnix(r.socket, 0o666)
	must(t, err)
	must(t, privsep.TellSenders(fd))
	poll, err := privsep.NewPoller()
	must(t, err)
	must(t, poll.Add(fd, 0, privsep.In))
	stop, bell, err := privsep.Doorbell()
	must(t, err)
	must(t, poll.Add(stop, 1, privsep.In))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ready, _ := poll.Wait(-1)
			for _, e := range ready {
				if e.Token == 1 {
					return
				}
			}
			if fd, _, errno := privsep.Accept(fd); errno == 0 {
				r.hub.admit(fd, nil)
			}
		}
	}()
	t.Cleanup(func() {
		privsep.Ring(bell)
		<-done
		privsep.CloseFD(fd)
		poll.Close()
		r.hub.close()
		r.hub.endAll("stop")
		r.await("callers gone", r.hub.deserted)
	})
	return r
}

// serve starts a server with the rig's certificate.
func (r *rig) serve(handle func(*tls.Conn)) *remote {
	return serveTLS(r.t, &tls.Config{Certificates: []tls.Certificate{r.server}}, handle)
}

// policy adds one for names of sessions with a server, which change may change.
func (r *rig) policy(name string, to *remote, change func(*privsep.TLSPolicyText)) {
	p := privsep.TLSPolicyText{TLSPolicy: privsep.TLSPolicy{Set: 1, Name: name, Host: "127.0.0.1", Port: to.port, Addresses: []string{"127.0.0.1"},
		MinTLS: tls.VersionTLS12, Open: []privsep.TLSGrant{{To: privsep.GrantUID, ID: uint32(os.Getuid())}}, IdleTimeout: time.Minute, MaxFrame: 1 << 16},
		RootsPEM: r.ca.pem}
	if change != nil {
		change(&p)
	}
	r.set = append(r.set, p)
	r.hub.setPolicies(r.set)
}

func (r *rig) dial(to *remote, o client.Options) (*client.Conn, error) {
	r.t.Helper()
	o.Socket = r.socket
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := client.Dial(ctx, to.addr, o)
	if err != nil {
		return nil, err
	}
	return conn.(*client.Conn), nil
}

func (r *rig) mustDial(to *remote, o client.Options) *client.Conn {
	r.t.Helper()
	c, err := r.dial(to, o)
	must(r.t, err)
	return c
}

// raw opens a connection to the socket and sends something.
func (r *rig) raw(text string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("unix", r.socket)
	must(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	must(r.t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, text)
	must(r.t, err)
	return c
}

// answer reads the head of an answer.
func (r *rig) answer(c net.Conn) *protocol.Answer {
	r.t.Helper()
	var b []byte
	one := make([]byte, 1)
	for protocol.AnswerEnd(b) == 0 {
		if _, err := io.ReadFull(c, one); err != nil {
			r.t.Fatalf("%q: %v", b, err)
		}
		b = append(b, one...)
	}
	a, err := protocol.ParseAnswer(b)
	must(r.t, err)
	return a
}

// sessions gives those that there are.
func (r *rig) sessions() []*session {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	var all []*session
	for _, s := range r.hub.all {
		all = append(all, s)
	}
	return all
}

// await waits for something that a goroutine of the hub is about to do.
func (r *rig) await(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			r.t.Errorf("not in %v: %s", patience, what)
			return
		}
		<-time.After(time.Millisecond)
	}
}

// ask sends a line and wants it back.
func ask(c io.ReadWriter, line string) error {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	b := make([]byte, len(line)+1)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != line+"\n" {
		return fmt.Errorf("sent %q, got %q", line, b)
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
