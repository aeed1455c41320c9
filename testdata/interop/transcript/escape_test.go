package transcript

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// unescaper turns a text into the bytes that it stands for.
type unescaper struct {
	s    string
	i    int
	open bool // \c: no CRLF follows
}

func unescape(s string) ([]byte, error) {
	u := &unescaper{s: s}
	b, err := u.text(false)
	if err == nil && !u.open {
		b = append(b, "\r\n"...)
	}
	return b, err
}

// text reads up to the end, or to the closing bracket of a repetition.
func (u *unescaper) text(nested bool) ([]byte, error) {
	var out []byte
	for u.i < len(u.s) {
		c := u.s[u.i]
		u.i++
		switch {
		case u.open:
			return nil, fmt.Errorf(`\c is not last in %q`, u.s)
		case c == ')' && nested:
			return out, nil
		case c != '\\':
			out = append(out, c)
		default:
			b, err := u.escape()
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
	}
	if nested {
		return nil, fmt.Errorf("no closing bracket in %q", u.s)
	}
	return out, nil
}

// escape reads what follows a backslash.
func (u *unescaper) escape() ([]byte, error) {
	rest := u.s[u.i:]
	if rest == "" {
		return nil, fmt.Errorf("backslash at the end of %q", u.s)
	}
	u.i++
	switch c := rest[0]; c {
	case '\\', ')':
		return []byte{c}, nil
	case 'r':
		return []byte{'\r'}, nil
	case 'n':
		return []byte{'\n'}, nil
	case 't':
		return []byte{'\t'}, nil
	case 'c':
		u.open = true
		return nil, nil
	case 'x':
		return u.hex(rest[1:])
	case '(':
		return u.repeat(rest[1:])
	}
	return nil, fmt.Errorf("no such escape: %q", rest)
}

func (u *unescaper) hex(digits string) ([]byte, error) {
	if len(digits) < 2 {
		return nil, fmt.Errorf("two digits must follow \\x in %q", u.s)
	}
	n, err := strconv.ParseUint(digits[:2], 16, 8)
	u.i += 2
	return []byte{byte(n)}, err
}

func (u *unescaper) repeat(rest string) ([]byte, error) {
	digits, _, ok := strings.Cut(rest, "*")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 {
		return nil, fmt.Errorf("not N*TEXT in brackets: %q", rest)
	}
	u.i += len(digits) + 1
	b, err := u.text(true)
	return bytes.Repeat(b, n), err
}
