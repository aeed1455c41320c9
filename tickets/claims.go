package tickets

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// claims writes or reads the JSON of a ticket. The list of its parts is the same for
// both, so the two cannot differ. Once bad it stays bad.
type claims struct {
	encoding bool
	bad      bool
	in       string // what is left to read
	out      []byte
}

func (c *claims) check(ok bool) { c.bad = c.bad || !ok }

func (c *claims) literal(s string) {
	if c.encoding {
		c.out = append(c.out, s...)
		return
	}
	rest, ok := strings.CutPrefix(c.in, s)
	c.in = rest
	c.check(ok)
}

// digits are n characters that mean something to their reader alone.
func (c *claims) digits(s *string, n int) {
	if c.encoding {
		c.out = append(c.out, *s...)
		return
	}
	if c.check(len(c.in) >= n); !c.bad {
		*s, c.in = c.in[:n], c.in[n:]
	}
}

// number is a whole one as JSON has it.
func (c *claims) number(n *uint64) {
	if c.encoding {
		c.out = strconv.AppendUint(c.out, *n, 10)
		return
	}
	end := 0
	for end < len(c.in) && c.in[end] >= '0' && c.in[end] <= '9' {
		end++
	}
	v, err := strconv.ParseUint(c.in[:end], 10, 64)
	c.check(err == nil && (c.in[0] != '0' || end == 1))
	*n, c.in = v, c.in[end:]
}

// text is a name, without its quotes. What must be escaped in JSON is, by a
// backslash, and what cannot be printed is nobody's name.
func (c *claims) text(s *string) {
	if c.encoding {
		c.check(ValidName(*s))
		for i := range len(*s) {
			if b := (*s)[i]; b == '"' || b == '\\' {
				c.out = append(c.out, '\\', b)
			} else {
				c.out = append(c.out, b)
			}
		}
		return
	}
	var name []byte
	for len(name) <= MaxTransferText && c.in != "" && c.in[0] != '"' {
		if c.in[0] == '\\' {
			if c.check(len(c.in) > 1 && (c.in[1] == '"' || c.in[1] == '\\')); c.bad {
				return
			}
			c.in = c.in[1:]
		}
		name, c.in = append(name, c.in[0]), c.in[1:]
	}
	*s = string(name)
	c.check(ValidName(*s))
}

// ValidName tells whether a ticket can have s as a name; "" is none.
func ValidName(s string) bool {
	return len(s) <= MaxTransferText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
