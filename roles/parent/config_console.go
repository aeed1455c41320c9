package parent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"gatehouse/privsep"
)

// ConsoleConfig is where the broker can be watched by HTTP. Without Unix and TCP there is
// no console.
type ConsoleConfig struct {
	Unix   string   `toml:"unix"` // for root and whoever runs the broker; not absolute: in the runtime directory
	TCP    []string `toml:"tcp"`  // ParseListen reads them
	Remote bool     `toml:"remote"`
	Names  []string `toml:"names"` // hosts in URLs, beside those that are no name
}

const consoleSocket = "console.sock"

func (c *ConsoleConfig) effective(runDir string) ConsoleConfig {
	return ConsoleConfig{Unix: c.path(runDir), TCP: canonical(c.TCP), Remote: c.Remote, Names: slices.Clone(c.Names)}
}

func (c *ConsoleConfig) path(runDir string) string {
	if c.Unix == "" || filepath.IsAbs(c.Unix) {
		return c.Unix
	}
	return filepath.Join(runDir, c.Unix)
}

// far says that others can watch, "" if they cannot.
func (c *ConsoleConfig) far() string {
	for _, addr := range c.TCP {
		if ap, err := ParseListen(addr); err == nil && !ap.Addr().Unmap().IsLoopback() {
			return "whoever reaches " + show(addr) + " sees who is connected and what the broker does: console.tcp asks nobody who he is"
		}
	}
	return ""
}

// watched tells whether there is to be a console. A tlsd that runs alone has none.
func (c *Config) watched() bool {
	return !c.alone() && (c.Console.Unix != "" || len(c.Console.TCP) > 0)
}

// listeners are those of an effective configuration, none open.
func (c *ConsoleConfig) listeners() (list []bound) {
	for _, a := range c.TCP {
		list = append(list, bound{network: privsep.NetConsole, asked: a, fd: -1, fresh: true})
	}
	if c.Unix != "" {
		list = append(list, bound{network: privsep.NetConsoleUnix, asked: c.Unix, path: c.Unix, fd: -1, fresh: true})
	}
	return list
}

func (c *Config) checkConsole() (faults []fault) {
	w := &c.Console
	add := func(text string, keys ...string) {
		if text != "" {
			faults = append(faults, fault{text, keys})
		}
	}
	if w.Unix != "" {
		path := w.path(absolute(runtimeDir(c.Privsep.RuntimeDir, 0)))
		text := checkPath(path)
		for _, other := range append(slices.Clone(c.Listen.Unix), c.TLSD.Socket) {
			if other != "" && absolute(other) == path {
				text = show(w.Unix) + " is a socket for others, too"
			}
		}
		add(text, "console.unix", "privsep.runtime_dir")
	}
	for _, addr := range w.TCP {
		ap, err := ParseListen(addr)
		switch {
		case err != nil:
			add(err.Error(), "console.tcp")
		case !w.Remote && !ap.Addr().Unmap().IsLoopback():
			add(show(addr)+" is not a loopback address, and who reaches it sees everything: listen on 127.0.0.1, or allow it with console.remote = true", "console.tcp")
		}
	}
	add(c.consoleTwice(), "console.tcp")
	add(checkList(w.Names, checkHost), "console.names")
	if n := len(w.Names); n > privsep.MaxConsoleNames {
		add(fmt.Sprintf("are more than %d", privsep.MaxConsoleNames), "console.names")
	}
	return faults
}

// consoleTwice says which address is that of another listener, too.
func (c *Config) consoleTwice() string {
	seen := map[string]bool{}
	for _, addr := range slices.Concat(c.Listen.TCP, c.Listen.TLS, c.Console.TCP) {
		ap, err := ParseListen(addr)
		if err != nil || ap.Port() == 0 {
			continue
		}
		if seen[ap.String()] && slices.Contains(c.Console.TCP, addr) {
			return show(addr) + " is there twice"
		}
		seen[ap.String()] = true
	}
	return ""
}

// checkHost allows what a URL has for a host that is a name.
func checkHost(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > privsep.MaxConsoleName:
		return fmt.Sprintf("is longer than %d bytes", privsep.MaxConsoleName)
	case strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._", r)
	}):
		return show(s) + " is not the name of a host"
	}
	return ""
}
