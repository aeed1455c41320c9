package cli

import (
	"regexp"

	"github.com/urfave/cli/v2"
)

// twice is how the library writes that a flag may be repeated: its name again
// in brackets, which pushes every description off the screen.
var twice = regexp.MustCompile(` \[ --[^\]]* \]`)

const commandHelp = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{template "usageTemplate" .}}{{if .Description}}

DESCRIPTION:
   {{template "descriptionTemplate" .}}{{end}}

OPTIONS:{{template "visibleFlagTemplate" .}}
`

const groupHelp = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{template "usageTemplate" .}}

DESCRIPTION:
   {{template "descriptionTemplate" .}}

COMMANDS:{{template "visibleCommandTemplate" .}}
`

// The library keeps this in a variable of its own, so it is set once.
func init() {
	text := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string { return twice.ReplaceAllString(text(f), "") }
}

// quietBools keeps "(default: false)" out of the help.
func quietBools(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}
