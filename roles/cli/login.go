package cli

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/roles/auth"
	"gatehouse/roles/parent"
)

func (p *program) loginCommand() *cli.Command {
	return &cli.Command{
		Name:     "login",
		Category: groupBroker,
		Usage:    "say whether a client would be let in, and as whom",
		UsageText: "gatehouse login [--explain] [-c FILE] --user NAME [--ask|--stdin]\n" +
			"gatehouse login [--explain] [-c FILE] --token [--ask|--stdin]\n" +
			"gatehouse login [--explain] [-c FILE] --nkey KEY\n" +
			"gatehouse login [--explain] [-c FILE] --cert FILE [--user NAME]\n" +
			"gatehouse login [--explain] [-c FILE] --ticket-from ENVIRONMENT --user NAME\n" +
			"gatehouse login [--explain] [-c FILE] --pid N\n" +
			"gatehouse login [--explain] [-c FILE] [--uid UID] [--gid GID] [--executable PATH]",
		Description: "Reads the configuration and the files that it names, as serve would, and says what a\n" +
			"broker with it would decide of one client: exit code 0 if it is let in, 1 if not. No\n" +
			"broker is asked. With --explain each question is a line, with the reason that the log\n" +
			"of a broker would have, and then what the client may do. What only the client has, a\n" +
			"password or a signature, is taken for right (\"if\"), unless it is asked for.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "explain", Usage: "say why, step by step, and what the client may do"},
			&cli.StringFlag{Name: "user", Usage: "`NAME` that the client logs in by"},
			&cli.BoolFlag{Name: "token", Usage: "it logs in by the token"},
			&cli.BoolFlag{Name: "ask", Usage: "ask for its password or token on the terminal"},
			&cli.BoolFlag{Name: "stdin", Usage: "they are the first line of standard input"},
			&cli.StringFlag{Name: "nkey", Usage: "public nkey `KEY` of the client"},
			&cli.StringFlag{Name: "cert", TakesFile: true, Usage: "PEM `FILE` of its certificate, behind which are those that vouch for it"},
			&cli.StringFlag{Name: "ticket-from", Usage: "it has a ticket of that `ENVIRONMENT`"},
			&cli.StringFlag{Name: "organisation", Usage: "`ORGANISATION` in the ticket; without it that of the user here"},
			&cli.IntFlag{Name: "pid", Usage: "it is process `N`, as it is now, at a Unix socket", DefaultText: "none"},
			&cli.StringFlag{Name: "uid", Usage: "it is a process of user `UID`, name or number, at a Unix socket"},
			&cli.StringFlag{Name: "gid", Usage: "and of group `GID`"},
			&cli.StringFlag{Name: "executable", TakesFile: true, Usage: "and runs the file at `PATH`"},
		},
		Action: p.login,
	}
}

func (p *program) login(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	kind, err := claimedKind(c)
	if err != nil {
		return err
	}
	cfg, source, err := parent.Find(c.String("config"))
	if err != nil {
		return err
	}
	cfg = cfg.Effective()
	facts, err := factsOf(cfg)
	if err != nil {
		return err
	}
	claim, err := p.claim(c, cfg, kind)
	if err != nil {
		return err
	}
	defer clear(claim.Secret)
	var out strings.Builder
	show := &out
	if !c.Bool("explain") {
		show = new(strings.Builder) // nobody wants it
	}
	fmt.Fprintf(show, "configuration  %s\nenvironment    %s\n", source, cfg.Environment.Name)
	profile, known, err := decide(show, &out, cfg, facts, claim)
	if known {
		showProfile(show, cfg, profile)
	}
	if _, werr := io.WriteString(p.env.Stdout, out.String()); werr != nil {
		return werr
	}
	return err
}

// ways are the flags that say how a client logs in: one of them does.
var ways = []struct {
	flag string
	kind privsep.Credential
}{
	{"ticket-from", privsep.CredentialTransfer}, {"cert", privsep.CredentialX509}, {"nkey", privsep.CredentialNKey},
	{"token", privsep.CredentialToken}, {"pid", privsep.CredentialProcess}, {"uid", privsep.CredentialProcess},
	{"gid", privsep.CredentialProcess}, {"executable", privsep.CredentialProcess}, {"user", privsep.CredentialPassword},
}

// claimedKind is what the flags say that the client shows.
func claimedKind(c *cli.Context) (kind privsep.Credential, err error) {
	first := ""
	for _, w := range ways {
		if !c.IsSet(w.flag) || w.flag == "user" && (kind == privsep.CredentialTransfer || kind == privsep.CredentialX509) {
			continue
		}
		if kind != privsep.CredentialNone && (kind != w.kind || first == "pid") {
			return 0, misuse(c, "--%s and --%s are two ways to log in", first, w.flag)
		}
		if first == "" {
			first = w.flag
		}
		kind = w.kind
	}
	secret := kind == privsep.CredentialPassword || kind == privsep.CredentialToken
	switch {
	case c.Bool("ask") && c.Bool("stdin"):
		return 0, misuse(c, "--ask and --stdin are two places for one secret")
	case (c.Bool("ask") || c.Bool("stdin")) && !secret:
		return 0, misuse(c, "--ask and --stdin go with --user or --token")
	case kind == privsep.CredentialTransfer && !c.IsSet("user"):
		return 0, misuse(c, "--ticket-from needs --user")
	case c.IsSet("organisation") && kind != privsep.CredentialTransfer:
		return 0, misuse(c, "--organisation goes with --ticket-from")
	}
	return kind, nil
}

func factsOf(cfg *parent.Config) (*auth.Facts, error) {
	l, err := cfg.Logins()
	if err != nil {
		return nil, err
	}
	return &auth.Facts{Environment: cfg.Environment.Name, Kinds: l.Kinds, Users: l.Users, Issuers: l.Issuers, Approval: l.Approval,
		Directory: l.Directory, LooksUp: l.LooksUp}, nil
}

// claim gathers what the client would show.
func (p *program) claim(c *cli.Context, cfg *parent.Config, kind privsep.Credential) (*auth.Claim, error) {
	m := &auth.Claim{Kind: kind, User: c.String("user"), NKey: c.String("nkey"), Issuer: c.String("ticket-from"), Organisation: c.String("organisation")}
	var err error
	switch kind {
	case privsep.CredentialPassword, privsep.CredentialToken:
		m.Secret, err = p.secretOf(c)
	case privsep.CredentialX509:
		m.Chain, err = readChain(c.String("cert"))
	case privsep.CredentialProcess:
		if c.IsSet("pid") {
			m.Process, m.Sight, m.Content, err = cfg.Inspect(c.Int("pid"))
			break
		}
		var uid, gid uint32
		if uid, gid, err = parent.IDs(parent.Account(c.String("uid")), parent.Account(c.String("gid"))); err == nil {
			m.Process, m.Sight, m.Content, err = cfg.Imagine(uid, gid, c.String("executable"))
		}
	}
	return m, err
}

// secretOf gets the client's secret, nil if nobody wants to be asked.
func (p *program) secretOf(c *cli.Context) ([]byte, error) {
	if !c.Bool("ask") && !c.Bool("stdin") {
		return nil, nil
	}
	if _, err := custody.Harden(); err != nil { // what is missing is missing everywhere
		return nil, err
	}
	if c.Bool("stdin") {
		return p.password(true)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("no terminal to ask on: --stdin")
	}
	defer tty.Close()
	return askSecret(tty, "Password or token: ")
}

// readChain reads the certificates of a file, as DER.
func readChain(path string) (der []byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		der = append(der, block.Bytes...)
	}
	if len(der) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return der, nil
}

// decide writes the steps into show and what becomes of it into out, and gives the
// client's profile, if that is known. An error says that it is refused.
func decide(show, out *strings.Builder, cfg *parent.Config, facts *auth.Facts, claim *auth.Claim) (profile string, known bool, err error) {
	if facts.Kinds == 0 {
		fmt.Fprintf(show, "yes  nobody needs to log in\n")
		fmt.Fprintf(out, "accepted without being asked who it is%s\n", as("", cfg.Listen.Profile))
		return cfg.Listen.Profile, true, nil
	}
	fmt.Fprintf(show, "yes  everybody must log in, by %s\n", strings.Join(facts.Kinds.Names(), ", "))
	x, err := auth.Explain(facts, claim)
	if err != nil {
		return "", false, err
	}
	for _, name := range x.Names {
		fmt.Fprintf(show, "     %s\n", oneLine(name))
	}
	if claim.Kind == privsep.CredentialProcess {
		fmt.Fprintf(show, "     uid %d, gid %d, executable %s\n", claim.Process.UID, claim.Process.GID, oneLine(orNone(claim.Sight.Link)))
	}
	for _, s := range x.Steps {
		mark := "no "
		switch {
		case s.Assumed:
			mark = "if "
		case s.Yes:
			mark = "yes"
		}
		fmt.Fprintf(show, "%s  %s", mark, oneLine(s.Question))
		if !s.Yes {
			fmt.Fprintf(show, ": %v", s.Reason)
		}
		fmt.Fprintln(show)
	}
	if x.Err != nil {
		fmt.Fprintf(show, "     %s\n", oneLine(x.Err.Error()))
	}
	if x.Reason != privsep.ReasonNone {
		return "", false, fmt.Errorf("refused: %v", x.Reason)
	}
	who := "accepted"
	if x.User != "" {
		who += " as user " + x.User
	}
	if x.Directory {
		fmt.Fprintf(out, "%s, if the directory says so, which knows organisation and profile\n", who)
		return "", false, nil
	}
	fmt.Fprintf(out, "%s%s\n", who, as(x.Organisation, x.Profile))
	return x.Profile, true, nil
}

func as(organisation, profile string) (text string) {
	if organisation != "" {
		text += ", organisation " + organisation
	}
	if profile == "" {
		return text + ", without a profile"
	}
	return text + ", profile " + profile
}

func orNone(s string) string {
	if s == "" {
		return "not looked at"
	}
	return s
}
