package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/privsep"
)

const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority makes a certificate for localhost, signed by itself.
func authority(t testing.TB) (pemCA []byte, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	like := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// fake is a server that does what a test says with each connection.
type fake struct {
	t     testing.TB
	ca    []byte
	cert  tls.Certificate
	l     net.Listener
	dials atomic.Int64
}

func newFake(t testing.TB, serve func(net.Conn)) *fake {
	t.Helper()
	f := &fake{t: t}
	f.ca, f.cert = authority(t)
	var err error
	f.l, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() { f.l.Close(); <-done })
	return f
}

// secure is a server that speaks LDAP by TLS from the beginning.
func secure(t testing.TB, serve func(net.Conn)) *fake {
	var f *fake
	ready := make(chan struct{})
	f = newFake(t, func(c net.Conn) {
		<-ready
		s := serverOf(c, f)
		defer s.Close()
		serve(s)
	})
	close(ready)
	return f
}

func serverOf(c net.Conn, f *fake) net.Conn {
	return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{f.cert}})
}

func (f *fake) dial(int, time.Time) (Stream, error) {
	f.dials.Add(1)
	return net.Dial("tcp", f.l.Addr().String())
}

// directory is one of which the server is the fake, changed as a test likes.
func (f *fake) directory(change func(*privsep.Directory)) *Directory {
	f.t.Helper()
	set := &privsep.Directory{Mark: 7, Servers: []string{"ldaps://localhost:1"}, Base: "dc=a", Filter: "(uid={user})", BindDN: "cn=us", BindPass: "ours",
		OrganisationAttribute: "o", Profile: "desk", Timeout: 500 * time.Millisecond, Links: 4}
	if change != nil {
		change(set)
	}
	d, err := New(set, f.ca, f.dial)
	must(f.t, err)
	f.t.Cleanup(d.Close)
	return d
}

func (d *Directory) login(name, password string) (*Entry, *Error) {
	return d.Login(name, password, time.Now().Add(patience))
}

// tlv writes an element.
func tlv(tag byte, parts ...string) string {
	body := ""
	for _, p := range parts {
		body += p
	}
	n := len(body)
	if n < 0x80 {
		return string([]byte{tag, byte(n)}) + body
	}
	return string([]byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body // as some do
}

func text(s string) string { return tlv(0x04, s) }

func message(id byte, op string) string { return tlv(0x30, tlv(0x02, string([]byte{id})), op) }

func result(tag byte, code byte) string {
	return tlv(tag, tlv(0x0a, string([]byte{code})), text(""), text("because"))
}

func found(dn string, attributes ...string) string {
	all := ""
	for i := 0; i < len(attributes); i += 2 {
		all += tlv(0x30, text(attributes[i]), tlv(0x31, text(attributes[i+1])))
	}
	return tlv(0x64, text(dn), tlv(0x30, all))
}

const (
	opBind   = 0x60
	opSearch = 0x63
	bindDone = 0x61
	done     = 0x65
)

// request reads one: its number, what it is, and all of it.
func request(c net.Conn) (id, op byte, whole string, err error) {
	m, err := readMessage(c, func(int) bool { return true })
	if err != nil {
		return 0, 0, "", err
	}
	_, body, _ := element(m)
	_, number, rest := element(body)
	op, _, _ = element(rest)
	return number[len(number)-1], op, string(m), nil
}

// honest answers as a server does that knows dora, whose password is horse.
func honest(answer func(op byte, request string) (parts []string)) func(net.Conn) {
	return func(c net.Conn) {
		for {
			id, op, whole, err := request(c)
			if err != nil {
				return
			}
			parts := answer(op, whole)
			if parts == nil {
				return
			}
			for _, p := range parts {
				if _, err := c.Write([]byte(message(id, p))); err != nil {
					return
				}
			}
		}
	}
}
