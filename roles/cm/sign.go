package cm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"time"

	"gatehouse/privsep"
)

// signer is the private key as the handshake of one connection sees it: good
// for one signature, which the parent makes, or a released key. It gets the
// whole message to sign (crypto.MessageSigner), so that whoever signs can see
// what it is.
type signer struct {
	h    *handshake
	used bool
}

var (
	errDigest = errors.New("a bare digest is not signed")
	errSecond = errors.New("one signature for each connection")
	errScheme = errors.New("not a signature scheme of the key")
	errRefuse = errors.New("the key is not to be had")
)

// Public gives the certificate's key.
func (s *signer) Public() crypto.PublicKey { return s.h.cred.leaf.PublicKey }

// Sign refuses.
func (s *signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errDigest }

// SignMessage signs once, in the scheme that opts means for the key.
func (s *signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.used {
		return nil, errSecond
	}
	s.used = true
	scheme := schemeOf(s.Public(), opts)
	switch {
	case scheme == 0:
		return nil, errScheme
	case s.h.cred.key != nil:
		return s.h.cred.key.Sign(scheme, message)
	case len(message) > privsep.MaxSignInput:
		return nil, privsep.ErrShape
	}
	return s.h.ask(scheme, message)
}

// schemes lists what is signed with a key of that kind in TLS 1.3, the
// preferred first; none for a kind that is not supported.
func schemes(public crypto.PublicKey) []tls.SignatureScheme {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
		case elliptic.P384():
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
		}
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}
	}
	return nil
}

// schemeOf gives the one of schemes that opts means, 0 if there is none.
func schemeOf(public crypto.PublicKey, opts crypto.SignerOpts) tls.SignatureScheme {
	_, pss := opts.(*rsa.PSSOptions)
	if _, is := public.(*rsa.PublicKey); is != pss {
		return 0
	}
	for _, s := range schemes(public) {
		if hashOf[s] == opts.HashFunc() {
			return s
		}
	}
	return 0
}

var hashOf = map[tls.SignatureScheme]crypto.Hash{
	tls.PSSWithSHA256: crypto.SHA256, tls.PSSWithSHA384: crypto.SHA384, tls.PSSWithSHA512: crypto.SHA512,
	tls.ECDSAWithP256AndSHA256: crypto.SHA256, tls.ECDSAWithP384AndSHA384: crypto.SHA384, tls.Ed25519: 0,
}

// signRequest is what goes into SIGN beside the handoff.
type signRequest struct {
	scheme tls.SignatureScheme
	input  []byte
}

// ask asks the parent, or has the loop do so when it must wait, and waits for the
// answer.
func (h *handshake) ask(scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	h.request = signRequest{scheme, message}
	if !h.asking.now(h) {
		h.post(&h.requests)
	}
	h.rest()
	select {
	case s := <-h.signed:
		if len(s) == 0 {
			return nil, errRefuse
		}
		return s, h.work()
	case <-h.stop:
		return nil, errEnded
	}
}

// asking asks for signatures, in order and no faster than the parent allows.
// What can be sent at once is sent by the goroutine that wants it.
type asking struct {
	parent *privsep.Channel
	rate   int // a second

	mu     sync.Mutex
	queue  []*handshake          // what could not be sent, for the loop
	sent   map[uint64]*handshake // by id
	lastID uint64
	tokens float64
	at     int64 // when tokens was right, ns
}

// pace adds the tokens that time has brought: rate a second, half of that at
// most, so that the parent, which allows rate at once, never sees too many.
func (a *asking) pace(now int64) {
	most := max(float64(a.rate)/2, 1)
	if a.sent == nil {
		a.sent, a.tokens, a.at = make(map[uint64]*handshake), most, now
	}
	a.tokens = min(a.tokens+float64(max(now-a.at, 0))*float64(a.rate)/1e9, most)
	a.at = max(now, a.at)
}

// now tells whether h could be sent without waiting.
func (a *asking) now(h *handshake) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) > 0 {
		return false
	}
	a.pace(int64(time.Since(clock)))
	return a.tokens >= 1 && a.send(h)
}

// later takes over those that have to wait.
func (a *asking) later(hs []*handshake) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, hs...)
}

// waiting tells whether there are any.
func (a *asking) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue) > 0
}

// resume sends what may be sent now of what had to wait.
func (a *asking) resume(now int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return
	}
	a.pace(now)
	sent := 0
	for _, h := range a.queue {
		if !h.stopped && (a.tokens < 1 || !a.send(h)) {
			break
		}
		sent++
	}
	clear(a.queue[:sent])
	if a.queue = a.queue[sent:]; len(a.queue) == 0 {
		a.queue = nil
	}
}

// send tells whether h is done with: sent, or never to be.
func (a *asking) send(h *handshake) bool {
	s := privsep.Sign{
		ID: a.lastID + 1, Number: h.cred.number, Scheme: uint16(h.request.scheme), Listener: h.from.Listener,
		UID: h.from.UID, Issued: h.from.Issued, Ticket: h.from.Ticket, Input: h.request.input,
	}
	switch err := a.parent.Send(privsep.KindSign, s.Append(nil)); err {
	case nil:
	case privsep.ErrAgain:
		return false
	default: // the loop will see that the parent is gone
		h.signed <- nil
		return true
	}
	a.lastID++
	a.tokens--
	h.id = s.ID
	a.sent[s.ID] = h
	return true
}

// forget drops a request whose connection has ended.
func (a *asking) forget(h *handshake) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.stopped = true
	if h.id != 0 {
		delete(a.sent, h.id)
		h.id = 0
	}
}

// answered gives the handshake that request id was for, nil if its connection
// has ended.
func (a *asking) answered(id uint64) *handshake {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.sent[id]
	if h != nil {
		delete(a.sent, id)
		h.id = 0
	}
	return h
}

// takeSigned passes a signature on to the handshake that waits for it.
func (m *cm) takeSigned(msg *privsep.Message) error {
	var s privsep.Signed
	if err := s.Parse(msg.Payload); err != nil {
		return err
	}
	if h := m.tls.asking.answered(s.ID); h != nil {
		m.tls.door.send(errand{h: h, what: errandSigned, signed: append([]byte(nil), s.Signature...)})
	}
	return nil
}
