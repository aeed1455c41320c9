package certname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxText bounds each text, in bytes.
const MaxText = 512

// types are the attribute types with a name of their own, by the first of which they
// are written.
var types = []struct{ names, oid string }{
	{"CN", "2.5.4.3"},
	{"SN", "2.5.4.4"},
	{"SERIALNUMBER", "2.5.4.5"},
	{"C", "2.5.4.6"},
	{"L", "2.5.4.7"},
	{"ST S", "2.5.4.8"},
	{"STREET", "2.5.4.9"},
	{"O", "2.5.4.10"},
	{"OU", "2.5.4.11"},
	{"TITLE T", "2.5.4.12"},
	{"POSTALCODE", "2.5.4.17"},
	{"GIVENNAME GN", "2.5.4.42"},
	{"UID", "0.9.2342.19200300.100.1.1"},
	{"DC", "0.9.2342.19200300.100.1.25"},
	{"EMAILADDRESS EMAIL E", "1.2.840.113549.1.9.1"},
}

// nameOf gives the text of a type: of one that has no name its number.
func nameOf(oid string) string {
	for _, t := range types {
		if t.oid == oid {
			name, _, _ := strings.Cut(t.names, " ")
			return name
		}
	}
	return oid
}

// typeOf gives the text of a type as somebody has written it, "" if there is none.
func typeOf(written string) string {
	if isOID(written) {
		return nameOf(written)
	}
	for _, t := range types {
		if slices.Contains(strings.Fields(t.names), strings.ToUpper(written)) {
			return nameOf(t.oid)
		}
	}
	return ""
}

func isOID(s string) bool {
	arcs := strings.Split(s, ".")
	for _, arc := range arcs {
		if arc == "" || len(arc) > 10 || strings.Trim(arc, "0123456789") != "" || arc[0] == '0' && arc != "0" {
			return false
		}
	}
	return len(arcs) > 1
}

// attribute is a type and a value.
type attribute struct{ name, value string }

func (a attribute) String() string { return a.name + "=" + escaped(a.value) }

// written is the text of a subject, whose parts come in the order of the text.
func written(parts [][]attribute) string {
	var all []string
	for _, part := range parts {
		var one []string
		for _, a := range part {
			one = append(one, a.String())
		}
		slices.Sort(one)
		all = append(all, strings.Join(one, "+"))
	}
	return strings.Join(all, ",")
}

const special = `"+,;<>\`

// escaped is a value as it must be written (RFC 4514, 2.4).
func escaped(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		switch {
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%02X`, c)
			continue
		case strings.IndexByte(special, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(value)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// subjectOf gives the text of a DER name, "" if it has none.
func subjectOf(der []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
		return ""
	}
	var parts [][]attribute
	for _, rdn := range slices.Backward(name) {
		var part []attribute
		for _, a := range rdn {
			value, ok := a.Value.(string)
			if !ok || !utf8.ValidString(value) {
				return ""
			}
			part = append(part, attribute{nameOf(a.Type.String()), value})
		}
		if len(part) == 0 {
			return ""
		}
		parts = append(parts, part)
	}
	if text := written(parts); len(text) <= MaxText {
		return text
	}
	return ""
}

// Subject gives the text for a subject as somebody has written it.
func Subject(text string) (string, error) {
	switch {
	case text == "":
		return "", errors.New("is empty")
	case strings.HasPrefix(text, "/"):
		return "", errors.New("is in OpenSSL's old form: write CN=alice,O=ORGA, which openssl x509 -noout -subject -nameopt RFC2253 shows")
	case !utf8.ValidString(text):
		return "", errors.New("is not UTF-8")
	}
	var parts [][]attribute
	var part []attribute
	for rest, more := text, true; more; {
		var a attribute
		var end byte
		var err error
		if a, rest, end, err = cutAttribute(rest); err != nil {
			return "", err
		}
		part = append(part, a)
		if end != '+' {
			parts, part = append(parts, part), nil
		}
		more = end != 0
	}
	out := written(parts)
	if len(out) > MaxText {
		return "", fmt.Errorf("is longer than %d bytes", MaxText)
	}
	return out, nil
}

// cutAttribute takes the first attribute of a text, and what ends it: '+', ',', or 0
// at the end.
func cutAttribute(text string) (a attribute, rest string, end byte, err error) {
	name, value, ok := strings.Cut(text, "=")
	name = strings.Trim(name, " ")
	if !ok || strings.ContainsAny(name, special) {
		return a, "", 0, fmt.Errorf("%.40q is not TYPE=VALUE", text)
	}
	if a.name = typeOf(name); a.name == "" {
		return a, "", 0, fmt.Errorf("%.40q is not a type of attribute that is known: its number will do", name)
	}
	value = strings.TrimLeft(value, " ")
	if strings.HasPrefix(value, "#") {
		return a, "", 0, fmt.Errorf("the value of %s is in hexadecimal: write text", a.name)
	}
	var b []byte
	keep := 0 // of b, what is not blanks before a separator
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == ',' || c == '+':
			a.value = string(b[:keep])
			return a, value[i+1:], c, valid(a)
		case c == '\\':
			n, err := unescape(value[i+1:], &b)
			if err != nil {
				return a, "", 0, fmt.Errorf("the value of %s has %w", a.name, err)
			}
			i += n
			keep = len(b)
		case strings.IndexByte(special, c) >= 0:
			return a, "", 0, fmt.Errorf(`the value of %s has a %q that needs a \ before it`, a.name, c)
		default:
			if b = append(b, c); c != ' ' {
				keep = len(b)
			}
		}
	}
	a.value = string(b[:keep])
	return a, "", 0, valid(a)
}

func valid(a attribute) error {
	switch {
	case a.value == "":
		return fmt.Errorf("the value of %s is empty", a.name)
	case !utf8.ValidString(a.value):
		return fmt.Errorf("the value of %s is not UTF-8", a.name)
	}
	return nil
}

// unescape reads what follows a backslash: a special character, or two hexadecimal
// digits. It gives how many bytes that were.
func unescape(text string, b *[]byte) (int, error) {
	if text != "" && strings.IndexByte(special+" #=", text[0]) >= 0 {
		*b = append(*b, text[0])
		return 1, nil
	}
	if len(text) >= 2 {
		if c, err := hex.DecodeString(text[:2]); err == nil {
			*b = append(*b, c...)
			return 2, nil
		}
	}
	return 0, errors.New(`a \ before something that needs none`)
}
