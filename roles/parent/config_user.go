package parent

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nkeys"

	"gatehouse/privsep"
	"gatehouse/privsep/passhash"
)

// AuthConfig is the token, who may vouch for certificates, and what logins may cost.
// Paths are as in TLSConfig.
type AuthConfig struct {
	Token        Secret        `toml:"token"`         // hash
	TokenProfile string        `toml:"token_profile"` // of who knows it, "": everything is allowed
	X509Approved []string      `toml:"x509_approved"` // PEM: certificates and public keys
	X509CRL      []string      `toml:"x509_crl"`      // PEM or DER: revocation lists
	Hashes       int           `toml:"hashes"`        // at a time; 0: one per two processors
	Memory       Size          `toml:"memory"`        // of all of them
	FailureRate  int           `toml:"failure_rate"`  // per second and address
	FailureBurst int           `toml:"failure_burst"`
	Backoff      time.Duration `toml:"backoff"` // longest, of one user at one address
}

// UserConfig is somebody who can log in. An empty profile allows everything.
type UserConfig struct {
	Name     string `toml:"name"`
	Password Secret `toml:"password"` // hash
	NKey     string `toml:"nkey"`     // public

	// What a certificate of his must have, as package certname has it.
	Certificate    string `toml:"certificate"` // subject
	CertificateSAN string `toml:"certificate_san"`
	CertificateKey string `toml:"certificate_key"`

	// What a process of his must be that connects to a Unix socket.
	UID        Account `toml:"uid"`
	GID        Account `toml:"gid"`
	Executable string  `toml:"executable"` // path
	SHA256     string  `toml:"sha256"`     // of what is in it, in hexadecimal

	Organisation string `toml:"organisation"`
	Profile      string `toml:"profile"`
}

// Secret is a text that no error and no log shows: where a hash belongs somebody may
// have written a password.
type Secret string

// String hides it.
func (Secret) String() string { return "********" }

// GoString hides it, too.
func (Secret) GoString() string { return "********" }

func secretOf(raw any) (Secret, error) {
	s, ok := raw.(string)
	if !ok {
		return "", fmt.Errorf("is not a string")
	}
	return Secret(s), nil
}

// credentials are the kinds of proof that somebody can log in by. Without any nobody
// needs to.
func (c *Config) credentials() (kinds privsep.CredentialSet) {
	if c.Auth.Token != "" {
		kinds = kinds.With(privsep.CredentialToken)
	}
	for i := range c.Users {
		if c.Users[i].Password != "" {
			kinds = kinds.With(privsep.CredentialPassword)
		}
		if c.Users[i].NKey != "" {
			kinds = kinds.With(privsep.CredentialNKey)
		}
		if c.Users[i].certified() {
			kinds = kinds.With(privsep.CredentialX509)
			if c.TLS.ClientAuth != "none" {
				kinds = kinds.With(privsep.CredentialTLS)
			}
		}
		if c.Users[i].processed() {
			kinds = kinds.With(privsep.CredentialProcess)
		}
	}
	if c.LDAP.there() {
		kinds = kinds.With(privsep.CredentialPassword)
	}
	if len(c.Issuers) > 0 {
		kinds = kinds.With(privsep.CredentialTransfer)
	}
	return kinds
}

// Exposed says that everybody on this machine can read the hashes in the file that a
// configuration came from, "" if it has none or they cannot. A group may: that is how
// several people look after one broker.
func (c *Config) Exposed(source string) string {
	if kinds := c.credentials(); source == BuiltIn || !kinds.Has(privsep.CredentialPassword) && !kinds.Has(privsep.CredentialToken) {
		return ""
	}
	info, err := os.Stat(source)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("%s has hashes of passwords, which everybody here can read (mode %#o): chmod o= it", source, info.Mode().Perm())
}

func (c *Config) checkUsers() (faults []fault) {
	profiles := map[string]bool{"": true}
	for i := range c.Profiles {
		profiles[c.Profiles[i].Name] = true
	}
	seen, ids := map[string]bool{}, newAccounts()
	for i := range c.Users {
		u, section := &c.Users[i], tableName("user", i)
		add := func(key, text string) {
			if text != "" {
				faults = append(faults, fault{text, []string{section + "." + key, section}})
			}
		}
		text := checkWord(u.Name)
		if text == "" && seen["name "+u.Name] {
			text = show(u.Name) + " is the name of another user"
		}
		add("name", text)
		if u.Organisation != "" {
			add("organisation", checkWord(u.Organisation))
		}
		if u.Password != "" {
			add("password", c.checkHash(u.Password))
		}
		if u.NKey != "" {
			add("nkey", checkNKey(u.NKey))
			if seen["nkey "+u.NKey] {
				add("nkey", "is another user's, too")
			}
		}
		c.checkCertificate(u, seen, add)
		c.checkProcess(u, ids, seen, add)
		if u.Password == "" && u.NKey == "" && !u.certified() && !u.processed() && !c.mayCome(u) {
			add("name", show(u.Name)+" has neither a password nor an nkey nor a certificate nor a uid or gid to log in by")
		}
		if !profiles[u.Profile] {
			add("profile", show(u.Profile)+" is not the name of a [[profile]]")
		}
		seen["name "+u.Name], seen["nkey "+u.NKey] = true, true
	}
	if n := privsep.MaxUsers - 1; len(c.Users) > n { // and the token
		faults = append(faults, fault{fmt.Sprintf("there are more than %d", n), []string{tableName("user", n)}})
	}
	a := &c.Auth
	if a.Token != "" {
		if text := c.checkHash(a.Token); text != "" {
			faults = append(faults, fault{text, []string{"auth.token"}})
		}
	}
	if a.TokenProfile != "" && a.Token == "" {
		faults = append(faults, fault{"means nothing without auth.token", []string{"auth.token_profile"}})
	}
	if !profiles[a.TokenProfile] {
		faults = append(faults, fault{show(a.TokenProfile) + " is not the name of a [[profile]]", []string{"auth.token_profile"}})
	}
	return faults
}

// checkHash says what is wrong with the hash of a password, without showing it.
func (c *Config) checkHash(s Secret) string {
	h, err := passhash.Parse(string(s))
	switch {
	case err != nil:
		return err.Error()
	case h.Memory() > int(c.Auth.Memory):
		return fmt.Sprintf("takes %v, more than auth.memory (%v)", Size(h.Memory()), c.Auth.Memory)
	}
	return ""
}

// checkNKey allows the public key of a user in the one way to write it.
func checkNKey(s string) string {
	if nkeys.IsValidPublicUserKey(s) {
		if key, err := nkeys.FromPublicKey(s); err == nil {
			if again, err := key.PublicKey(); err == nil && again == s {
				return ""
			}
		}
	}
	switch nkeys.Prefix(s) {
	case nkeys.PrefixByteSeed:
		return "is a seed, which is the client's alone: write its public key"
	case nkeys.PrefixByteUnknown:
		return "is not an nkey"
	}
	return "is not the public nkey of a user, which begins with U"
}

// users are all who can log in, as auth gets them. set is the number of the set.
func (c *Config) users(set uint32) []privsep.User {
	var all []privsep.User
	ids := newAccounts()
	for i := range c.Users {
		u := &c.Users[i]
		n, _ := u.certificateNames()
		rule, _ := u.processRule(ids)
		all = append(all, privsep.User{Name: u.Name, Password: string(u.Password), NKey: u.NKey, Organisation: u.Organisation, Profile: u.Profile,
			Subject: n.subject, SAN: n.san, Key: n.key, Process: rule})
	}
	if c.Auth.Token != "" {
		all = append(all, privsep.User{Password: string(c.Auth.Token), Profile: c.Auth.TokenProfile})
	}
	for i := range all {
		all[i].Mark = userMark(&all[i])
		all[i].Set, all[i].Last = set, i == len(all)-1
	}
	return all
}

func userMark(u *privsep.User) uint64 {
	return markOf(u.Name, u.Password, u.NKey, u.Organisation, u.Profile, u.Subject, u.SAN, u.Key, fmt.Sprint(u.Process))
}

// markOf is the same as long as nothing of what it is of changes. It says nothing of
// that, since a hash has a salt.
func markOf(what ...string) uint64 {
	h := sha256.New()
	for _, s := range what {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return max(1, binary.LittleEndian.Uint64(h.Sum(nil)))
}
