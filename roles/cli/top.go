package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// topKeys are the keys that sort, by what they sort.
var topKeys = []struct {
	key  byte
	sort string
}{
	{'c', "cid"}, {'s', "subs"}, {'p', "pending"}, {'i', "msgs_from"}, {'o', "msgs_to"}, {'I', "bytes_from"}, {'O', "bytes_to"},
	{'l', "last"}, {'d', "idle"}, {'u', "uptime"},
}

func (p *program) topCommand() *cli.Command {
	return &cli.Command{
		Name:      "top",
		Category:  groupBroker,
		Usage:     "watch a running broker",
		UsageText: "gatehouse top [-c FILE | --runtime-dir DIR] [--interval TIME] [--sort ORDER] [--limit N]",
		Description: "Shows processes and connections with rates, again and again. Asks the console over its\n" +
			"Unix socket, which is for root or for the user that runs the broker. Keys: q quits, space\n" +
			"stops and goes on, " + keysText() + " sort the connections.\n" +
			"Where it does not write to a terminal it prints once, plain, after one interval.",
		Flags: brokerFlags(
			&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "look again after this `TIME`"},
			&cli.StringFlag{Name: "sort", Value: "msgs_from", Usage: "connections in this `ORDER`: as conns has them"},
			&cli.IntFlag{Name: "limit", Value: 100, Usage: "`N` connections at most"},
		),
		Action: p.top,
	}
}

func keysText() string {
	var parts []string
	for _, k := range topKeys {
		parts = append(parts, string(k.key)+" "+k.sort)
	}
	return strings.Join(parts, ", ")
}

func (p *program) top(c *cli.Context) error {
	if err := errors.Join(arguments(c, 0, 0), checkSort(c), atLeast(c, 1, "limit"), positive(c, "interval")); err != nil {
		return err
	}
	path, err := consolePath(c)
	if err != nil {
		return err
	}
	ctx, cancel := interruptible(c)
	defer cancel()
	t := &top{watcher: newWatcher(path), sort: c.String("sort"), limit: c.Int("limit"), every: c.Duration("interval")}
	defer t.watcher.close()
	if isTerminal(p.env.Stdout) && isTerminal(p.env.Stdin) {
		return t.onTerminal(ctx, p.env.Stdin.(*os.File), p.env.Stdout.(*os.File))
	}
	return t.once(ctx, p.env.Stdout)
}

// top is what is shown and what of.
type top struct {
	watcher *watcher
	sort    string
	limit   int
	every   time.Duration
	last    *sample // nil: none yet
	before  *sample // nil: there are no rates yet
	lost    error   // why there was none since
	paused  bool
}

// look takes a sample.
func (t *top) look(ctx context.Context) error {
	s, err := takeSample(ctx, t.watcher, t.sort, t.limit)
	if t.lost = err; err == nil {
		t.before, t.last = t.last, s
	}
	return err
}

// once prints one page, with rates since a first look.
func (t *top) once(ctx context.Context, out io.Writer) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(t.every):
	case <-ctx.Done():
		return nil
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	_, err := io.WriteString(out, strings.Join(t.page(paint{}), "\n")+"\n")
	return err
}

// What a terminal is told: another screen without cursor and line breaks of its own, and
// back; from the upper left corner on; the rest of a line, and of the screen, is empty.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	screenOff = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	screenTop = "\x1b[H"
	lineEnd   = "\x1b[K\r\n"
	rest      = "\x1b[J"
)

// onTerminal shows page after page until q, a signal, or the end of what can be read.
func (t *top) onTerminal(ctx context.Context, in, out *os.File) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer term.Restore(int(in.Fd()), old)
	io.WriteString(out, screenOn)
	defer io.WriteString(out, screenOff)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	keys := readKeys(in)
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		if err := t.draw(out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case <-tick.C:
			if !t.paused {
				t.look(ctx) // what is wrong is shown
			}
		case k, more := <-keys:
			if !more || !t.press(ctx, k) {
				return nil
			}
		}
	}
}

// readKeys gives what is pressed; what follows an escape is no key of ours.
func readKeys(in io.Reader) <-chan byte {
	keys := make(chan byte)
	go func() {
		defer close(keys)
		for b := make([]byte, 64); ; {
			n, err := in.Read(b)
			for _, k := range b[:n] {
				if k == 0x1b {
					break
				}
				keys <- k
			}
			if err != nil {
				return
			}
		}
	}()
	return keys
}

const (
	ctrlC = 3
	ctrlD = 4
)

// press does what a key is for, and tells whether to go on.
func (t *top) press(ctx context.Context, key byte) bool {
	switch key {
	case 'q', 'Q', ctrlC, ctrlD:
		return false
	case ' ':
		t.paused = !t.paused
	}
	for _, k := range topKeys {
		if k.key == key && k.sort != t.sort {
			t.sort = k.sort
			before := t.before
			if t.look(ctx) == nil && before != nil {
				t.before = before // rates over a moment are none
			}
		}
	}
	return true
}

// draw shows what fits.
func (t *top) draw(out *os.File) error {
	_, height, err := term.GetSize(int(out.Fd()))
	if err != nil || height < 2 {
		height = 24
	}
	lines := t.page(paint{on: coloured(out)})
	lines = lines[:min(len(lines), height-1)]
	foot := "q quit  space stop  " + keysText()
	_, err = io.WriteString(out, screenTop+strings.Join(lines, lineEnd)+lineEnd+foot+"\x1b[K"+rest)
	return err
}
