package directory

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// placeholder is what stands for the name in a template.
const placeholder = "{user}"

// Template is a DN or a filter with a place for a name.
type Template struct {
	text      string
	Attribute string // whose value the name is
	escape    func(string) string
}

var (
	leftOfDN     = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)=$`)
	leftOfFilter = regexp.MustCompile(`\(([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)=$`)
)

// ParseUserDN reads the template of a DN: "uid={user},ou=people,dc=orgb".
func ParseUserDN(text string) (*Template, error) {
	t, err := parse(text, leftOfDN, ",", `begins with ATTRIBUTE={user}, and has it nowhere else`, ldap.EscapeDN)
	if err != nil {
		return nil, err
	}
	if _, err := ldap.ParseDN(t.With("x")); err != nil {
		return nil, fmt.Errorf("is no DN: %w", err)
	}
	return t, nil
}

// ParseFilter reads the template of a filter: "(&(objectClass=person)(uid={user}))".
func ParseFilter(text string) (*Template, error) {
	t, err := parse(text, leftOfFilter, ")", `has (ATTRIBUTE={user}) in it, once`, ldap.EscapeFilter)
	if err != nil {
		return nil, err
	}
	if _, err := ldap.CompileFilter(t.With("x")); err != nil {
		return nil, fmt.Errorf("is no filter: %w", err)
	}
	return t, nil
}

func parse(text string, left *regexp.Regexp, right, form string, escape func(string) string) (*Template, error) {
	before, after, found := strings.Cut(text, placeholder)
	m := left.FindStringSubmatch(before)
	if !found || m == nil || !strings.HasPrefix(after, right) || strings.Contains(after, placeholder) {
		return nil, errors.New(form)
	}
	return &Template{text, m[1], escape}, nil
}

// With gives the text for a name, of which nothing but the value is another one.
func (t *Template) With(name string) string {
	return strings.Replace(t.text, placeholder, t.escape(name), 1)
}

// CheckDN says what is wrong with a DN of the configuration.
func CheckDN(text string) error {
	if _, err := ldap.ParseDN(text); err != nil {
		return fmt.Errorf("is no DN: %w", err)
	}
	return nil
}

// maxName bounds a name, as the configuration does.
const maxName = 128

// Speakable tells whether a text can be the name of a user or an organisation, as the
// configuration has it: printable ASCII without blanks.
func Speakable(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
