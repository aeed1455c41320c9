package parent

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/roles/auth/directory"
)

// LDAPConfig is the directory that knows who else can log in. Paths are as in TLSConfig.
type LDAPConfig struct {
	URLs       []string `toml:"urls"`        // ldaps://HOST:PORT, or ldap:// with StartTLS; empty: there is none
	CA         string   `toml:"ca"`          // PEM
	ServerName string   `toml:"server_name"` // that certificates have; "": HOST

	UserDN string `toml:"user_dn"` // template, or
	Base   string `toml:"base"`    // where to search
	Filter string `toml:"filter"`  // template

	BindDN           string `toml:"bind_dn"`
	BindPasswordFile string `toml:"bind_password_file"`
	BindPasswordUser string `toml:"bind_password_user"` // who reads it; empty: we

	OrganisationAttribute string   `toml:"organisation_attribute"`
	Organisations         []string `toml:"organisations"`
	ProfileAttribute      string   `toml:"profile_attribute"`
	Profile               string   `toml:"profile"`

	Timeout     time.Duration `toml:"timeout"`
	Connections int           `toml:"connections"`
}

// LDAPProfileConfig says which profile goes with a value of ldap.profile_attribute.
type LDAPProfileConfig struct {
	Name    string `toml:"value"`
	Profile string `toml:"profile"`
}

// there tells whether there is a directory.
func (l *LDAPConfig) there() bool { return len(l.URLs) > 0 }

// looksUp tells whether users can be looked up without a password of theirs.
func (l *LDAPConfig) looksUp() bool { return l.there() && l.BindDN != "" }

func (c *Config) checkLDAP() (faults []fault) {
	l := &c.LDAP
	add := func(key, text string) {
		if text != "" {
			faults = append(faults, fault{text, []string{"ldap." + key, "ldap.urls"}})
		}
	}
	if !l.there() {
		for _, o := range []struct{ key, value string }{{"ca", l.CA}, {"user_dn", l.UserDN}, {"base", l.Base}, {"filter", l.Filter}, {"bind_dn", l.BindDN}} {
			if o.value != "" {
				add(o.key, "means nothing without ldap.urls")
			}
		}
		return faults
	}
	add("urls", checkList(l.URLs, func(s string) string {
		if _, err := parseDirectoryURL(s); err != nil {
			return show(s) + " " + err.Error()
		}
		return ""
	}))
	if l.CA == "" {
		add("ca", "is empty: certificates of the servers are verified by it, always")
	}
	if l.ServerName != "" {
		add("server_name", checkWord(l.ServerName))
	}
	c.checkLDAPUser(add)
	c.checkLDAPProfiles(add)
	if l.Timeout >= c.Limits.AuthTimeout {
		faults = append(faults, fault{fmt.Sprintf("ldap.timeout (%v) must be less than limits.auth_timeout (%v): clients wait no longer", l.Timeout, c.Limits.AuthTimeout),
			[]string{"ldap.timeout", "limits.auth_timeout", "ldap.urls"}})
	}
	if n := len(c.directory(nil, "").Append(nil)); n > privsep.MaxDirectory-privsep.MaxDirectorySecret-privsep.MaxDirectoryServers*privsep.MaxDirectoryServer {
		add("urls", fmt.Sprintf("and all else of the directory take %d bytes together, more than there is room for", n))
	}
	return faults
}

// checkLDAPUser is about how a user is found, and by whom.
func (c *Config) checkLDAPUser(add func(key, text string)) {
	l := &c.LDAP
	dn := func(key, value string) {
		switch err := directory.CheckDN(value); {
		case len(value) > privsep.MaxDirectoryText:
			add(key, fmt.Sprintf("is longer than %d bytes", privsep.MaxDirectoryText))
		case value != "" && err != nil:
			add(key, show(value)+" "+err.Error())
		}
	}
	template := func(key, value string, parse func(string) (*directory.Template, error)) {
		switch _, err := parse(value); {
		case len(value) > privsep.MaxDirectoryText:
			add(key, fmt.Sprintf("is longer than %d bytes", privsep.MaxDirectoryText))
		case err != nil:
			add(key, show(value)+" is no template: one "+err.Error())
		}
	}
	dn("bind_dn", l.BindDN)
	dn("base", l.Base)
	switch {
	case l.UserDN != "" && l.Filter != "":
		add("user_dn", "and ldap.filter are two ways to find a user: there is one")
	case l.UserDN != "":
		template("user_dn", l.UserDN, directory.ParseUserDN)
		if l.Base != "" {
			add("base", "means nothing without ldap.filter")
		}
	case l.Filter != "":
		template("filter", l.Filter, directory.ParseFilter)
		if l.Base == "" {
			add("base", "is empty: it is where ldap.filter searches")
		}
		if l.BindDN == "" {
			add("bind_dn", "is empty: it is who searches")
		}
	default:
		add("user_dn", "is empty, and ldap.filter, too: one of them says how to find a user")
	}
	switch {
	case l.BindDN != "" && l.BindPasswordFile == "":
		add("bind_dn", "needs ldap.bind_password_file, whose first line is its password")
	case l.BindDN == "" && l.BindPasswordFile != "":
		add("bind_password_file", "means nothing without ldap.bind_dn")
	}
}

// checkLDAPProfiles is about what becomes of a user who is found.
func (c *Config) checkLDAPProfiles(add func(key, text string)) {
	l := &c.LDAP
	for _, o := range []struct{ key, value string }{{"organisation_attribute", l.OrganisationAttribute}, {"profile_attribute", l.ProfileAttribute}} {
		if o.value != "" && !isAttribute(o.value) {
			add(o.key, show(o.value)+" is not the name of an attribute")
		}
	}
	add("organisations", checkList(l.Organisations, checkWord))
	if l.OrganisationAttribute == "" && len(l.Organisations) > 1 {
		add("organisations", "are more than one, and no ldap.organisation_attribute says whose is which")
	}
	if len(l.Organisations) > privsep.MaxIssuerList {
		add("organisations", fmt.Sprintf("are more than %d", privsep.MaxIssuerList))
	}
	known := func(profile string) bool {
		return slices.ContainsFunc(c.Profiles, func(p ProfileConfig) bool { return p.Name == profile })
	}
	if l.Profile != "" && !known(l.Profile) {
		add("profile", show(l.Profile)+" is not the name of a [[profile]]")
	}
	if (l.ProfileAttribute != "") != (len(c.LDAPProfiles) > 0) {
		add("profile_attribute", "and [[ldap_profile]] mean nothing without each other")
	}
	for i, m := range c.LDAPProfiles {
		section := tableName("ldap_profile", i)
		switch {
		case m.Name == "" || len(m.Name) > privsep.MaxDirectoryText:
			add("profile_attribute", "has a [[ldap_profile]] with an empty value, or one that is too long")
		case !known(m.Profile):
			add("profile_attribute", fmt.Sprintf("%s is not the name of a [[profile]] (%s)", show(m.Profile), shown(section)))
		}
	}
	if len(c.LDAPProfiles) > privsep.MaxDirectoryProfiles {
		add("profile_attribute", fmt.Sprintf("has more than %d [[ldap_profile]]", privsep.MaxDirectoryProfiles))
	}
}

// isAttribute allows what RFC 4512 does, without options.
func isAttribute(s string) bool {
	return len(s) <= privsep.MaxSettingsText && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	})
}

// directoryURL is where a server is.
type directoryURL struct {
	host string
	port uint16
	text string // as it is told auth, and in logs
}

func parseDirectoryURL(s string) (u directoryURL, err error) {
	v, err := url.Parse(s)
	if err != nil || v.Host == "" || v.User != nil || v.RawQuery != "" || v.Fragment != "" || strings.Trim(v.Path, "/") != "" {
		return u, errors.New("is not ldaps://HOST:PORT or ldap://HOST:PORT")
	}
	port := v.Port()
	switch {
	case v.Scheme != "ldap" && v.Scheme != "ldaps":
		return u, errors.New("is not ldaps://HOST:PORT or ldap://HOST:PORT (which is StartTLS)")
	case port == "" && v.Scheme == "ldaps":
		port = "636"
	case port == "":
		port = "389"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strings.ContainsAny(v.Hostname(), "% ") || len(s) > 2*privsep.MaxSettingsText {
		return u, errors.New("is not ldaps://HOST:PORT or ldap://HOST:PORT")
	}
	host := v.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return directoryURL{v.Hostname(), uint16(n), fmt.Sprintf("%s://%s:%d", v.Scheme, host, n)}, nil
}

// directoryText is a directory as auth gets it, and what only the parent knows of it.
type directoryText struct {
	set     privsep.Directory // without the password
	ca      []byte
	secret  *custody.Secret // nil: none
	address []netip.AddrPort
}

func (d *directoryText) close() {
	if d.secret != nil {
		d.secret.Close()
	}
}

// directory is what the configuration says of it, with the servers that there are.
func (c *Config) directory(servers []string, ca string) *privsep.Directory {
	l := &c.LDAP
	d := &privsep.Directory{
		Mark: c.directoryMark(), CA: uint32(len(ca)), Servers: servers, Name: l.ServerName,
		UserDN: l.UserDN, Base: l.Base, Filter: l.Filter, BindDN: l.BindDN,
		OrganisationAttribute: l.OrganisationAttribute, Organisations: l.Organisations,
		ProfileAttribute: l.ProfileAttribute, Profile: l.Profile, MustMatch: l.Profile == "" && len(c.LDAPProfiles) > 0,
		Timeout: l.Timeout, Links: l.Connections,
	}
	for _, m := range c.LDAPProfiles {
		d.Values, d.Profiles = append(d.Values, m.Name), append(d.Profiles, m.Profile)
	}
	return d
}

// directoryMark is another one when anything is by which users are found or become who
// they are; which servers know that, and how they are reached, does not count.
func (c *Config) directoryMark() uint64 {
	l := &c.LDAP
	what := []string{"directory", l.UserDN, l.Base, l.Filter, l.OrganisationAttribute, l.ProfileAttribute, l.Profile}
	for _, m := range c.LDAPProfiles {
		what = append(what, m.Name, m.Profile)
	}
	return markOf(append(what, l.Organisations...)...)
}

// loadDirectory reads what the configuration names: certificates, addresses, the
// password. It is nil if there is no directory. Errors are as those of loadCredential.
func loadDirectory(c *Config) (*directoryText, error) {
	l := &c.LDAP
	if !l.there() {
		return nil, nil
	}
	bad := func(key string, err error) error { return fileFault("ldap."+key, err) }
	ca, err := readCA(l.CA)
	if err != nil {
		return nil, bad("ca", err)
	}
	d := &directoryText{ca: ca}
	var servers []string
	for _, s := range l.URLs {
		u, err := parseDirectoryURL(s)
		if err != nil {
			return nil, bad("urls", fmt.Errorf("%s %w", show(s), err))
		}
		all, err := addressesOf(u.host)
		if err != nil {
			return nil, bad("urls", err)
		}
		for _, a := range all {
			servers, d.address = append(servers, u.text), append(d.address, netip.AddrPortFrom(a, u.port))
		}
	}
	if len(servers) > privsep.MaxDirectoryServers {
		return nil, bad("urls", fmt.Errorf("are %d addresses, more than %d", len(servers), privsep.MaxDirectoryServers))
	}
	d.set = *c.directory(servers, string(ca))
	if l.BindPasswordFile != "" {
		d.secret, err = custody.ReadSecretAs(l.BindPasswordFile, l.BindPasswordUser)
		if errors.Is(err, custody.ErrIdentity) {
			return nil, fmt.Errorf("ldap.bind_password_file: %w", err)
		}
		if err != nil {
			return nil, bad("bind_password_file", err)
		}
	}
	return d, nil
}

// located gives a *ConfigError its place in the file.
func located(err error, source string) error {
	var bad *ConfigError
	if errors.As(err, &bad) && source != BuiltIn {
		bad.File = source
		if _, keys, err := loadConfig(source); err == nil {
			bad.Line = keys.line(bad.Key)
		}
	}
	return err
}

// readCA reads a PEM file of certificates, and drops what else is in it.
func readCA(path string) ([]byte, error) {
	text, err := readBounded(path, privsep.MaxDirectoryCA)
	if err != nil {
		return nil, err
	}
	var out []byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a PEM block %s among the certificates", path, show(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return out, nil
}

// hostsFile is where names are looked up: name servers are not asked, since what comes
// from there nobody here could take apart without being root or having a network.
const hostsFile = "/etc/hosts"

// addressesOf gives the addresses of a host, which is one or stands in hostsFile.
func addressesOf(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	text, err := readBounded(hostsFile, maxConfig)
	if err != nil {
		return nil, err
	}
	if all := inHosts(string(text), host); len(all) > 0 {
		return all, nil
	}
	return nil, fmt.Errorf("%s is neither an address nor a name in %s: name servers are not asked; write the address, and the name as ldap.server_name", show(host), hostsFile)
}

// inHosts looks a name up in the text of hosts(5).
func inHosts(text, name string) (all []netip.Addr) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 || !slices.ContainsFunc(words[1:], func(w string) bool { return strings.EqualFold(w, name) }) {
			continue
		}
		if a, err := netip.ParseAddr(words[0]); err == nil && a.Zone() == "" && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}
