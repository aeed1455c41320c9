package cm

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// credential is a certificate and what goes with it.
type credential struct {
	number uint32
	chain  [][]byte // DER, the server's own first
	leaf   *x509.Certificate
	signs  []tls.SignatureScheme // what its key signs
	key    releasedKey           // nil: the parent signs, or erased
	config *tls.Config

	// Under the counter's lock.
	users   int // handshakes that hold it
	retired bool
}

// releasedKey is a private key that the parent has let this process have.
type releasedKey interface {
	Public() crypto.PublicKey
	Sign(scheme tls.SignatureScheme, message []byte) ([]byte, error)
	Close() error
}

// newCredential reads the two PEM files of a parcel.
func newCredential(c *privsep.Certificate, parcel []byte, set *privsep.TLSSettings) (*credential, error) {
	cred := &credential{number: c.Number}
	chain, err := certificates(parcel[:c.Chain])
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	for _, cert := range chain {
		cred.chain = append(cred.chain, cert.Raw)
	}
	cred.leaf = chain[0]
	if cred.signs, err = custody.SchemesOf(cred.leaf.PublicKey); err != nil {
		return nil, err
	}
	authorities, err := certificates(parcel[c.Chain:])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool() // an empty one trusts nobody, none would trust the system's
	for _, cert := range authorities {
		pool.AddCert(cert)
	}
	cred.config = newConfig(set, pool)
	return cred, nil
}

func certificates(text []byte) (list []*x509.Certificate, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return list, nil
		}
		if text = rest; block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list)+1, err)
		}
		list = append(list, cert)
	}
}

// newConfig is what all handshakes with a credential share. There are no
// session tickets: their keys would lie in the process that faces the network.
func newConfig(set *privsep.TLSSettings, clients *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:                  max(set.Min, tls.VersionTLS12),
		GetCertificate:              certificateOf,
		ClientAuth:                  clientAuth[set.Client],
		ClientCAs:                   clients,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		Time:                        func() time.Time { return time.Now().UTC() }, // the local zone is in a file
	}
}

var clientAuth = map[privsep.ClientAuth]tls.ClientAuthType{
	privsep.ClientAuthNone:    tls.NoClientCert,
	privsep.ClientAuthRequest: tls.VerifyClientCertIfGiven,
	privsep.ClientAuthRequire: tls.RequireAndVerifyClientCert,
}

// certificateOf gives one connection the certificate, with a key of its own.
func certificateOf(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t, ok := hello.Conn.(*transport)
	if !ok || t.hs == nil {
		return nil, errEnded
	}
	cred := t.hs.cred
	return &tls.Certificate{
		Certificate: cred.chain, Leaf: cred.leaf, PrivateKey: &signer{h: t.hs},
		SupportedSignatureAlgorithms: cred.signs,
	}, nil
}

// takeCertificate takes the certificate for new handshakes. One that is no good
// leaves the earlier in place: the parent has looked at it before.
func (m *cm) takeCertificate(msg *privsep.Message) error {
	defer msg.CloseFDs()
	var c privsep.Certificate
	if err := c.Parse(msg.Payload); err != nil {
		return err
	}
	parcel, err := privsep.ReadParcel(msg.FDs[0], int(c.Chain)+int(c.Authorities))
	if err != nil {
		return err
	}
	cred, err := newCredential(&c, parcel, &m.cfg.TLS)
	if err != nil {
		m.log.Error("certificate refused", privsep.Int(privsep.KeyN, int64(c.Number)), privsep.Err(err))
		return nil
	}
	m.tls.next = cred
	m.promote()
	return nil
}

// takeKey takes the key of a certificate that has come or will.
func (m *cm) takeKey(msg *privsep.Message) error {
	var k privsep.ReleasedKey
	if err := k.Parse(msg.Payload); err != nil {
		msg.CloseFDs()
		return err
	}
	key, err := adopt(msg.FDs[0], int(k.Size)) // closes it
	msg.FDs = msg.FDs[:0]
	if err != nil {
		m.log.Error("key refused", privsep.Int(privsep.KeyN, int64(k.Number)), privsep.Err(err))
		return nil
	}
	discardKey(m.tls.key)
	m.tls.key, m.tls.keyNumber = key, k.Number
	m.promote()
	return nil
}

// promote makes the newest certificate the one for new handshakes, once there
// is all that belongs to it.
func (m *cm) promote() {
	cred := m.tls.next
	switch {
	case cred == nil:
		return
	case m.tls.cred != nil && cred.number <= m.tls.cred.number:
		m.tls.next = nil
		return
	case m.cfg.TLS.Release:
		if m.tls.key == nil || m.tls.keyNumber != cred.number {
			return
		}
		if public, ok := cred.leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(m.tls.key.Public()) {
			m.log.Error("certificate refused", privsep.Int(privsep.KeyN, int64(cred.number)), privsep.Str(privsep.KeyReason, "the key is another's"))
			return
		}
		cred.key, m.tls.key = m.tls.key, nil
	}
	if m.tls.cred == nil && m.alone {
		// The loop and each workshop hold one processor of Go's while they work and
		// wait; who sweeps needs another.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + len(m.tls.shops))
	}
	m.tls.cred, m.tls.next = cred, nil
	m.tls.counter.offer(cred)
	for _, w := range m.tls.shops {
		w.box.post(errand{what: errandLook})
	}
}

// release erases a key that no handshake needs any more.
func (c *credential) release() {
	if c.retired && c.users == 0 {
		discardKey(c.key)
		c.key = nil
	}
}
