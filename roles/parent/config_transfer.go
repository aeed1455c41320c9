package parent

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

// TransferConfig is the key that signs tickets by which clients of this environment
// log in to others. Paths are as in TLSConfig.
type TransferConfig struct {
	Key        string `toml:"key"` // encrypted PKCS#8; "": there are no tickets
	UnlockFile string `toml:"unlock_file"`
	UnlockUser string `toml:"unlock_user"`
	Rate       int    `toml:"rate"` // tickets a second
}

// IssuerConfig is an environment whose tickets are taken.
type IssuerConfig struct {
	Name          string   `toml:"environment"`
	Keys          []string `toml:"keys"`          // public, PEM: paths or the text itself
	Organisations []string `toml:"organisations"` // whose users it may send
	Users         []string `toml:"users"`         // of those; empty: all
	Profile       string   `toml:"profile"`       // that they have here; "": their own
}

func (c *Config) checkTransfer() (faults []fault) {
	if t := &c.Transfer; t.Key != "" && t.UnlockFile == "" {
		faults = append(faults, fault{"needs transfer.unlock_file, whose first line decrypts it", []string{"transfer.key"}})
	}
	seen := map[string]bool{}
	pairs := 0
	for i := range c.Issuers {
		is, section := &c.Issuers[i], tableName("transfer_issuer", i)
		add := func(key, text string) {
			if text != "" {
				faults = append(faults, fault{text, []string{section + "." + key, section}})
			}
		}
		add("environment", c.checkIssuerName(is.Name, seen))
		seen[is.Name] = true
		if n := len(is.Keys); n < 1 || n > privsep.MaxIssuerKeys {
			add("keys", fmt.Sprintf("are %d: there is one, and for a change of keys the next one", n))
		}
		if slices.Contains(is.Keys, "") {
			add("keys", "one of them is empty")
		}
		if len(is.Organisations) == 0 {
			add("organisations", "names no organisation whose users "+show(is.Name)+" may send")
		}
		add("organisations", checkList(is.Organisations, checkWord))
		add("users", checkList(is.Users, checkWord))
		if is.Profile != "" && !slices.ContainsFunc(c.Profiles, func(p ProfileConfig) bool { return p.Name == is.Profile }) {
			add("profile", show(is.Profile)+" is not the name of a [[profile]]")
		}
		if n := len(is.payload(nil).Append(nil)); n > privsep.MaxIssuer {
			add("organisations", fmt.Sprintf("and users take %d bytes together, more than %d", n, privsep.MaxIssuer))
		}
		if len(c.Users) == 0 && !c.LDAP.looksUp() {
			add("environment", "nobody can come from there: there is no [[user]], and no directory with an ldap.bind_dn")
		}
		for u := range c.Users {
			if is.maySend(&c.Users[u]) {
				pairs++
			}
		}
	}
	if n := privsep.MaxIssuers; len(c.Issuers) > n {
		faults = append(faults, fault{fmt.Sprintf("there are more than %d", n), []string{tableName("transfer_issuer", n)}})
	}
	if most := privsep.MaxStanding - 2*privsep.MaxUsers - privsep.MaxIssuers - 1; pairs > most {
		text := fmt.Sprintf("all of them together may send %d users, more than %d", pairs, most)
		faults = append(faults, fault{text, []string{tableName("transfer_issuer", 0)}})
	}
	return faults
}

func (c *Config) checkIssuerName(name string, seen map[string]bool) string {
	if text := checkName(name); text != "" {
		return text
	}
	switch {
	case seen[name]:
		return show(name) + " is there twice"
	case name == c.Environment.Name:
		return show(name) + " is this environment itself"
	}
	return ""
}

// maySend tells whether the issuer may send a user.
func (is *IssuerConfig) maySend(u *UserConfig) bool {
	return slices.Contains(is.Organisations, u.Organisation) && (len(is.Users) == 0 || slices.Contains(is.Users, u.Name))
}

// mayCome tells whether some issuer may send a user.
func (c *Config) mayCome(u *UserConfig) bool {
	return slices.ContainsFunc(c.Issuers, func(is IssuerConfig) bool { return is.maySend(u) })
}

// isInline tells a key that stands in the configuration from the path of one.
func isInline(key string) bool { return strings.HasPrefix(strings.TrimSpace(key), "-----BEGIN ") }

// keyPaths are the paths of keys, to be made independent of where the file lies.
func (c *Config) keyPaths() (paths []*string) {
	for i := range c.Issuers {
		for k := range c.Issuers[i].Keys {
			if p := &c.Issuers[i].Keys[k]; !isInline(*p) {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

// loadIssuers reads the keys of all issuers. An error is a *ConfigError.
func loadIssuers(c *Config) (all []privsep.Issuer, err error) {
	for i := range c.Issuers {
		var keys []string
		for _, k := range c.Issuers[i].Keys {
			key, err := readTransferKey(k)
			if err != nil {
				return nil, fileFault(tableName("transfer_issuer", i)+".keys", err)
			}
			keys = append(keys, string(key))
		}
		all = append(all, *c.Issuers[i].payload(keys))
	}
	return all, nil
}

// payload is the issuer as auth gets it.
func (is *IssuerConfig) payload(keys []string) *privsep.Issuer {
	return &privsep.Issuer{
		Environment: is.Name, Keys: keys, Organisations: is.Organisations, Users: is.Users, Profile: is.Profile,
		Mark: markOf(slices.Concat([]string{is.Name, is.Profile}, keys, []string{""}, is.Organisations, []string{""}, is.Users)...),
	}
}

// maxPublicKey bounds a file with one, in bytes.
const maxPublicKey = 16 << 10

// readTransferKey reads one public key, of a file or as it stands.
func readTransferKey(from string) ([]byte, error) {
	text, name := []byte(from), "the key in the configuration"
	if !isInline(from) {
		f, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if text, err = io.ReadAll(io.LimitReader(f, maxPublicKey)); err != nil {
			return nil, err
		}
		name = filepath.Clean(from)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s: no PEM block in it", name)
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("%s: a PEM block %s, not PUBLIC KEY", name, show(block.Type))
	case strings.TrimSpace(string(rest)) != "":
		return nil, fmt.Errorf("%s: more than one key in it", name)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a public key", name)
	}
	key, err := tickets.NewTransferKey(public)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key.Bytes(), nil
}
