package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"gatehouse/roles/parent"
)

// Env is what main gives to the command line. Streams left nil are those of
// the process.
type Env struct {
	Version string
	// Serve runs the broker until it is told to stop. source names where cfg
	// came from.
	Serve func(cfg *parent.Config, source string) error
	// Debug runs one role alone, in the foreground.
	Debug func(role string) error

	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exit codes of Main.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// usageError is a command that was typed wrongly.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// misuse is a usageError that says where help is.
func misuse(c *cli.Context, format string, args ...any) error {
	name := "gatehouse"
	text := fmt.Sprintf(format, args...)
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		name = cmp.Or(c.Command.HelpName, name+" "+c.Command.Name)
		text = strings.TrimPrefix(name, "gatehouse ") + ": " + text
	}
	return &usageError{text + " (see " + name + " --help)"}
}

// program holds the commands' actions.
type program struct{ env Env }

// Main runs the command that args (os.Args) name and returns the exit code.
func Main(args []string, env Env) int {
	if env.Stdin == nil {
		env.Stdin = os.Stdin
	}
	if env.Stdout == nil {
		env.Stdout = os.Stdout
	}
	if env.Stderr == nil {
		env.Stderr = os.Stderr
	}
	p := &program{env}
	app := p.app()
	if len(args) > 1 && args[len(args)-1] != completionFlag {
		args = arrangeAll(app, args)
	}
	err := app.Run(args)
	if err == nil {
		return ExitOK
	}
	p.complain(err)
	var usage *usageError
	var exit cli.ExitCoder // the library's own: help for something that is not there
	if errors.As(err, &usage) || errors.As(err, &exit) {
		return ExitUsage
	}
	return ExitFailed
}

// completionFlag, at the end, is how a shell asks what could stand there.
const completionFlag = "--generate-bash-completion"

// complain writes an error, whatever is in it, on one line.
func (p *program) complain(err error) {
	fmt.Fprintf(p.env.Stderr, "gatehouse: %s\n", oneLine(err.Error()))
}

// oneLine has spaces for control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

func (p *program) app() *cli.App {
	cli.VersionPrinter = p.version
	app := &cli.App{
		Name:      "gatehouse",
		HelpName:  "gatehouse",
		Usage:     "a NATS-compatible message broker of many small processes",
		UsageText: "gatehouse COMMAND [options] [arguments]",
		Description: "gatehouse serve runs a broker; with nothing configured it listens on\n" +
			"127.0.0.1:4222. The client commands talk to it, or to any NATS server.\n\n" +
			"Exit codes: 0 it worked, 1 it did not, 2 the command was typed wrongly.",
		Version:                   p.env.Version,
		Reader:                    p.env.Stdin,
		Writer:                    p.env.Stdout,
		ErrWriter:                 p.env.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main does it
		DisableSliceFlagSeparator: true,                         // a header may hold commas
		EnableBashCompletion:      true,
		Action:                    noCommand,
		Commands: []*cli.Command{
			p.serveCommand(), p.checkCommand(), p.statusCommand(), p.topCommand(), p.connsCommand(), p.kickCommand(), p.restartCommand(), p.upgradeCommand(), p.tlsCommand(), p.keyCommand(), p.passwdCommand(), p.loginCommand(),
			p.pubCommand(), p.subCommand(), p.requestCommand(), p.replyCommand(), p.benchCommand(),
			p.roleCommand("dispatcher", "accepts connections and picks a connection manager", debugDispatcher),
			p.roleCommand("cm", "keeps client connections and speaks the client protocol", debugCM),
			p.roleCommand("router", "keeps sessions and subscriptions and routes every message", debugRouter),
			p.roleCommand("auth", "checks who a client is", debugAuth),
			p.roleCommand("tlsd", "keeps TLS sessions that local processes share", debugTLSD),
			p.roleCommand("console", "shows how the broker is, by HTTP", debugConsole),
			p.versionCommand(),
		},
	}
	usage := func(c *cli.Context, err error, _ bool) error { return misuse(c, "%v", err) }
	app.OnUsageError = usage
	dress(app.Commands, usage)
	return app
}

// dress gives all commands the same manners.
func dress(commands []*cli.Command, usage cli.OnUsageErrorFunc) {
	for _, c := range commands {
		c.OnUsageError = usage
		c.HideHelpCommand = true // "help" is a subject like any other
		c.CustomHelpTemplate = commandHelp
		if len(c.Subcommands) > 0 {
			c.CustomHelpTemplate = groupHelp
		}
		quietBools(c.Flags)
		dress(c.Subcommands, usage)
	}
}

func noCommand(c *cli.Context) error {
	if c.Args().Present() {
		return misuse(c, "there is no command %q", c.Args().First())
	}
	return misuse(c, "no command given")
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Category:  groupBroker,
		Usage:     "print the version",
		UsageText: "gatehouse version",
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			p.version(c)
			return nil
		},
	}
}

func (p *program) version(*cli.Context) {
	fmt.Fprintf(p.env.Stdout, "gatehouse %s\n", p.env.Version)
}

// arguments checks how many arguments stand after the flags. names say what is
// missing.
func arguments(c *cli.Context, least, most int, names ...string) error {
	switch n := c.NArg(); {
	case n < least:
		return misuse(c, "%s is missing", names[n])
	case n > most:
		return misuse(c, "%q is one argument too many", c.Args().Get(most))
	}
	return nil
}

// atLeast checks numbers that have a lower bound.
func atLeast(c *cli.Context, least int, flags ...string) error {
	for _, name := range flags {
		if c.Int(name) < least {
			return misuse(c, "--%s is %d, the least is %d", name, c.Int(name), least)
		}
	}
	return nil
}

// positive checks durations that cannot be zero.
func positive(c *cli.Context, flags ...string) error {
	for _, name := range flags {
		if c.Duration(name) <= 0 {
			return misuse(c, "--%s must be more than zero", name)
		}
	}
	return nil
}

// arrangeAll arranges what follows the names of command and subcommand.
func arrangeAll(app *cli.App, args []string) []string {
	c, n := app.Command(args[1]), 2
	if c != nil && len(c.Subcommands) > 0 && len(args) > 2 {
		c, n = subcommand(c, args[2]), 3
	}
	if c == nil || len(c.Subcommands) > 0 {
		return args
	}
	return append(args[:n:n], arrange(c.Flags, args[n:])...)
}

func subcommand(c *cli.Command, name string) *cli.Command {
	for _, s := range c.Subcommands {
		if s.HasName(name) {
			return s
		}
	}
	return nil
}

// arrange puts flags before arguments: the flag package stops at the first
// argument, people do not.
func arrange(flags []cli.Flag, args []string) []string {
	var front, rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			continue
		}
		front = append(front, a)
		if takesValue(flags, strings.TrimLeft(a, "-")) && i+1 < len(args) {
			i++
			front = append(front, args[i])
		}
	}
	return append(append(front, "--"), rest...)
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		if _, isBool := f.(*cli.BoolFlag); isBool {
			continue
		}
		for _, n := range f.Names() {
			if n == name {
				return true
			}
		}
	}
	return false
}

// interruptible ends with the first SIGINT or SIGTERM.
func interruptible(c *cli.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
}

// isTerminal tells whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
