package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// The control socket: one request frame, then JSON until the end.
//
//	0        8        12       16
//	+--------+--------+--------+
//	| magic  | verb   | about  |   u32 little endian
//	+--------+--------+--------+
const (
	controlSocket  = "control"
	controlMagic   = "GHCTL1\x00\x00"
	verbStatus     = 1
	verbRestart    = 2 // about: role, which of several << 16
	controlTimeout = 10 * time.Second
	maxStatus      = 16 << 20 // bytes
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Category:  groupBroker,
		Usage:     "show a running broker's processes",
		UsageText: "gatehouse status [-c FILE | --runtime-dir DIR] [--json]",
		Description: "Asks the parent over its control socket, which is for root or for the user that runs\n" +
			"the broker. SANDBOX names what each process cannot get back: nnp (no new privileges),\n" +
			"nocaps (no capability in any set), seccomp (a system call filter), on every thread;\n" +
			"landlock with its ABI and netns (an empty network of its own); no-NAME for what this\n" +
			"kernel does not give; caps lists the capabilities that the process keeps.\n" +
			"MEMORY is the proportional set size: shared pages are divided among their users. The\n" +
			"binary is named by its SHA-256, several by who runs which; --json has for each process what\n" +
			"the parent knows it by: start time, inode of its pidfd, executable.",
		Flags:  brokerFlags(&cli.BoolFlag{Name: "json", Usage: "print everything as JSON"}),
		Action: p.status,
	}
}

func (p *program) status(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	dir, err := runtimeDir(c)
	if err != nil {
		return err
	}
	text, err := askStatus(dir)
	if err != nil {
		return err
	}
	var st parent.Status
	if err := json.Unmarshal(text, &st); err != nil {
		return fmt.Errorf("answer of the broker in %s: %w", dir, err)
	}
	if c.Bool("json") { // as it came: a newer broker may tell more than we know
		var b bytes.Buffer
		if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.env.Stdout, "%s\n", b.Bytes())
		return err
	}
	_, err = io.WriteString(p.env.Stdout, statusText(&st, time.Now(), paint{on: coloured(p.env.Stdout)}))
	return err
}

// runtimeDir is where the broker is that a command is about.
func runtimeDir(c *cli.Context) (string, error) {
	if dir := c.String("runtime-dir"); dir != "" {
		return dir, nil
	}
	cfg, _, err := parent.Find(c.String("config"))
	if err != nil {
		return "", err
	}
	return cfg.Effective().Privsep.RuntimeDir, nil
}

// askStatus gets the JSON from the parent.
func askStatus(dir string) ([]byte, error) {
	conn, err := askControl(dir, verbStatus, 0)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	text, err := io.ReadAll(io.LimitReader(conn, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("answer of the broker in %s: %w", dir, plain(err))
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("the broker in %s gave no answer: its log may say why", dir)
	}
	return text, nil
}

// askControl asks the parent for something.
func askControl(dir string, verb, about uint32) (net.Conn, error) {
	conn, err := dialControl(dir)
	if err != nil {
		return nil, err
	}
	frame := binary.LittleEndian.AppendUint32([]byte(controlMagic), verb)
	frame = binary.LittleEndian.AppendUint32(frame, about)
	err = conn.SetDeadline(time.Now().Add(controlTimeout))
	if err == nil {
		_, err = conn.Write(frame)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask the broker in %s: %w", dir, plain(err))
	}
	return conn, nil
}

// dialControl connects to a broker's parent.
func dialControl(dir string) (net.Conn, error) {
	conn, err := net.Dial("unix", filepath.Join(dir, controlSocket))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("no broker runs in %s: gatehouse serve starts one, -c or --runtime-dir names another", dir)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no broker runs in %s any more: gatehouse serve goes on with what is left of it", dir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the broker in %s answers root and its own user only", dir)
	case err != nil:
		return nil, fmt.Errorf("broker in %s: %w", dir, plain(err))
	}
	return conn, nil
}

// binaries names the executable that all processes run, or which run which one.
func binaries(ps []parent.Process) string {
	var sums []string
	of, some := map[string][]string{}, false
	for i := range ps {
		r := ps[i].Record
		switch {
		case r == nil:
			continue
		case r.SHA256 == "": // not read yet
			some = true
			continue
		case of[r.SHA256] == nil:
			sums = append(sums, r.SHA256)
		}
		of[r.SHA256] = append(of[r.SHA256], ps[i].Role)
	}
	var b strings.Builder
	for _, sum := range sums {
		b.WriteString("binary sha256 " + sum)
		if len(sums) > 1 || some {
			b.WriteString(" of " + strings.Join(of[sum], " "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// statusText is the page for people. now is given so that a test can hold it
// against a golden file.
func statusText(st *parent.Status, now time.Time, p paint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "broker %s in environment %s, version %s, up %s, pid %d%s\n",
		st.Broker, st.Environment, st.Version, age(now.Sub(st.Started)), st.PID, root(st.Root))
	b.WriteString(binaries(st.Processes))
	for _, l := range st.Listeners {
		fmt.Fprintf(&b, "listen %s\n", l)
	}
	for _, l := range st.Console {
		fmt.Fprintf(&b, "console %s\n", l)
	}
	if k := st.Key; k != nil {
		fmt.Fprintf(&b, "key %s, use %s, in %s, certificate %d of %q until %s, %d signatures\n",
			k.Algorithm, k.Use, k.Memory, k.Number, k.Subject, k.NotAfter.Format(time.DateOnly), k.Signatures)
	}
	if k := st.Transfer; k != nil {
		fmt.Fprintf(&b, "transfer key %s, in %s, %d tickets signed, %d refused\n", k.Algorithm, k.Memory, k.Signed, k.Refused)
	}
	if d := st.Directory; d != nil {
		fmt.Fprintf(&b, "directory %s, %s for %s, asked %d times, %d without an answer", strings.Join(d.URLs, " "), d.State, age(now.Sub(d.Since)), d.Asked, d.Failed)
		if d.LastError != "" {
			fmt.Fprintf(&b, ", last error %s", d.LastError)
		}
		b.WriteString("\n")
	}
	if k := st.Identity; k != nil {
		fmt.Fprintf(&b, "tlsd shows %q until %s, key in %s, %d signatures\n", k.Subject, k.NotAfter.Format(time.DateOnly), k.Memory, k.Signed)
	}
	if a := st.Audit; a != nil {
		fmt.Fprintf(&b, "audit log %s, %d lines, %d lost", a.To, a.Written, a.Lost)
		if a.Error != "" {
			b.WriteString(", " + p.bad("not written now: "+a.Error))
		}
		b.WriteString("\n")
	}
	for _, w := range st.Warnings {
		b.WriteString(p.odd("warning: "+w) + "\n")
	}
	for _, h := range st.NextStart {
		fmt.Fprintf(&b, "next start: %s = %s, %s until then\n", h.Key, h.File, h.Running)
	}
	t := newTable("ROLE", "PID", "UID", "STATE", "UP", "RESTARTS", "CONNS", "SUBS",
		"MSGS IN", "MSGS OUT", "IN", "OUT", "SLOW", "MEMORY", "THREADS", "SANDBOX")
	t.left(0, 3, 15)
	for i := range st.Processes {
		pr := &st.Processes[i]
		t.row(branch(st.Processes, i)+pr.Role, pr.PID, pr.UID, pr.State, age(now.Sub(pr.Started)), pr.Restarts,
			count(pr.Connections), count(pr.Subscriptions), count(pr.InMsgs), count(pr.OutMsgs),
			size(pr.InBytes), size(pr.OutBytes), count(pr.SlowConsumers), size(pr.Memory), pr.Threads, sandbox(pr))
		t.style(3, p.state(pr.State))
	}
	b.WriteString("\n" + t.String())
	if len(st.Arenas) > 0 {
		t = newTable("ARENA", "SIZE", "USED", "BODIES")
		t.left(0)
		for _, a := range st.Arenas {
			t.row(fmt.Sprintf("cm/%d", a.CM), size(a.Size), size(a.Used), count(a.Bodies))
		}
		b.WriteString("\n" + t.String())
	}
	shakes, used := newTable("TLS", "HANDSHAKES", "FAILED"), false
	shakes.left(0)
	for i := range st.Processes {
		if pr := &st.Processes[i]; pr.Handshakes+pr.NoHandshakes > 0 {
			used = true
			shakes.row(pr.Role, count(pr.Handshakes), count(pr.NoHandshakes))
		}
	}
	if used {
		b.WriteString("\n" + shakes.String())
	}
	b.WriteString(loginsText(st))
	if len(st.Offences) > 0 {
		t = newTable("REFUSED AND ENDED", "KIND", "REASON", "COUNT")
		t.left(0, 1, 2)
		for _, o := range st.Offences {
			t.row(o.Role, o.Kind, o.Reason, count(o.Count))
			t.style(2, p.offence())
		}
		b.WriteString("\n" + t.String())
	}
	return b.String()
}

// loginsText is the part about logins, if there are any to be had.
func loginsText(st *parent.Status) string {
	for i := range st.Processes {
		if pr := &st.Processes[i]; pr.Role == "auth" {
			t := newTable("LOGINS", "ACCEPTED", "REFUSED", "WAITING")
			t.left(0)
			t.row(pr.Role, count(pr.Logins), count(pr.NoLogins), count(pr.LoginsWait))
			return "\n" + t.String()
		}
	}
	return ""
}

func root(yes bool) string {
	if yes {
		return ", as root"
	}
	return ", without root"
}

// branch draws the tree: the parent, and everything else below it.
func branch(all []parent.Process, i int) string {
	switch {
	case all[i].Role == "parent":
		return ""
	case i == len(all)-1:
		return "└─ "
	default:
		return "├─ "
	}
}

func sandbox(p *parent.Process) string {
	var parts []string
	if p.NoNewPrivs {
		parts = append(parts, "nnp")
	}
	if p.NoCaps {
		parts = append(parts, "nocaps")
	}
	switch p.Seccomp {
	case 0:
	case 2:
		parts = append(parts, "seccomp")
	case -1:
		parts = append(parts, "seccomp on some threads only")
	default:
		parts = append(parts, fmt.Sprintf("seccomp mode %d", p.Seccomp))
	}
	if p.Landlock > 0 {
		parts = append(parts, fmt.Sprintf("landlock:%d", p.Landlock))
	}
	if p.OwnNetwork {
		parts = append(parts, "netns")
	}
	if len(p.Capabilities) > 0 {
		parts = append(parts, "caps:"+strings.Join(p.Capabilities, ","))
	}
	for _, name := range p.Missing {
		parts = append(parts, "no-"+strings.ReplaceAll(name, " ", "-"))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}
