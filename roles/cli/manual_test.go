package cli

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

const manuals = "../../packaging/man"

// How gatehouse(8) begins a command, or several alike, and an option.
var (
	manualCommand = regexp.MustCompile(`^\.It Cm ([a-z |]+?)(?: [A-Z][a-z] .*)?$`)
	manualFlag    = regexp.MustCompile(`\bFl -([a-z-]+)`)
)

// manualCommands gives the options of each command in gatehouse(8), and under the name of
// a group those that all of its commands have.
func manualCommands(t *testing.T) map[string][]string {
	b, err := os.ReadFile(filepath.Join(manuals, "gatehouse.8"))
	if err != nil {
		t.Fatal(err)
	}
	page, names := map[string][]string{}, []string(nil)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, ".Sh ") || strings.HasPrefix(line, ".Ss ") {
			names = nil
			if line == ".Ss Commands for a client" {
				names = []string{groupClient}
			}
		}
		if m := manualCommand.FindStringSubmatch(line); m != nil {
			names = strings.Split(m[1], " | ")
		}
		for _, name := range names {
			page[name] = append(page[name], "help")
			if !strings.HasPrefix(line, ".It ") {
				continue
			}
			for _, m := range manualFlag.FindAllStringSubmatch(line, -1) {
				page[name] = append(page[name], m[1])
			}
		}
	}
	return page
}

// commandFlags gives the long options of each command that there is.
func commandFlags(prefix string, commands []*cli.Command, shared map[string][]string) map[string][]string {
	all := map[string][]string{}
	for _, c := range commands {
		if len(c.Subcommands) > 0 {
			maps.Copy(all, commandFlags(c.Name+" ", c.Subcommands, shared))
			continue
		}
		flags := []string{"help"}
		for _, f := range c.Flags {
			if name := f.Names()[0]; !slices.Contains(shared[c.Category], name) {
				flags = append(flags, name)
			}
		}
		all[prefix+c.Name] = flags
	}
	return all
}

// The manual page has the commands that there are, and the options of each.
func TestManualHoldsEveryCommand(t *testing.T) {
	page := manualCommands(t)
	shared := map[string][]string{groupClient: page[groupClient]}
	delete(page, groupClient)
	commands := commandFlags("", (&program{}).app().Commands, shared)
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if have, want := sortedSet(page[name]), sortedSet(commands[name]); !slices.Equal(have, want) {
			t.Errorf("gatehouse(8) has for %s %q, which has %q", name, have, want)
		}
		delete(page, name)
	}
	for name := range page {
		t.Errorf("gatehouse(8) has a command %q, which there is not", name)
	}
	for _, f := range connectFlags() {
		if !slices.Contains(shared[groupClient], f.Names()[0]) {
			t.Errorf("gatehouse(8) has no --%s for clients", f.Names()[0])
		}
	}
}

func sortedSet(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// otherPages are of other programs, which may be missing where this runs.
var otherPages = regexp.MustCompile(`referenced manual not found: Xr (openssl|systemd|sd_notify|curl|ld\.so)\b`)

func TestManualPagesAreClean(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip("no mandoc to check the manual pages with")
	}
	// Its code is by the worst that it has found, from 5 on that it could not look.
	cmd := exec.Command("mandoc", "-T", "lint", "gatehouse.8", "broker.toml.5", "gatehouse-protocol.7", "gatehouse-preload.7")
	cmd.Dir = manuals // it looks there, too, for pages that others name
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() >= 5 {
		t.Fatalf("mandoc: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if !otherPages.MatchString(line) {
			t.Error(strings.TrimSpace(line))
		}
	}
}
