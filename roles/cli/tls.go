package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
	"gatehouse/roles/tlsd/protocol"
)

func (p *program) tlsCommand() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "socket", Usage: "tlsd's `SOCKET`, in place of the one in the configuration"},
		}, more...)
	}
	return &cli.Command{
		Name:      "tls",
		Category:  groupBroker,
		Usage:     "see and end TLS sessions that processes share",
		UsageText: "gatehouse tls list|close [options] [arguments]",
		Description: "tlsd keeps TLS sessions to servers for local processes, which come and go. Both commands\n" +
			"ask it over its socket, as any process may; what one sees and may end is its policy's.",
		Action: noCommand,
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "list the sessions",
				UsageText: "gatehouse tls list [-c FILE | --socket SOCKET] [--json]",
				Description: "Lists the sessions that one may end: root all of them, others those that they have\n" +
					"opened or have the right admin for. HOLDER is the process that has a session in\n" +
					"exclusive mode; RECORDS are those of TLS.",
				Flags:  flags(&cli.BoolFlag{Name: "json", Usage: "print everything as JSON"}),
				Action: p.tlsList,
			},
			{
				Name:      "close",
				Usage:     "end a session",
				UsageText: "gatehouse tls close [-c FILE | --socket SOCKET] NAME|ID",
				Description: "Ends a session, whoever uses it: they are told that it has broken off. The next\n" +
					"caller who names it gets a new one.",
				Flags:  flags(),
				Action: p.tlsClose,
			},
		},
	}
}

func (p *program) tlsList(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	text, err := askTLSD(c, &protocol.Request{Verb: protocol.List})
	if err != nil {
		return err
	}
	all, err := sessionsOf(text)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b protocol.Session) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Age, a.Age)) })
	if c.Bool("json") {
		b, err := json.MarshalIndent(all, "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(p.env.Stdout, "%s\n", b)
		}
		return err
	}
	_, err = io.WriteString(p.env.Stdout, sessionsText(all))
	return err
}

// sessionsOf reads a list: a line for each session, and an empty one.
func sessionsOf(text []byte) ([]protocol.Session, error) {
	text, whole := bytes.CutSuffix(text, []byte("\n"))
	if !whole || len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("tlsd has gone before the list was whole")
	}
	all := []protocol.Session{}
	for line := range bytes.Lines(text) {
		var s protocol.Session
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("answer of tlsd: %w", err)
		}
		all = append(all, s)
	}
	return all, nil
}

// sessionsText is the page for people.
func sessionsText(all []protocol.Session) string {
	t := newTable("SESSION", "REMOTE", "MODE", "STATE", "OWNER", "CALLERS", "HOLDER", "AGE", "IDLE", "IN", "OUT", "RECORDS", "TLS", "PEER")
	t.left(0, 1, 2, 3, 12, 13)
	for i := range all {
		s := &all[i]
		holder := "-"
		if s.Holder != 0 {
			holder = strconv.Itoa(s.Holder)
		}
		name := s.Name
		if !s.Shared {
			name += " (unshared)"
		}
		t.row(oneLine(name), oneLine(s.Remote), s.Mode, s.State, s.Owner, s.Callers, holder, age(seconds(s.Age)), age(seconds(s.Idle)),
			size(s.InBytes), size(s.OutBytes), count(s.InRecords+s.OutRecords), oneLine(s.Version+" "+s.ALPN), oneLine(s.Subject))
	}
	return t.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (p *program) tlsClose(c *cli.Context) error {
	if err := arguments(c, 1, 1, "NAME"); err != nil {
		return err
	}
	name := c.Args().First()
	if !protocol.IsSession(name) {
		return misuse(c, "%q is not the name of a session", name)
	}
	_, err := askTLSD(c, &protocol.Request{Verb: protocol.Close, Target: name})
	return err
}

// maxList bounds what tlsd may say, in bytes.
const maxList = 64 << 20

// askTLSD gets what comes behind the head of an answer.
func askTLSD(c *cli.Context, r *protocol.Request) ([]byte, error) {
	path := c.String("socket")
	if path == "" {
		cfg, source, err := parent.Find(c.String("config"))
		if err != nil {
			return nil, err
		}
		if path = cfg.Effective().TLSD.Socket; path == "" {
			return nil, fmt.Errorf("%s has no tlsd.socket: --socket names another", source)
		}
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("tlsd at %s: %w: status shows whether it runs", path, plain(err))
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(r.Append(nil)); err != nil {
		return nil, fmt.Errorf("tlsd at %s: %w", path, plain(err))
	}
	text, err := io.ReadAll(io.LimitReader(bufio.NewReader(conn), maxList))
	if err != nil {
		return nil, fmt.Errorf("tlsd at %s: %w", path, plain(err))
	}
	end := protocol.AnswerEnd(text)
	a, err := protocol.ParseAnswer(text[:end])
	switch {
	case err != nil:
		return nil, fmt.Errorf("tlsd at %s gave no answer", path)
	case a.Code != protocol.OK:
		return nil, errors.New("tlsd: " + oneLine(a.Text))
	}
	return text[end:], nil
}
