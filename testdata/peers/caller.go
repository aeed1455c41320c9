package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// caller.go is what this program is when it starts itself: short.go's server, or a caller
// that speaks TLS itself (others are package caller), or those who log in (logins.go).

const (
	callerFlag = "-caller" // ADDR CERTIFICATE
	serverFlag = "-server" // ADDR CERTIFICATE KEY
	crowdFlag  = "-crowd"  // ADDR CREDENTIALS RATE WARM-UP SPAN
)

// callTime is how long anything may take.
const callTime = 10 * time.Second

const request = "request\n"

// program runs one of them, if that is what was asked for.
func program(args []string) {
	var err error
	switch {
	case len(args) == 4 && args[1] == callerFlag:
		_, _, err = handshakes(args[2], args[3])
	case len(args) == 5 && args[1] == serverFlag:
		err = serve(args[2], args[3], args[4])
	case len(args) == 7 && args[1] == crowdFlag:
		err = beCrowd(args[2], args[3], args[4], args[5], args[6])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ask has the server say how many handshakes it has made.
func ask(conn net.Conn) (whole, resumed int, err error) {
	conn.SetDeadline(time.Now().Add(callTime))
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, 0, err
	}
	line, err := bufio.NewReaderSize(conn, 1<<10).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(line, "%d %d\n", &whole, &resumed)
	}
	return whole, resumed, err
}

// handshakes asks the server by crypto/tls how many it has made, this one too: those
// that were whole, and those that went on with a session of before.
func handshakes(addr, cert string) (whole, resumed int, err error) {
	text, err := os.ReadFile(cert)
	if err != nil {
		return 0, 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: callTime}, "tcp", addr, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	return ask(conn)
}

// serve answers each line with the number of handshakes so far, until it is killed. Who
// does not begin with one is answered in plaintext.
func serve(addr, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	var whole, resumed atomic.Int64
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			first := bufio.NewReader(conn)
			begin, err := first.Peek(1)
			if err != nil {
				return
			}
			var c net.Conn = &begun{conn, first}
			const handshake = 22 // of a record of TLS
			if begin[0] == handshake {
				s := tls.Server(c, cfg)
				if s.Handshake() != nil {
					return
				}
				if s.ConnectionState().DidResume {
					resumed.Add(1)
				} else {
					whole.Add(1)
				}
				c = s
			}
			for in := bufio.NewReader(c); ; {
				line, err := in.ReadSlice('\n')
				if err != nil || !bytes.Equal(line, []byte(request)) {
					return
				}
				if _, err := fmt.Fprintf(c, "%d %d\n", whole.Load(), resumed.Load()); err != nil {
					return
				}
			}
		}()
	}
}

// begun is a connection that has been read from.
type begun struct {
	net.Conn
	in *bufio.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.in.Read(p) }
