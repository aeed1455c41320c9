package cm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"iter"

	"gatehouse/privsep"
)

// handshake is one TLS handshake, from the moment the client may begin it. The
// socket is the workshop's until the loop has taken it from the mailbox.
type handshake struct {
	fd    int
	token uint64               // in the workshop's poller
	from  *privsep.ConnHandoff // what the parent wants to know before it signs
	shop  *workshop

	// The loop's.
	c    *conn
	gone bool // the connection has ended

	// The workshop's.
	lined    bool  // the client has begun
	hand     *hand // nil: not yet its turn
	cred     *credential
	conn     *tls.Conn
	wide     bool // room in the socket is waited for, too
	dead     bool // stopped
	request  signRequest
	id       uint64 // of the SIGN that was sent and not answered yet, 0: none
	asked    uint64 // which parent, of all that there have been
	told     bool   // the parent has answered
	signed   []byte
	over     bool  // shake has returned
	err      error // so
	released bool  // and used a key that lies here
}

var (
	errEnded  = errors.New("the connection has ended")
	errSilent = errors.New("no handshake within auth_timeout")
)

// shake never panics: what a client sends must not end the process.
func (h *handshake) shake() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("crypto/tls: %v", p)
		}
	}()
	h.conn = tls.Server(&transport{hs: h}, h.cred.config)
	return h.conn.Handshake()
}

// await lets the others go on until the socket, or anything else of h, has
// changed.
func (h *handshake) await() error {
	if h.dead || !h.hand.rest() || h.dead {
		return errEnded
	}
	return nil
}

// hand is a coroutine that does one handshake after another. crypto/tls waits
// in the middle of its work: then the hand rests, and another is taken up, which
// takes 0.1 us and no scheduler. One that has done a handshake before has a stack
// that is large enough.
type hand struct {
	h    *handshake
	rest func() bool             // by the coroutine; false: for good
	work func() (struct{}, bool) // by the workshop: on to the next rest
	stop func()                  // by the workshop
}

func newHand() *hand {
	d := &hand{}
	d.work, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.rest = func() bool { return yield(struct{}{}) }
		for {
			d.h.err = d.h.shake()
			d.h.over = true
			if !d.rest() {
				return
			}
		}
	})
	return d
}
