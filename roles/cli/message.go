package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
)

// printer writes messages for people, or their bodies alone.
//
//	[1] px.eur.usd (reply to _INBOX.x.1)
//	Name: value
//
//	body
type printer struct {
	out  *bufio.Writer
	raw  bool
	safe bool // a terminal: control characters are taken out
	n    int
}

func (p *program) printer(raw bool) *printer {
	return &printer{out: bufio.NewWriterSize(p.env.Stdout, 64<<10), raw: raw, safe: isTerminal(p.env.Stdout)}
}

// message prints one with its subject.
func (w *printer) message(m *nats.Msg) {
	w.n++
	if !w.raw {
		fmt.Fprintf(w.out, "[%d] %s", w.n, visible(m.Subject))
		if m.Reply != "" {
			fmt.Fprintf(w.out, " (reply to %s)", visible(m.Reply))
		}
		w.out.WriteByte('\n')
	}
	w.answer(m)
}

// numbered prints one of several whose subject is of no interest.
func (w *printer) numbered(m *nats.Msg) {
	w.n++
	if !w.raw {
		fmt.Fprintf(w.out, "[%d]\n", w.n)
	}
	w.answer(m)
}

// answer prints one whose subject is of no interest.
func (w *printer) answer(m *nats.Msg) {
	if w.raw {
		w.out.Write(m.Data)
		w.out.WriteByte('\n')
		return
	}
	for _, name := range sortedNames(m.Header) {
		for _, v := range m.Header[name] {
			fmt.Fprintf(w.out, "%s: %s\n", visible(name), visible(v))
		}
	}
	if len(m.Header) > 0 {
		w.out.WriteByte('\n')
	}
	if w.safe {
		io.WriteString(w.out, visibleBody(string(m.Data)))
	} else {
		w.out.Write(m.Data)
	}
	w.out.WriteByte('\n')
}

func (w *printer) flush() error { return w.out.Flush() }

func sortedNames(h nats.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// visible escapes what would change a terminal or break a line.
func visible(s string) string {
	if !strings.ContainsFunc(s, notGraphic) {
		return s
	}
	q := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// visibleBody does so too but keeps lines and tabs.
func visibleBody(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			b.WriteString(visible(s))
			break
		}
		b.WriteString(visible(s[:i]))
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	return b.String()
}

func notGraphic(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsGraphic(r) }
