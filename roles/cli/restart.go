package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/privsep"
	"gatehouse/roles/parent"
)

func (p *program) restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Category:  groupBroker,
		Usage:     "replace a process of a running broker by a new one, without loss",
		UsageText: "gatehouse restart [-c FILE | --runtime-dir DIR] ROLE\ngatehouse restart [-c FILE | --runtime-dir DIR] all",
		Description: "ROLE is router, dispatcher, auth, tlsd, console or a connection manager as status shows it\n" +
			"(cm/0). The new process is started beside the old one, which goes on if that fails.\n" +
			"Plaintext and Unix connections of a connection manager move to the new process, which is in\n" +
			"the other one of two places (of cm/0, with one of them: cm/1); those by TLS stay with the old\n" +
			"one until they end, at most for drain_timeout.",
		Flags:  brokerFlags(),
		Action: p.restart,
	}
}

func (p *program) restart(c *cli.Context) error {
	if err := arguments(c, 1, 1, "ROLE"); err != nil {
		return err
	}
	ids, all := []privsep.ID(nil), c.Args().First() == "all"
	if !all {
		id, err := privsep.ParseID(c.Args().First())
		if err != nil || id.Role != privsep.RoleRouter && id.Role != privsep.RoleDispatcher && id.Role != privsep.RoleAuth && id.Role != privsep.RoleTLSD && id.Role != privsep.RoleConsole && id.Role != privsep.RoleCM {
			return misuse(c, "%q is not router, dispatcher, auth, tlsd, console, a connection manager (cm/0) or all", c.Args().First())
		}
		ids = append(ids, id)
	}
	dir, err := runtimeDir(c)
	if err != nil {
		return err
	}
	if all {
		if ids, err = replaceable(dir); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := p.restartOne(dir, id); err != nil {
			return err
		}
	}
	return nil
}

// replaceable lists the processes that a broker has, but for those that are being
// left already.
func replaceable(dir string) (ids []privsep.ID, err error) {
	text, err := askStatus(dir)
	if err != nil {
		return nil, err
	}
	var st parent.Status
	if err := json.Unmarshal(text, &st); err != nil {
		return nil, fmt.Errorf("answer of the broker in %s: %w", dir, err)
	}
	for i := range st.Processes {
		pr := &st.Processes[i]
		id, err := privsep.ParseID(pr.Role)
		if err == nil && id.Role != privsep.RoleParent && pr.Successor == "" && pr.State != "standby" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// restartWait is how long the broker may say nothing. It says every few seconds how
// far it is.
const restartWait = 30 * time.Second

// restartOne has one process replaced and shows how it goes.
func (p *program) restartOne(dir string, id privsep.ID) error {
	conn, err := askControl(dir, verbRestart, uint32(id.Role)|uint32(id.Index)<<16)
	if err != nil {
		return err
	}
	defer conn.Close()
	lines := bufio.NewReader(io.LimitReader(conn, maxStatus))
	for last := ""; ; {
		if err := conn.SetDeadline(time.Now().Add(restartWait)); err != nil {
			return err
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("restart %v: the broker in %s said no more: status shows how it is", id, dir)
			}
			return fmt.Errorf("restart %v: %w", id, plain(err))
		}
		var r parent.Progress
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("answer of the broker in %s: %w", dir, err)
		}
		if r.Error != "" {
			return fmt.Errorf("restart %v: %s", id, r.Error)
		}
		if text := progressText(&r); text != last {
			fmt.Fprintln(p.env.Stdout, text)
			last = text
		}
		if r.Done {
			return nil
		}
	}
}

func progressText(r *parent.Progress) string {
	switch {
	case !r.Done && r.Stage == "starting":
		return r.Role + ": starting " + r.Place
	case !r.Done:
		return fmt.Sprintf("%s: %d connections moved to %s, %d left", r.Role, r.Moved, r.Place, r.Left)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: replaced in %.1fs", r.Role, float64(r.TookMS)/1000)
	if r.Place != r.Role {
		fmt.Fprintf(&b, " by %s, %d connections moved", r.Place, r.Moved)
	} else {
		fmt.Fprintf(&b, ", %.1fms without one", r.PauseMS)
	}
	if r.Stay > 0 {
		until := r.Until
		if t, err := time.Parse(time.RFC3339, until); err == nil {
			until = t.Local().Format(time.TimeOnly)
		}
		fmt.Fprintf(&b, "; %d by TLS stay until they end, at most until %s", r.Stay, until)
	}
	return b.String()
}
