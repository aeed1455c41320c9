package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// Session keeps its requests together: on each subject, all of them go to the member of
// the queue group that got the first one, for as long as that member and this
// connection are there and the broker's session_idle does not pass without a request.
// After that time the next one may go to another member, without a word: a member that
// keeps something for a session must expect a request of one that it does not know.
//
// Its methods may be called by several goroutines at once.
type Session struct {
	// ID is sent with every request. It tells sessions of one connection apart and need
	// not be a secret: those of other connections are others whatever they are called.
	// It must not be changed once there was a request.
	ID string

	nc *nats.Conn

	mu         sync.Mutex
	inbox      *nats.Subscription // to everything below its own subject; nil: none so far
	prefix     string             // of reply subjects
	number     uint64             // of the last request
	calls      map[string]*call   // by the last token of their reply subject
	subjects   map[string]bool    // that the session goes on with
	connection uint64             // number of the one that it began on
}

// NewSession makes a session with a random ID. Nothing is sent before its first request.
func NewSession(nc *nats.Conn) *Session {
	return &Session{ID: rand.Text(), nc: nc, calls: map[string]*call{}, subjects: map[string]bool{}}
}

// Request sends a request of the session and waits for the answer. Of its errors,
//
//   - [ErrSessionGone] says that what the member had kept for the session is gone, with
//     it or with the connection; this request has reached nobody, but if the connection
//     was lost while it was on its way ([nats.ErrDisconnected] is then wrapped, too);
//     after it the next request begins the session anew;
//   - [ErrResponderLost] says that the member went while it had this request: the next one
//     gets ErrSessionGone;
//   - [nats.ErrNoResponders] says that nobody has subscribed to the subject.
//
// A request that has the header [HeaderSessionEnd] is the last of the session on its
// subject. ctx bounds the wait; msg is not changed, and its reply subject not used.
func (s *Session) Request(ctx context.Context, msg *nats.Msg, opts ...Option) (*nats.Msg, error) {
	for m, err := range s.Requests(ctx, msg, opts...) {
		return m, err
	}
	panic("unreachable: there is an answer or an error")
}

// Requests is Request for several answers. Which one is the last is between the
// application and its responders; the loop goes on until it is left or something ends
// it, the latest of that being ctx. The broker watches over the member until the first
// answer: if the member goes after that, nobody says so before the next request.
func (s *Session) Requests(ctx context.Context, msg *nats.Msg, opts ...Option) iter.Seq2[*nats.Msg, error] {
	return func(yield func(*nats.Msg, error) bool) {
		c := newCall(s.nc)
		defer c.end()
		token, err := s.send(ctx, c, msg, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		defer s.forget(token)
		for {
			m, err := c.next(ctx)
			if err == nil {
				err = Status(m)
			}
			if err != nil {
				yield(nil, s.judge(msg.Subject, err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// send sends a request whose answers come to c, and returns where they come.
func (s *Session) send(ctx context.Context, c *call, msg *nats.Msg, opts []Option) (token string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.here(); err != nil {
		return "", err
	}
	if s.inbox == nil {
		if err := s.open(); err != nil {
			return "", err
		}
	}
	s.number++
	token = strconv.FormatUint(s.number, 36)
	m := ask(msg, s.prefix+token, modeSession, opts)
	m.Header[HeaderSession] = []string{s.ID}
	s.calls[token] = c
	if err := s.nc.PublishMsg(m); err != nil {
		delete(s.calls, token)
		return "", err
	}
	if m.Header[HeaderSessionEnd] == nil {
		s.subjects[m.Subject] = true
	} else {
		delete(s.subjects, m.Subject)
	}
	return token, nil
}

// here tells whether the connection is still the one that the session began on: the
// broker keeps sessions by connection. Whoever has none now will have the next one.
func (s *Session) here() error {
	now := s.nc.Stats().Reconnects
	if !s.nc.IsConnected() {
		now++
	}
	if len(s.subjects) > 0 && now != s.connection {
		clear(s.subjects)
		return ErrSessionGone
	}
	s.connection = now
	return nil
}

func (s *Session) open() error {
	subject := s.nc.NewInbox()
	sub, err := s.nc.Subscribe(subject+".*", s.take)
	if err != nil {
		return err
	}
	s.inbox, s.prefix = sub, subject+"."
	return sub.SetPendingLimits(-1, -1)
}

// take is called by nats.go for every answer.
func (s *Session) take(m *nats.Msg) {
	s.mu.Lock()
	c := s.calls[strings.TrimPrefix(m.Subject, s.prefix)]
	s.mu.Unlock()
	if c != nil {
		c.take(m)
	}
}

func (s *Session) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, token)
}

// judge notes what an error says of the session, and gives the one for the caller.
func (s *Session) judge(subject string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed):
		clear(s.subjects)
		return fmt.Errorf("%w: %w", ErrSessionGone, err)
	case errors.Is(err, ErrSessionGone) || errors.Is(err, nats.ErrNoResponders):
		delete(s.subjects, subject)
	}
	return err
}

// Close ends the session: on each subject that it goes on with the member gets an empty
// message with the headers of the session and [HeaderSessionEnd], without a reply subject.
// It returns when the broker has these. Requests that still wait for an answer get none.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inbox == nil {
		return nil
	}
	gone := s.here() != nil // then there is nobody to tell
	var errs []error
	for subject := range s.subjects {
		m := ask(&nats.Msg{Subject: subject}, "", modeSession, nil)
		m.Header[HeaderSession], m.Header[HeaderSessionEnd] = []string{s.ID}, []string{"true"}
		errs = append(errs, s.nc.PublishMsg(m))
	}
	clear(s.subjects)
	errs = append(errs, s.inbox.Unsubscribe())
	s.inbox = nil
	if !gone {
		errs = append(errs, (&call{nc: s.nc}).flush(ctx))
	}
	return errors.Join(errs...)
}
