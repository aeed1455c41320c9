package cli

import "os"

// paint gives colours to what is not as usual, on a terminal. All that has one says the
// same in words.
type paint struct{ on bool }

// coloured tells whether colours belong into a stream: NO_COLOR has it otherwise, and so
// does a terminal that can do nothing.
func coloured(stream any) bool {
	return isTerminal(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// The colours, as terminals have them.
const (
	red    = "31"
	yellow = "33"
)

func (p paint) with(colour, text string) string {
	if !p.on || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// bad is for what an operator must act on, odd for what he should know.
func (p paint) bad(text string) string { return p.with(red, text) }
func (p paint) odd(text string) string { return p.with(yellow, text) }

// offence is the colour of what was refused.
func (p paint) offence() string {
	if p.on {
		return red
	}
	return ""
}

// state gives the colour of a process's state, "" for none.
func (p paint) state(name string) string {
	switch {
	case !p.on || name == "running":
		return ""
	case name == "starting", name == "retiring", name == "standby", name == "stopping":
		return yellow
	}
	return red
}
