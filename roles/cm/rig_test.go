package cm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

// TestMain gives Go more processors than there are: a cm's loop and its threads for
// handshakes keep theirs for some milliseconds while they wait, and here the test itself,
// the stand-ins and the clients need some, too.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 8))
	os.Exit(m.Run())
}

// rig is a cm in this process and what stands in for everybody around it: a
// parent that signs, a dispatcher that hands over whoever connects, a router
// that sends every message back to its sender under sid 1.
type rig struct {
	t      testing.TB
	cfg    privsep.Settings
	mem    *standin.Memory
	parent *privsep.Channel
	disp   *privsep.Channel
	ring   standin.Ends
	bell   int
	poll   *privsep.Poller
	listen int
	addr   netip.AddrPort
	cols   *store.ConnColumns
	named  *store.Named
	ended  chan error // of the cm
	quit   chan struct{}
	calls  chan func()
	knock  [2]int
	after  []store.Record // that found the ring full
	uids   []uint64       // by slot
	uid    uint64
	asked  uint64
	plain  bool // connections are not of a TLS listener
	system bool // they are the console's
	leaves bool // the cm is to end by itself

	// What a test looks at or sets, under do.
	keys     map[uint32]crypto.Signer // by number of the certificate
	signs    []privsep.Sign
	signAt   []time.Time
	answer   func(*privsep.Sign) bool // false: not answered by the rig
	buffer   int                      // that accepted sockets send from, 0: as it is
	opened   []store.RecOpen
	openAt   []time.Time
	closed   []store.RecClosed
	pubs     []store.RecPub
	connects []string
	chains   [][]byte // with them
	pings    int
	fails    []store.RecFail
	from     []byte // who messages are said to be from
	moves    []store.RecMove
	stays    bool // who asks to move is told not to
	logs     []privsep.LogLine
	stats    privsep.RoleStats
	answered uint64
}

const (
	rigParent = iota
	rigBell
	rigListen
	rigKnock
)

func newRig(t testing.TB, change func(*privsep.Settings)) *rig {
	t.Helper()
	cfg := standin.Settings(1)
	cfg.MaxConnections = 256
	cfg.TLS = privsep.TLSSettings{Min: tls.VersionTLS13, SignRate: 5000}
	if change != nil {
		change(&cfg)
	}
	g := &rig{t: t, cfg: cfg, uids: make([]uint64, cfg.MaxConnections), ended: make(chan error, 1), quit: make(chan struct{}),
		calls: make(chan func(), 16), keys: make(map[uint32]crypto.Signer)}
	var err error
	g.mem, err = standin.New(cfg)
	g.check(err)
	g.poll, err = privsep.NewPoller()
	g.check(err)
	child, ch, err := g.mem.Child(privsep.ID{Role: privsep.RoleCM})
	g.check(err)
	g.parent = ch
	go func() {
		err := Run(child.Boot, child.Setup, child.Parent)
		child.Parent.Close()
		g.ended <- err
	}()
	var m privsep.Message
	g.check(ch.RecvWait(&m, 10*time.Second))
	if m.Kind != privsep.KindSetupDone {
		t.Fatalf("%v, want SETUP_DONE", m.Kind)
	}
	ch.SetPhase(privsep.PhaseRun)
	g.surround()
	loop := make(chan struct{})
	go func() { defer close(loop); g.loop() }()
	t.Cleanup(func() { g.end(loop) })
	return g
}

func (g *rig) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// surround makes the ways to the cm.
func (g *rig) surround() {
	var err error
	g.ring, err = g.mem.RouterEnds(0)
	g.check(err)
	g.cols, err = g.mem.Columns(0, false)
	g.check(err)
	g.named, err = g.mem.Named(0, true)
	g.check(err)
	var far int
	g.bell, far, err = privsep.Doorbell()
	g.check(err)
	end := privsep.DoorbellEnd{CM: 0}
	g.check(g.parent.SendWait(time.Second, privsep.KindDoorbell, end.Append(nil), far))
	privsep.CloseFD(far)
	mine, theirs, err := privsep.Socketpair()
	g.check(err)
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleDispatcher}, Key: privsep.NewKey(), Generation: 1}
	g.disp = privsep.NewChannel(mine, privsep.RoleDispatcher, privsep.RoleCM, peer.Key)
	g.disp.SetPhase(privsep.PhaseRun)
	g.check(g.parent.SendWait(time.Second, privsep.KindPeer, peer.Append(nil), theirs))
	privsep.CloseFD(theirs)
	g.listen, g.addr, err = privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	g.check(err)
	g.knock[0], g.knock[1], err = privsep.Doorbell()
	g.check(err)
	for token, fd := range map[uint64]int{rigParent: g.parent.FD(), rigBell: g.bell, rigListen: g.listen, rigKnock: g.knock[0]} {
		g.check(g.poll.Add(fd, token, privsep.In))
	}
}

// end has the cm stop, and proves that nothing of it is left.
func (g *rig) end(loop chan struct{}) {
	close(g.quit)
	privsep.Ring(g.knock[1])
	<-loop
	g.parent.Close()
	select {
	case err := <-g.ended:
		if err != privsep.ErrOrphan && err != io.EOF && !(g.leaves && err == nil) {
			g.t.Errorf("the cm ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		g.t.Error("the cm does not end")
	}
	g.disp.Close()
	g.poll.Close()
	for _, fd := range []int{g.bell, g.listen, g.knock[0], g.knock[1]} {
		privsep.CloseFD(fd)
	}
	g.mem.Close()
}

// do runs f where nothing else of the rig runs.
func (g *rig) do(f func()) {
	g.t.Helper()
	done := make(chan struct{})
	g.calls <- func() { f(); close(done) }
	privsep.Ring(g.knock[1])
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		g.t.Fatal("the rig does not answer")
	}
}

// until waits for something to become true.
func (g *rig) until(what string, f func() bool) {
	g.t.Helper()
	lookFor(g.t, func() (ok bool) {
		g.do(func() { ok = f() })
		return ok
	}, func() { g.t.Fatalf("never: %s", what) })
}

// lookFor looks again and again until found, which is the case, or too late.
func lookFor(t testing.TB, found func() bool, late func()) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.After(20 * time.Second); !found(); {
		select {
		case <-again.C:
		case <-end:
			late()
		}
	}
}

func (g *rig) loop() {
	for {
		worked := g.records()
		timeout := time.Duration(0)
		if !worked && len(g.after) == 0 && g.ring.In.Sleep() {
			timeout = -1
		}
		ready, err := g.poll.Wait(timeout)
		g.ring.In.Awake()
		if err != nil {
			g.t.Error(err)
			return
		}
		for _, e := range ready {
			switch e.Token {
			case rigParent:
				g.fromCM()
			case rigBell:
				privsep.DrainBell(g.bell)
			case rigListen:
				g.accept()
			case rigKnock:
				privsep.DrainBell(g.knock[0])
			}
		}
		for more := true; more; {
			select {
			case f := <-g.calls:
				f()
			case <-g.quit:
				return
			default:
				more = false
			}
		}
	}
}

// fromCM is the parent.
func (g *rig) fromCM() {
	var m privsep.Message
	for {
		err := g.parent.Recv(&m)
		if err == privsep.ErrAgain {
			return
		}
		if err != nil {
			if err != io.EOF {
				g.t.Errorf("from the cm: %v", err)
			}
			g.poll.Del(g.parent.FD())
			return
		}
		switch m.Kind {
		case privsep.KindLog:
			l, err := privsep.DecodeLog(m.Payload)
			if err != nil {
				g.t.Error(err)
			}
			g.logs = append(g.logs, l)
		case privsep.KindStats:
			if g.answered, g.stats, err = privsep.ParseRoleStats(m.Payload); err != nil {
				g.t.Error(err)
			}
		case privsep.KindSign:
			var s privsep.Sign
			if err := s.Parse(m.Payload); err != nil {
				g.t.Error(err)
				continue
			}
			s.Input = bytes.Clone(s.Input)
			g.signs, g.signAt = append(g.signs, s), append(g.signAt, time.Now())
			if g.answer == nil || g.answer(&s) {
				g.sign(&s)
			}
		}
	}
}

// sign answers a SIGN as the parent does.
func (g *rig) sign(s *privsep.Sign) {
	answer := privsep.Signed{ID: s.ID}
	key, scheme := g.keys[s.Number], tls.SignatureScheme(s.Scheme)
	if err := custody.CheckServerInput(scheme, s.Input); err != nil {
		g.t.Errorf("asked to sign by %v: %v", scheme, err)
	}
	if key != nil {
		hash := map[tls.SignatureScheme]crypto.Hash{tls.PSSWithSHA256: crypto.SHA256, tls.PSSWithSHA384: crypto.SHA384,
			tls.PSSWithSHA512: crypto.SHA512, tls.ECDSAWithP256AndSHA256: crypto.SHA256, tls.ECDSAWithP384AndSHA384: crypto.SHA384}[scheme]
		var opts crypto.SignerOpts = hash
		if _, is := key.(*rsa.PrivateKey); is {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		var err error
		if answer.Signature, err = crypto.SignMessage(key, rand.Reader, s.Input, opts); err != nil {
			g.t.Error(err)
		}
	}
	g.send(privsep.KindSigned, answer.Append(nil))
}

func (g *rig) send(k privsep.Kind, payload []byte, fds ...int) {
	if err := g.parent.SendWait(10*time.Second, k, payload, fds...); err != nil && err != io.EOF {
		g.t.Error(err)
	}
}

// accept is the dispatcher.
func (g *rig) accept() {
	for {
		fd, addr, errno := privsep.Accept(g.listen)
		if errno != 0 {
			return
		}
		slot := -1
		for i, uid := range g.uids {
			if uid == 0 || g.cols.Row(i).ClosedUID.Load() == uid {
				slot = i
				break
			}
		}
		if slot < 0 {
			privsep.CloseFD(fd)
			continue
		}
		if g.buffer > 0 {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, g.buffer)
		}
		g.uid++
		g.uids[slot] = g.uid
		h := privsep.ConnHandoff{UID: g.uid, Slot: uint32(slot), Listener: 7, Addr: addr.Addr().As16(), Port: addr.Port(), TLS: !g.plain, System: g.system,
			Issued: privsep.Uptime(), Ticket: [32]byte{1, 2, byte(g.uid)}}
		if err := g.disp.SendWait(10*time.Second, privsep.KindConnHandoff, h.Append(nil), fd); err != nil {
			g.t.Error(err)
		}
		privsep.CloseFD(fd)
	}
}

// records is the router.
func (g *rig) records() bool {
	worked := false
	for len(g.after) > 0 && g.put(g.after[0]) {
		g.after = g.after[1:]
		worked = true
	}
	for n := 0; n < 256 && len(g.after) == 0; n++ {
		b, err := g.ring.In.Next()
		if err != nil {
			g.t.Error(err)
			break
		}
		if b == nil {
			break
		}
		worked = true
		g.record(b)
	}
	out := g.ring.Out.Publish()
	if g.ring.In.Release() || out {
		privsep.Ring(g.bell)
	}
	return worked
}

const rigInfo = `INFO {"server_id":"RIG","tls_required":true,"max_payload":1048576,"headers":true} ` + "\r\n"

func (g *rig) record(b []byte) {
	kind := store.Kind(b)
	r := store.NewRecord(kind)
	if err := r.Parse(b); err != nil {
		g.t.Error(err)
	}
	switch r := r.(type) {
	case *store.RecOpen:
		g.opened, g.openAt = append(g.opened, *r), append(g.openAt, time.Now())
		if r.Challenge == 0 {
			g.tell(&store.InsSend{Conn: r.Conn, Data: []byte(rigInfo)})
		}
	case *store.RecConnect:
		g.connects = append(g.connects, string(r.JSON))
		g.chains = append(g.chains, bytes.Clone(r.Chain))
	case *store.RecPing:
		g.pings++
		g.tell(&store.InsSend{Conn: r.Conn, Data: []byte("PONG\r\n")})
	case *store.RecFail:
		g.fails = append(g.fails, *r)
		g.tell(&store.InsSend{Conn: r.Conn, Flags: store.FlagClose})
	case *store.RecClosed:
		g.closed = append(g.closed, *r)
	case *store.RecMove:
		g.moves = append(g.moves, *r)
		ins := &store.InsMoved{Conn: r.Conn}
		if g.stays {
			ins.Flags = store.MovedNot
		}
		g.tell(ins)
	case *store.RecPub:
		pub := *r
		pub.Subject, pub.Reply, pub.Facts = bytes.Clone(r.Subject), bytes.Clone(r.Reply), bytes.Clone(r.Facts)
		g.pubs = append(g.pubs, pub)
		g.named.Set(r.Seq, 1)
		g.named.Commit(r.Seq)
		ins := &store.InsDeliver{Handle: store.Handle{Seq: r.Seq, Off: r.Off, Len: r.Len}, HeaderLen: r.HeaderLen,
			Subject: bytes.Clone(r.Subject), From: g.from, Recipients: store.AppendRecipient(nil, r.Slot, r.Gen, []byte("1"))}
		g.tell(ins)
	}
}

// tell gives an instruction, now or when the ring has room.
func (g *rig) tell(r store.Record) {
	if len(g.after) > 0 || !g.put(r) {
		g.after = append(g.after, r)
	}
}

func (g *rig) put(r store.Record) bool {
	b := g.ring.Out.Reserve(r.Size())
	if b == nil {
		return false
	}
	g.ring.Out.Commit(r.Put(b))
	return true
}

// counters asks the cm.
func (g *rig) counters() privsep.RoleStats {
	g.t.Helper()
	g.do(func() {
		g.asked++
		get := privsep.StatsGet{ID: g.asked}
		g.send(privsep.KindStatsGet, get.Append(nil))
	})
	g.until("STATS", func() bool { return g.answered == g.asked })
	var s privsep.RoleStats
	g.do(func() { s = g.stats })
	return s
}

// shaken waits until n handshakes are over.
func (g *rig) shaken(n uint64) privsep.RoleStats {
	g.t.Helper()
	var s privsep.RoleStats
	lookFor(g.t, func() bool {
		s = g.counters()
		return s.Handshakes+s.HandshakesFailed >= n
	}, func() { g.t.Fatalf("never: %d handshakes; %+v", n, s) })
	return s
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serial = struct {
	sync.Mutex
	n int64
}{n: 1}

func certify(t testing.TB, by *authority, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial.Lock()
	serial.n++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial.n), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	serial.Unlock()
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t, "p256")
	cert := certify(t, nil, key, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return &authority{cert, key}
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// certificate hands certificate number n out, with a key that the rig has.
func (g *rig) certificate(n uint32, key crypto.Signer, clients ...*x509.Certificate) *x509.Certificate {
	g.t.Helper()
	cert := certify(g.t, nil, key, nil)
	g.handOut(n, key, pemOf(cert), pemOf(clients...))
	return cert
}

func (g *rig) handOut(n uint32, key crypto.Signer, chain, clients []byte) {
	g.t.Helper()
	g.do(func() {
		g.keys[n] = key
		fd, err := privsep.Parcel("certificate", append(bytes.Clone(chain), clients...))
		if err != nil {
			g.t.Error(err)
			return
		}
		c := privsep.Certificate{Number: n, Chain: uint32(len(chain)), Authorities: uint32(len(clients))}
		g.send(privsep.KindCertificate, c.Append(nil), fd)
		privsep.CloseFD(fd)
	})
}

// dial connects without TLS.
func (g *rig) dial() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr.String())
	g.check(err)
	g.t.Cleanup(func() { c.Close() })
	g.check(c.SetDeadline(time.Now().Add(60 * time.Second)))
	return c
}

func trusting(cert *x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// readInfo takes the INFO line byte by byte, so as to take no more.
func readInfo(c net.Conn) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(line), err
		}
		if line = append(line, b...); b[0] == '\n' {
			return string(line), nil
		}
	}
}

// handshake makes a TLS connection as clients of NATS do.
func (g *rig) handshake(cfg *tls.Config) (*tls.Conn, error) {
	g.t.Helper()
	raw := g.dial()
	if !g.cfg.TLS.HandshakeFirst {
		if line, err := readInfo(raw); err != nil || line != rigInfo {
			g.t.Fatalf("%q, %v; want INFO", line, err)
		}
	}
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		return c, err
	}
	if g.cfg.TLS.HandshakeFirst {
		if line, err := readInfo(c); err != nil || line != rigInfo {
			return c, err
		}
	}
	return c, nil
}

func (g *rig) client(cfg *tls.Config) *tls.Conn {
	g.t.Helper()
	c, err := g.handshake(cfg)
	g.check(err)
	return c
}

// ping proves that a connection works.
func ping(t testing.TB, c net.Conn) {
	t.Helper()
	if err := pinged(c); err != nil {
		t.Fatal(err)
	}
}

func pinged(c net.Conn) error {
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != "PONG\r\n" {
		return &net.AddrError{Err: "not PONG", Addr: string(b)}
	}
	return nil
}
