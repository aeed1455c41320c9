package directory

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"gatehouse/privsep"
)

// link is a connection to a server.
type link struct {
	server int
	raw    Stream
	guard  *guard
	conn   *ldap.Conn
	ours   bool // it is bound as our account
	used   bool // it has been of use before
	free   time.Time
}

// connect makes one and, if there is an account, binds as that.
func (d *Directory) connect(server int, by time.Time) (*link, *Error) {
	raw, err := d.dial(server, by)
	if err != nil {
		return nil, because(privsep.ReasonDirectoryUnreachable, err)
	}
	l := &link{server: server, raw: raw}
	if err := l.secure(&d.servers[server], by); err != nil {
		raw.Close()
		return nil, err
	}
	l.guard.allow(maxAnswer)
	l.conn = ldap.NewConn(l.guard, true)
	l.conn.Start()
	if _, e := answerTo(func(l *link) (*Entry, *Error) { return nil, d.account(l) }, l); e != nil {
		l.close()
		return nil, e
	}
	return l, nil
}

// secure makes the connection one of TLS to the server that it should be.
func (l *link) secure(s *server, by time.Time) *Error {
	if err := l.raw.SetDeadline(by); err != nil {
		return because(privsep.ReasonDirectoryUnreachable, err)
	}
	if s.startTLS {
		if err := startTLS(l.raw); err != nil {
			return insecure(err)
		}
	}
	conn := tls.Client(socket{l.raw}, s.tls)
	if err := conn.Handshake(); err != nil {
		return insecure(err)
	}
	l.guard = &guard{Conn: conn}
	return nil
}

// insecure is why there is no TLS. A server that hangs up is taken for one that has none.
func insecure(err error) *Error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return because(privsep.ReasonDirectoryTLS, err)
	}
	return because(lost(err, privsep.ReasonDirectoryTLS), err)
}

// StartTLS (RFC 4511, 4.14) is said by ourselves: it is one question with one answer, and
// no byte beyond that may be read before TLS begins.
const startTLSRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

var errStartTLS = errors.New("directory: the server refuses StartTLS")

func startTLS(raw io.ReadWriter) error {
	if _, err := io.WriteString(raw, startTLSRequest); err != nil {
		return err
	}
	message, err := readMessage(raw, func(n int) bool { return n <= maxAnswer })
	if err != nil {
		return err
	}
	_, body, _ := element(message)
	id, number, rest := element(body)
	op, answer, _ := element(rest)
	enumerated, result, _ := element(answer)
	if id != 0x02 || string(number) != "\x01" || op != extendedResponse || enumerated != 0x0a || string(result) != "\x00" {
		return errStartTLS
	}
	return nil
}

const extendedResponse = 0x78

// lost tells why a connection has ended: other, unless the network or time did it.
func lost(err error, other privsep.Reason) privsep.Reason {
	var network net.Error
	var alert *net.OpError // as which TLS gives its own, too
	var file *fs.PathError
	switch {
	case errors.Is(err, errForm):
		return privsep.ReasonDirectoryProtocol
	case errors.As(err, &network) && network.Timeout():
		return privsep.ReasonDirectoryTimeout
	case errors.As(err, &alert) && strings.HasSuffix(alert.Op, "error"):
		return other
	case errors.As(err, &network), errors.As(err, &file), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return privsep.ReasonDirectoryUnreachable
	}
	return other
}

// begin and end bracket a question.
func (l *link) begin(by time.Time) error {
	l.guard.allow(maxAnswer)
	return l.raw.SetDeadline(by)
}

func (l *link) end() error {
	l.guard.allow(0)
	return l.raw.SetDeadline(time.Time{})
}

func (l *link) close() {
	l.raw.Close() // first: nothing is said, or waited for
	l.conn.Close()
}

// because tells what an error of the library means.
func (l *link) because(err error) *Error {
	if failure := l.guard.failure(); failure != nil {
		return &Error{lost(failure, privsep.ReasonDirectoryUnreachable), failure, true}
	}
	var result *ldap.Error
	if !errors.As(err, &result) {
		return &Error{privsep.ReasonDirectoryProtocol, err, true}
	}
	switch code := result.ResultCode; {
	case code == ldap.LDAPResultReferral:
		return &Error{privsep.ReasonDirectoryReferral, err, false}
	case code == ldap.LDAPResultSizeLimitExceeded:
		return &Error{privsep.ReasonDirectoryAmbiguous, err, false}
	case code == ldap.LDAPResultTimeLimitExceeded:
		return &Error{privsep.ReasonDirectoryTimeout, err, false}
	case code == ldap.LDAPResultBusy, code == ldap.LDAPResultUnavailable, code >= ldap.ErrorNetwork:
		return &Error{privsep.ReasonDirectoryProtocol, err, true}
	}
	return &Error{privsep.ReasonDirectoryProtocol, err, false} // about this question alone
}
