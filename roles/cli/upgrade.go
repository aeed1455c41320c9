package cli

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// verbUpgrade is followed by the path of the binary, whose length stands in the
// frame.
const verbUpgrade = 3

// upgradeWait is how long the broker may say nothing. It says every few seconds what
// it waits for, but while one binary makes room for another.
const upgradeWait = 45 * time.Second

func (p *program) upgradeCommand() *cli.Command {
	return &cli.Command{
		Name:      "upgrade",
		Category:  groupBroker,
		Usage:     "have a running broker go on with a new binary",
		UsageText: "gatehouse upgrade [-c FILE | --runtime-dir DIR] [--binary PATH]",
		Description: "The running broker checks the binary: it must be root's, or the broker's own user's, not\n" +
			"writable for others, and must run, read the broker's configuration and key, and speak\n" +
			"the same versions of what lies between the processes. If not, it is refused and nothing\n" +
			"has changed. Then it goes on as the parent, in the same process, and the roles are\n" +
			"replaced one by one. If a new role does not get ready, everything goes back to the binary\n" +
			"before, and the exit code is 1.",
		Flags:  brokerFlags(&cli.StringFlag{Name: "binary", TakesFile: true, Usage: "`PATH` of the new binary; without it what lies now where the broker was started from"}),
		Action: p.upgrade,
	}
}

func (p *program) upgrade(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	dir := c.String("runtime-dir")
	if dir == "" {
		cfg, _, err := parent.Find(c.String("config"))
		if err != nil {
			return err
		}
		dir = cfg.Effective().Privsep.RuntimeDir
	}
	path := c.String("binary")
	if path != "" {
		var err error
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	conn, err := dialControl(dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	frame := binary.LittleEndian.AppendUint32([]byte(controlMagic), verbUpgrade)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(path)))
	if _, err := conn.Write(append(frame, path...)); err != nil {
		return fmt.Errorf("ask the broker in %s: %w", dir, plain(err))
	}
	return p.follow(conn, dir)
}

// follow shows each step until the last.
func (p *program) follow(conn net.Conn, dir string) error {
	lines := bufio.NewReader(io.LimitReader(conn, maxStatus))
	for last := ""; ; {
		if err := conn.SetDeadline(time.Now().Add(upgradeWait)); err != nil {
			return err
		}
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("upgrade: the broker in %s said no more: status shows how it is", dir)
		}
		if err != nil {
			return fmt.Errorf("upgrade: %w", plain(err))
		}
		var s parent.UpgradeStep
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("answer of the broker in %s: %w", dir, err)
		}
		switch {
		case s.Error != "":
			return fmt.Errorf("upgrade: %s", s.Error)
		case s.Done != "":
			fmt.Fprintln(p.env.Stdout, s.Done)
			return nil
		}
		if s.Step != last {
			fmt.Fprintln(p.env.Stdout, s.Step)
			last = s.Step
		}
	}
}
