package cm

import (
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
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
	scheme, err := custody.SchemeOf(s.Public(), opts)
	switch {
	case err != nil:
		return nil, err
	case s.h.cred.key != nil:
		return s.h.cred.key.Sign(scheme, message)
	case len(message) > privsep.MaxSignInput:
		return nil, privsep.ErrShape
	}
	return s.h.ask(scheme, message)
}

// signRequest is what goes into SIGN beside the handoff.
type signRequest struct {
	scheme tls.SignatureScheme
	input  []byte
}

// ask asks the parent and waits for the answer.
func (h *handshake) ask(scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	h.request = signRequest{scheme, message}
	h.shop.asking.add(h)
	for !h.told {
		if err := h.await(); err != nil {
			return nil, err
		}
	}
	if len(h.signed) == 0 {
		return nil, errRefuse
	}
	return h.signed, nil
}

// asking asks for signatures, in order and no faster than the parent allows. It
// is the workshop's.
type asking struct {
	parent *privsep.Channel
	rate   int // a second, of which a tenth is left to the clock's and the parent's delays

	pace   privsep.Pace
	queue  []*handshake          // what could not be sent
	sent   map[uint64]*handshake // by id
	lastID uint64
}

func newAsking(parent *privsep.Channel, rate int) *asking {
	return &asking{parent: parent, rate: max(rate-rate/10, 1), sent: map[uint64]*handshake{}}
}

// add has the parent asked for h, at once if that can be.
func (a *asking) add(h *handshake) {
	if a.waiting() || !a.pace.Take(a.rate, time.Now()) || !a.send(h) {
		a.queue = append(a.queue, h)
	}
}

// waiting tells whether there are any that could not be sent.
func (a *asking) waiting() bool { return len(a.queue) > 0 }

// resume sends what may be sent now of what had to wait.
func (a *asking) resume() {
	if !a.waiting() {
		return
	}
	now, sent := time.Now(), 0
	for _, h := range a.queue {
		if !h.dead && (!a.pace.Take(a.rate, now) || !a.send(h)) {
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
	err := a.parent.Send(privsep.KindSign, s.Append(nil))
	if err == privsep.ErrAgain {
		return false
	}
	a.lastID++
	h.id = s.ID
	a.sent[s.ID] = h
	if err != nil { // the loop will see that the parent is gone
		h.shop.box.post(errand{what: errandSigned, id: s.ID})
	}
	return true
}

// forget drops a request whose connection has ended.
func (a *asking) forget(h *handshake) {
	if h.id != 0 {
		delete(a.sent, h.id)
		h.id = 0
	}
}

// answered gives the handshake that request id was for, nil if its connection
// has ended.
func (a *asking) answered(id uint64) *handshake {
	h := a.sent[id]
	if h != nil {
		a.forget(h)
	}
	return h
}

// takeSigned passes a signature on to the workshop.
func (m *cm) takeSigned(msg *privsep.Message) error {
	var s privsep.Signed
	if err := s.Parse(msg.Payload); err != nil {
		return err
	}
	m.tls.shops[0].box.post(errand{what: errandSigned, id: s.ID, signed: append([]byte(nil), s.Signature...)})
	return nil
}
