package cli

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// verbKick is followed by the connection UID (u64, little endian).
const verbKick = 4

func (p *program) kickCommand() *cli.Command {
	return &cli.Command{
		Name:      "kick",
		Category:  groupBroker,
		Usage:     "close connections of a running broker",
		UsageText: "gatehouse kick [-c FILE | --runtime-dir DIR] CID...\ngatehouse kick [-c FILE | --runtime-dir DIR] --user NAME",
		Description: "CID is the number of a connection, as conns and the log have it. The client gets what\n" +
			"its socket takes at once, and no reason; most clients connect again by themselves, so\n" +
			"whoever is to stay away must lose his user in the configuration. Each kick is in the log\n" +
			"and in the audit log.",
		Flags:  brokerFlags(&cli.StringFlag{Name: "user", Usage: "all connections that have logged in as `NAME`, in the place of CID"}),
		Action: p.kick,
	}
}

// brokerFlags say which running broker a command is about.
func brokerFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "runtime-dir", Usage: "the broker's runtime `DIR`, in place of the one in the configuration"},
	}, more...)
}

func (p *program) kick(c *cli.Context) error {
	user := c.String("user")
	switch {
	case user == "" && c.NArg() == 0:
		return misuse(c, "CID is missing")
	case user != "" && c.NArg() > 0:
		return misuse(c, "--user %q already says which connections", user)
	}
	var cids []uint64
	for _, text := range c.Args().Slice() {
		cid, err := strconv.ParseUint(text, 10, 64)
		if err != nil || cid == 0 {
			return misuse(c, "%q is no CID, which is a number from 1 on", text)
		}
		cids = append(cids, cid)
	}
	dir, err := runtimeDir(c)
	if err != nil {
		return err
	}
	if user != "" {
		if cids, err = connectedAs(c, user); err != nil {
			return err
		}
	}
	return p.kickAll(dir, cids)
}

// connectedAs asks the console who is connected as a user.
func connectedAs(c *cli.Context, user string) (cids []uint64, err error) {
	path, err := consolePath(c)
	if err != nil {
		return nil, err
	}
	w := newWatcher(path)
	defer w.close()
	_, list, err := w.connections(c.Context, connSorts[0], user, 0)
	if err != nil {
		return nil, err
	}
	for i := range list {
		cids = append(cids, list[i].CID)
	}
	if len(cids) == 0 {
		return nil, fmt.Errorf("nobody is connected as user %s: conns lists who is", shown(user, 64))
	}
	return cids, nil
}

// kickAll closes one after the other, also where one cannot be.
func (p *program) kickAll(dir string, cids []uint64) error {
	var failed error
	for _, cid := range cids {
		role, err := kickOne(dir, cid)
		if err != nil {
			if failed != nil {
				p.complain(failed)
			}
			failed = err
			continue
		}
		fmt.Fprintf(p.env.Stdout, "connection %d of %s closed\n", cid, role)
	}
	return failed
}

// kickOne has the broker close a connection, and gives the process that had it.
func kickOne(dir string, cid uint64) (role string, err error) {
	conn, err := dialControl(dir)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	frame := binary.LittleEndian.AppendUint32([]byte(controlMagic), verbKick)
	frame = binary.LittleEndian.AppendUint32(frame, 8)
	frame = binary.LittleEndian.AppendUint64(frame, cid)
	if err = conn.SetDeadline(time.Now().Add(controlTimeout)); err == nil {
		_, err = conn.Write(frame)
	}
	if err != nil {
		return "", fmt.Errorf("ask the broker in %s: %w", dir, plain(err))
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxStatus)).ReadBytes('\n')
	if err != nil {
		return "", fmt.Errorf("kick %d: the broker in %s gave no answer: its log may say why", cid, dir)
	}
	var r parent.Kicked
	if err := json.Unmarshal(line, &r); err != nil {
		return "", fmt.Errorf("answer of the broker in %s: %w", dir, err)
	}
	if r.Error != "" {
		return "", fmt.Errorf("kick %d: %s", cid, r.Error)
	}
	return r.Role, nil
}
