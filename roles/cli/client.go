package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/tickets/client"
)

const (
	defaultServer  = "nats://127.0.0.1:4222"
	unixScheme     = "unix://"
	connectTimeout = 5 * time.Second
	flushTimeout   = 10 * time.Second
)

// connectFlags are those of all commands that connect to a broker.
func connectFlags() []cli.Flag {
	return []cli.Flag{serverFlag(), caFlag(), tlsFirstFlag(), nameFlag(), certFlag(), keyFlag(), transferFlag(), environmentFlag()}
}

func serverFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "server", Aliases: []string{"s"}, Value: defaultServer, EnvVars: []string{"GATEHOUSE_URL"},
		Usage: "broker's `URL`: nats://[USER:PASSWORD@]HOST:PORT, tls://HOST:PORT, several with commas between, or unix:///PATH",
	}
}

func caFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "ca", EnvVars: []string{"GATEHOUSE_CA"},
		Usage: "PEM `FILE` of whom to believe the broker's certificate, in place of the system's list; implies TLS",
	}
}

func tlsFirstFlag() cli.Flag {
	return &cli.BoolFlag{Name: "tls-first", Usage: "begin with TLS, for a broker with handshake_first"}
}

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "connect as `TYPE/INSTANCE`, an instance of an application"}
}

func transferFlag() cli.Flag {
	return &cli.StringFlag{Name: "transfer-from", Usage: "log in by a ticket of another environment, whose broker is at `URL`; needs --environment"}
}

func environmentFlag() cli.Flag {
	return &cli.StringFlag{Name: "environment", Usage: "`NAME` of the environment that --server leads to"}
}

func headerFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "add a header, `NAME:VALUE`; may be repeated"}
}

func rawFlag() cli.Flag {
	return &cli.BoolFlag{Name: "raw", Usage: "print bodies only, as they came, each with a line feed after it"}
}

func queueFlag() cli.Flag {
	return &cli.StringFlag{Name: "queue", Aliases: []string{"q"}, Usage: "join queue group `NAME`: each message goes to one of its members"}
}

// link is a connection to a broker and what has to be said about it.
type link struct {
	*nats.Conn
	server string      // without a password
	loud   atomic.Bool // errors that belong to no call are printed
	home   *nats.Conn  // whose tickets are shown, nil: none
}

// Close closes both connections.
func (l *link) Close() {
	l.Conn.Close()
	if l.home != nil {
		l.home.Close()
	}
}

// connect reaches the broker that --server names. An error is about one
// address and fits on one line.
func (p *program) connect(c *cli.Context, more ...nats.Option) (*link, error) {
	name, err := clientName(c)
	if err != nil {
		return nil, err
	}
	nc := &link{server: redacted(c.String("server"))}
	opts := []nats.Option{
		name,
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if nc.loud.Load() {
				p.complain(plain(err))
			}
		}),
	}
	login, err := certificate(c)
	if err != nil {
		return nil, err
	}
	opts = append(opts, login...)
	if from := c.String("transfer-from"); from != "" {
		environment := c.String("environment")
		if environment == "" {
			return nil, misuse(c, "--transfer-from needs --environment, which the ticket is for")
		}
		if nc.home, err = dial(c, from, nats.MaxReconnects(-1)); err != nil {
			return nil, err
		}
		opts = append(opts, client.Transfer(nc.home, environment))
	}
	if nc.Conn, err = dial(c, c.String("server"), append(opts, more...)...); err != nil {
		if nc.home != nil {
			nc.home.Close()
		}
		return nil, err
	}
	return nc, nil
}

// dial connects to one broker, by TLS as the flags say.
func dial(c *cli.Context, server string, opts ...nats.Option) (*nats.Conn, error) {
	d, shown := &dialer{}, redacted(server)
	opts = append(opts, nats.Timeout(connectTimeout), nats.SetCustomDialer(d))
	if path, ok := strings.CutPrefix(server, unixScheme); ok {
		d.path, server = path, defaultServer
	}
	if ca := c.String("ca"); ca != "" {
		if _, err := os.ReadFile(ca); err != nil { // nats.go would say it, and plain cut the name
			return nil, fmt.Errorf("--ca: %w", err)
		}
		opts = append(opts, nats.RootCAs(ca))
	}
	if c.Bool("tls-first") {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	conn, err := nats.Connect(server, opts...)
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) && d.err != nil {
			err = d.err
		}
		return nil, fmt.Errorf("connect to %s: %w%s", shown, plain(err), advice(err))
	}
	return conn, nil
}

// clientName is what the client calls itself.
func clientName(c *cli.Context) (nats.Option, error) {
	if !c.IsSet("name") {
		return nats.Name("gatehouse " + c.Command.Name), nil
	}
	kind, instance, err := instanceOf(c, "name")
	return client.Name(kind, instance), err
}

// instanceOf reads a flag that names an instance of an application.
func instanceOf(c *cli.Context, flag string) (kind, instance string, err error) {
	kind, instance, _ = strings.Cut(c.String(flag), "/")
	if client.Name(kind, instance)(new(nats.Options)) != nil {
		return "", "", misuse(c, "--%s %q is not TYPE/INSTANCE, two words without '.', '*', '>' and '/'", flag, c.String(flag))
	}
	return kind, instance, nil
}

// staying are the options of a client that outlives a broker's restart.
func (p *program) staying() []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we closed it
				p.complain(fmt.Errorf("disconnected, trying again: %w", plain(err)))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			if nc.FlushTimeout(flushTimeout) != nil {
				return // gone again: the next time counts
			}
			p.complain(fmt.Errorf("connected again to %s", nc.ConnectedUrlRedacted()))
		}),
	}
}

// settle waits until the broker has seen everything sent so far, and reports
// what it refused. The -ERR to a message arrives before the PONG.
func (l *link) settle() error {
	if err := l.FlushTimeout(flushTimeout); err != nil {
		return fmt.Errorf("%s: %w", l.server, plain(err))
	}
	if err := l.LastError(); err != nil {
		return fmt.Errorf("%s: %w", l.server, plain(err))
	}
	return nil
}

// dialer keeps the last error, which nats.go replaces by "no servers
// available", and reaches Unix sockets.
type dialer struct {
	path string // of a Unix socket; empty: the address that nats.go gives
	err  error
}

// Dial is called by nats.go, one call at a time.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if d.path != "" {
		network, address = "unix", d.path
	}
	conn, err := net.DialTimeout(network, address, connectTimeout)
	d.err = err
	return conn, err
}

// plain cuts an error to what happened, where the rest repeats an address that
// the message already has, or a library's name.
func plain(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("look up %s: %s", dns.Name, dns.Err)
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF):
		return errors.New("the broker closed the connection")
	}
	text := strings.TrimPrefix(err.Error(), "nats: ")
	return errors.New(strings.TrimPrefix(text, "nats: ")) // errors from the wire have it twice
}

// redacted gives the server list without passwords.
func redacted(servers string) string {
	list := strings.Split(servers, ",")
	for i, s := range list {
		s = strings.TrimSpace(s)
		if u, err := url.Parse(s); err == nil && u.User != nil {
			s = u.Redacted()
		} else if at := strings.LastIndexByte(s, '@'); at >= 0 && !strings.HasPrefix(s, unixScheme) {
			s = "..." + s[at:]
		}
		list[i] = s
	}
	return strings.Join(list, ",")
}

// headers reads the NAME:VALUE of --header.
func headers(c *cli.Context) (nats.Header, error) {
	h := nats.Header{}
	for _, s := range c.StringSlice("header") {
		name, value, ok := strings.Cut(s, ":")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(s, "\r\n") || strings.ContainsAny(name, " \t") {
			return nil, misuse(c, "header %q is not NAME:VALUE", s)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// body is argument number i or, where that is missing or "-", standard input.
// A terminal is not waited for: the body is then empty.
func (p *program) body(c *cli.Context, i int, most int64) ([]byte, error) {
	if c.NArg() > i && c.Args().Get(i) != "-" {
		return []byte(c.Args().Get(i)), nil
	}
	if c.NArg() <= i && isTerminal(p.env.Stdin) {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(p.env.Stdin, most+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("standard input holds more than the broker's largest message, %s", size(uint64(most)))
	}
	return b, nil
}
