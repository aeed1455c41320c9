package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

const (
	groupBroker = "Broker"
	groupClient = "Client"
	groupRole   = "Single roles, for debugging"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, TakesFile: true,
		Usage: "configuration `FILE`; without it " + parent.DefaultPath + " or, where that is missing, built-in defaults",
	}
}

func (p *program) serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Category:  groupBroker,
		Usage:     "run a broker in the foreground",
		UsageText: "gatehouse serve [-c FILE]",
		Description: "Starts the parent, which starts the dispatcher, the connection managers, the router\n" +
			"and, where clients must log in, auth as processes of their own, and runs until SIGTERM\n" +
			"or SIGINT. As root every process gets its own uid; without root all of it works except\n" +
			"that. SIGHUP reads the configuration, certificates and key again: all of it holds at\n" +
			"once, or nothing. broker.toml(5) explains every option.",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			cfg, source, err := parent.Find(c.String("config"))
			if err != nil {
				return parent.Refuse(err)
			}
			return p.env.Serve(cfg, source)
		},
	}
}

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Category:  groupBroker,
		Usage:     "check a configuration without starting anything",
		UsageText: "gatehouse check [-c FILE] [--print]",
		Description: "Reads the configuration as serve would and says what would be listened on. A\n" +
			"mistake is one line with file, line and option, and exit code 1. So is one in a\n" +
			"file that it names: certificates, keys, secrets; as root all of them.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "print", Usage: "print the configuration that results, defaults filled in, as TOML"},
		},
		Action: p.check,
	}
}

func (p *program) check(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, source, err := parent.Find(c.String("config"))
	if err != nil {
		return err
	}
	if text := cfg.Exposed(source); text != "" {
		fmt.Fprintf(p.env.Stderr, "gatehouse: advice: %s\n", oneLine(text))
	}
	e := cfg.Effective()
	for _, check := range []func(*parent.Config, string) error{parent.CheckFiles, parent.CheckAudit} {
		if err := check(e, source); err != nil {
			return err
		}
	}
	if c.Bool("print") {
		text, err := e.TOML()
		if err != nil {
			return err
		}
		_, err = p.env.Stdout.Write(text)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "OK %s\n", source)
	fmt.Fprintf(&b, "broker %s in environment %s, %d x cm, runtime directory %s\n",
		e.Environment.Broker, e.Environment.Name, e.CM.Count, e.Privsep.RuntimeDir)
	for _, addr := range e.Listen.TCP {
		fmt.Fprintf(&b, "listen tcp %s\n", addr)
	}
	for _, addr := range e.Listen.TLS {
		fmt.Fprintf(&b, "listen tls %s\n", addr)
	}
	for _, path := range e.Listen.Unix {
		fmt.Fprintf(&b, "listen unix %s\n", path)
	}
	if e.TLSD.Socket != "" {
		fmt.Fprintf(&b, "tlsd unix %s\n", e.TLSD.Socket)
	}
	for _, addr := range e.Console.TCP {
		fmt.Fprintf(&b, "console tcp %s\n", addr)
	}
	if e.Console.Unix != "" {
		fmt.Fprintf(&b, "console unix %s\n", e.Console.Unix)
	}
	_, err = fmt.Fprint(p.env.Stdout, b.String())
	return err
}

func (p *program) roleCommand(name, usage, description string) *cli.Command {
	return &cli.Command{
		Name:        name,
		Category:    groupRole,
		Usage:       usage,
		UsageText:   "gatehouse " + name + " --debug",
		Description: description,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "debug", Usage: "run this role alone against stand-ins"},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			if !c.Bool("debug") {
				return misuse(c, "this role is started by gatehouse serve and has inherited no channel from it; --debug runs it alone")
			}
			return p.env.Debug(name)
		},
	}
}
