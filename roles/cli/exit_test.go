package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// leaves gives the words of each command that does something.
func leaves(before []string, commands []*cli.Command) (all [][]string) {
	for _, c := range commands {
		words := append(slices.Clone(before), c.Name)
		if len(c.Subcommands) > 0 {
			all = append(all, leaves(words, c.Subcommands)...)
		} else {
			all = append(all, words)
		}
	}
	return all
}

// gatehouse(8) has the exit codes that there are.
func TestManualHoldsTheExitCodes(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(manuals, "gatehouse.8"))
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(b), "\n.Sh EXIT STATUS\n")
	page, _, _ = strings.Cut(page, "\n.Sh ")
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\.It (\S+)$`).FindAllStringSubmatch(page, -1) {
		got = append(got, m[1])
	}
	if want := []string{fmt.Sprint(ExitOK), fmt.Sprint(ExitFailed), fmt.Sprint(ExitUsage)}; !slices.Equal(got, want) {
		t.Errorf("gatehouse(8) has %q, there are %q", got, want)
	}
}

// Whatever the command is, help is no mistake, what is typed wrongly is 2, and an error is
// one line that says where help is.
func TestExitCodes(t *testing.T) {
	for _, words := range leaves(nil, (&program{}).app().Commands) {
		if code, stdout, stderr := call(Env{}, append(slices.Clone(words), "--help")...); code != ExitOK || stdout == "" || stderr != "" {
			t.Errorf("%s --help: code %d, %q", words, code, stderr)
		}
		for _, wrong := range []string{"--no-such-flag", "-%"} {
			code, stdout, stderr := call(Env{}, append(slices.Clone(words), wrong)...)
			if code != ExitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "(see gatehouse "+strings.Join(words, " ")+" --help)\n") {
				t.Errorf("%s %s: code %d, %q%q", words, wrong, code, stdout, stderr)
			}
		}
	}
}

// What needs a broker and finds none, or a file that is not there, is 1, and the error
// says what it was about.
func TestExitCodesWithoutABroker(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{
		"status --runtime-dir DIR", "top --runtime-dir DIR", "conns --runtime-dir DIR", "kick 7 --runtime-dir DIR", "kick --user alice --runtime-dir DIR",
		"restart router --runtime-dir DIR", "restart all --runtime-dir DIR", "upgrade --runtime-dir DIR", "serve -c DIR/none", "check -c DIR/none",
		"status -c DIR/none", "top -c DIR/none", "conns -c DIR/none", "kick 7 -c DIR/none", "restart router -c DIR/none", "upgrade -c DIR/none",
		"tls list --socket DIR/none", "tls close a --socket DIR/none", "key inspect DIR/none", "login -c DIR/none",
		"pub -s unix://DIR/none a", "sub -s unix://DIR/none a", "request -s unix://DIR/none a b", "reply -s unix://DIR/none --echo a", "bench -s unix://DIR/none",
	} {
		code, stdout, stderr := call(Env{Stdin: strings.NewReader("")}, strings.Fields(strings.ReplaceAll(line, "DIR", dir))...)
		if code != ExitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, dir) {
			t.Errorf("%s: code %d, %q%q", line, code, stdout, stderr)
		}
	}
}

func TestExitCodeOfNoCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"tls"}, {"tls", "nonsense"}, {"key"}, {"help", "nonsense"}} {
		if code, _, stderr := call(Env{}, args...); code != ExitUsage || stderr == "" {
			t.Errorf("%q: code %d, %q", args, code, stderr)
		}
	}
	if code, stdout, _ := call(Env{}, "--version"); code != ExitOK || stdout != "gatehouse test\n" {
		t.Errorf("code %d, %q", code, stdout)
	}
}
