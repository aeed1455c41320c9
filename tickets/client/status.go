package client

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Headers that a client sends. Their names are compared without regard to case.
const (
	HeaderMode           = "Gatehouse-Mode"
	HeaderSession        = "Gatehouse-Session"     // 1 to 128 printable ASCII characters, no blank
	HeaderSessionEnd     = "Gatehouse-Session-End" // with any value: the last request of the session
	HeaderTimeout        = "Gatehouse-Timeout"     // of a fanout: "500ms", or milliseconds
	HeaderToType         = "Gatehouse-To-Type"
	HeaderToOrganisation = "Gatehouse-To-Organisation"
)

// Headers that the broker sends. It takes them out of whatever clients send.
const (
	HeaderFrom     = "Gatehouse-From"
	HeaderExpect   = "Gatehouse-Expect"
	HeaderAnswered = "Gatehouse-Answered"
	HeaderLost     = "Gatehouse-Lost"
)

// Values of HeaderMode that have to be asked for.
const (
	modeSession = "session"
	modeFanout  = "fanout"
)

// Where nats.go puts the status line of a message.
const (
	headerStatus      = "Status"
	headerDescription = "Description"
)

var (
	// ErrResponderLost: the member of the queue group, or the application instance,
	// that had the request has gone without an answer. It may have acted on it.
	ErrResponderLost = errors.New("gatehouse: responder lost before it answered")
	// ErrSessionGone: the member that the session goes to has gone, or this
	// connection was lost. The next request with the same ID begins the session anew.
	ErrSessionGone = errors.New("gatehouse: session gone")
	// ErrNoFanout: the broker did not say how many are to answer. It is no Gatehouse, and
	// has sent the message to whoever has subscribed.
	ErrNoFanout = errors.New("gatehouse: the broker does not know the mode fanout")
)

// StatusError is a status of the broker that has no other error: 400 for a malformed
// header, 503 for more requests than it can follow.
type StatusError struct {
	Code int
	Text string
}

// Error gives code and reason.
func (e *StatusError) Error() string { return fmt.Sprintf("gatehouse: %d %s", e.Code, e.Text) }

// Status gives the error that a message on a reply subject stands for, nil for an answer:
// [ErrResponderLost], [ErrSessionGone], [nats.ErrNoResponders] or a [*StatusError]. For
// those who make their requests themselves.
func Status(m *nats.Msg) error {
	code, text := m.Header.Get(headerStatus), m.Header.Get(headerDescription)
	if code == "" || len(m.Data) > 0 {
		return nil
	}
	switch {
	case code == "503" && text == "Responder Lost":
		return ErrResponderLost
	case code == "503" && text == "":
		return nats.ErrNoResponders
	case code == "410":
		return ErrSessionGone
	case code == "400" || code == "503":
		n, _ := strconv.Atoi(code)
		return &StatusError{n, text}
	}
	return nil
}

// count reads a number that the broker has put into a header; -1: it has not.
func count(m *nats.Msg, name string) int {
	n, err := strconv.ParseUint(m.Header.Get(name), 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}
