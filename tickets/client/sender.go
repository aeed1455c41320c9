package client

import (
	"strings"

	"github.com/nats-io/nats.go"
)

// Identity is what the broker knows of a sender. What it has not verified is empty: all of
// it for a client without credentials, type and instance where the sender's profile does
// not say which types its clients may be.
type Identity struct {
	User, Organisation string
	Type, Instance     string
}

// Anonymous tells whether nothing is known.
func (id Identity) Anonymous() bool { return id == Identity{} }

// anonymous is the value of the header for a sender of whom nothing is known.
const anonymous = "anonymous"

// Sender gives the sender of a message as the broker has verified it. It is false
// where the broker has said nothing, since the receiver's profile does not ask for it
// (stamp_sender), or something that cannot be its word.
func Sender(m *nats.Msg) (Identity, bool) {
	values := m.Header.Values(HeaderFrom)
	if len(values) != 1 {
		return Identity{}, false
	}
	return parseIdentity(values[0])
}

// parseIdentity reads the header's value: key=value with "; " between, in the order of
// the fields, each at most once; or "anonymous".
func parseIdentity(s string) (id Identity, ok bool) {
	if s == anonymous {
		return id, true
	}
	fields := []struct {
		key string
		to  *string
	}{{"user", &id.User}, {"organisation", &id.Organisation}, {"type", &id.Type}, {"instance", &id.Instance}}
	for part := range strings.SplitSeq(s, "; ") {
		key, value, _ := strings.Cut(part, "=")
		for len(fields) > 0 && fields[0].key != key {
			fields = fields[1:]
		}
		if len(fields) == 0 {
			return Identity{}, false
		}
		if *fields[0].to, ok = unescape(value); !ok {
			return Identity{}, false
		}
		fields = fields[1:]
	}
	return id, true
}

// unescape undoes the broker's %XX. Nothing but what the broker writes is taken, so that
// there is one form of each identity.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := nibble(s[i+1]), nibble(s[i+2])
			if c = hi<<4 | lo; hi > 15 || lo > 15 || plain(c) {
				return "", false
			}
			i += 2
		} else if !plain(c) {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), b.Len() > 0
}

// plain tells whether a byte stands for itself in a value.
func plain(c byte) bool { return c > ' ' && c < 0x7f && c != ';' && c != '%' && c != '"' }

// nibble reads an upper-case hexadecimal digit, above 15: it is none.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
