package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets"
)

// transferCredential is the jwt of a CONNECT whose sig is a transfer ticket.
const transferCredential = "transfer"

const (
	// ticketWait is how long an environment may take to sign a ticket. The other one
	// waits meanwhile, and has an auth_timeout, of 2 s if nothing else is configured.
	ticketWait = 1500 * time.Millisecond
	ticketTry  = 500 * time.Millisecond // and to answer at all
	ticketRest = 150 * time.Millisecond // before it is asked again
)

// Transfer logs in to another environment as who conn is in its own, without any secret:
// each time that a connection is made, the broker of conn is asked for a ticket for it.
// conn must stay open for as long as the other connection may be lost and made again.
//
// Both environments must agree: the profile of conn's user names environment in its
// transfer list, and environment has the other as an issuer of tickets, and the user.
//
//	home, err := nats.Connect("tls://orga.example", nats.UserInfo("alice", password))
//	...
//	there, err := nats.Connect("tls://orgb.example", client.Transfer(home, "orgb"))
func Transfer(conn *nats.Conn, environment string) nats.Option {
	return func(o *nats.Options) error {
		if o.User == "" {
			o.User = userOf(conn)
		}
		return nats.UserJWT(
			func() (string, error) { return transferCredential, nil },
			func(nonce []byte) ([]byte, error) { return ticket(conn, environment, string(nonce)) },
		)(o)
	}
}

// userOf is whom conn has named as its user, "": nobody, it logs in in another way.
func userOf(conn *nats.Conn) string {
	if u, err := url.Parse(conn.ConnectedUrl()); err == nil && u.User != nil {
		if _, ok := u.User.Password(); !ok {
			return "" // a token
		}
		return u.User.Username()
	}
	return conn.Opts.User
}

// ticket asks conn's broker for one. It asks again where it gets no answer: the router
// may have ended with the question.
func ticket(conn *nats.Conn, environment, nonce string) ([]byte, error) {
	question, err := json.Marshal(tickets.TransferRequest{Nonce: nonce, Environment: environment})
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(ticketWait); ; {
		answer, err := askTicket(conn, question)
		if err == nil {
			return answer, nil
		}
		if !mayPass(err) || time.Until(end) < ticketRest+ticketTry {
			return nil, fmt.Errorf("gatehouse: no ticket for %s: %w", environment, err)
		}
		<-time.After(ticketRest)
	}
}

func askTicket(conn *nats.Conn, question []byte) ([]byte, error) {
	m, err := conn.Request(tickets.TransferSubject, question, ticketTry)
	if err != nil {
		return nil, err
	}
	if code := m.Header.Get(headerStatus); code != "" {
		n, _ := strconv.Atoi(code)
		return nil, &StatusError{n, m.Header.Get(headerDescription)}
	}
	return m.Data, nil
}

// mayPass tells of an error that another try may not have.
func mayPass(err error) bool {
	var s *StatusError
	return errors.Is(err, nats.ErrTimeout) || errors.As(err, &s) && (s.Code == 429 || s.Code == 504)
}
