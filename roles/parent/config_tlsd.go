package parent

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	users "os/user"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gatehouse/privsep"
)

// TLSDConfig is about TLS sessions to others that local processes share. Paths are as
// in TLSConfig.
type TLSDConfig struct {
	Socket string `toml:"socket"` // for local processes; "": there is no tlsd
	Shards int    `toml:"shards"` // processes that share the sessions among themselves
	Ports  []int  `toml:"ports"`  // that it may connect to
	CA     string `toml:"ca"`     // PEM: who says who a server is; "": systemCA

	// The certificate that servers are shown, and its key; "": none.
	Cert       string `toml:"cert"`
	Key        string `toml:"key"`
	UnlockFile string `toml:"unlock_file"`
	UnlockUser string `toml:"unlock_user"`

	MaxSessions int  `toml:"max_sessions"`
	MaxCallers  int  `toml:"max_callers"`
	UIDSessions int  `toml:"uid_sessions"` // of one uid, as the next two
	UIDCallers  int  `toml:"uid_callers"`
	UIDMemory   Size `toml:"uid_memory"`
}

// TLSSessionConfig is what sessions of a name are, and who may have them.
type TLSSessionConfig struct {
	Name      string   `toml:"name"`      // or the beginning of names, with * behind it
	Remote    string   `toml:"remote"`    // HOST:PORT
	Addresses []string `toml:"addresses"` // of HOST, if it is a name
	CA        string   `toml:"ca"`        // instead of tlsd.ca
	ALPN      []string `toml:"alpn"`      // that may be asked for; empty: anything
	Version   string   `toml:"min_version"`
	Show      bool     `toml:"client_certificate"`

	Open  []string `toml:"open"` // grants: who may make a session
	Read  []string `toml:"read"` // beside who has made it, as the next two
	Write []string `toml:"write"`
	Admin []string `toml:"admin"`

	Keep        bool          `toml:"keep"`
	IdleTimeout time.Duration `toml:"idle_timeout"`
	Revalidate  time.Duration `toml:"revalidate"` // 0: never
	MaxFrame    Size          `toml:"max_frame"`
}

func (s *TLSSessionConfig) setDefaults() {
	s.Version, s.IdleTimeout, s.Revalidate, s.MaxFrame = "1.2", 5*time.Minute, time.Hour, 1<<20
}

// systemCA is whom the system believes, where Debian and its kin have it.
const systemCA = "/etc/ssl/certs/ca-certificates.crt"

// alone tells whether there is nothing but a tlsd: no client can connect.
func (c *Config) alone() bool { return c.TLSD.Socket != "" && !c.listens() }

// leaveAlone takes away the listener that there is by default, where a file has a
// tlsd and says nothing of listeners.
func (c *Config) leaveAlone(keys *written) {
	if c.TLSD.Socket != "" && !keys.mentions("listen") {
		c.Listen.TCP = []string{}
	}
}

// looksAtCallers tells whether some right needs more of a caller than a uid or gid.
func (c *Config) looksAtCallers() bool {
	return c.TLSD.Socket != "" && slices.ContainsFunc(c.TLSSessions, func(s TLSSessionConfig) bool {
		return slices.ContainsFunc(slices.Concat(s.Open, s.Read, s.Write, s.Admin), func(grant string) bool { return strings.Contains(grant, ":") })
	})
}

func (c *Config) listens() bool { return len(c.Listen.TCP)+len(c.Listen.TLS)+len(c.Listen.Unix) > 0 }

// ports are those that tlsd may connect to.
func (c *Config) ports() (ports []uint16) {
	if c.TLSD.Socket == "" {
		return nil
	}
	for _, n := range c.TLSD.Ports {
		ports = append(ports, uint16(n))
	}
	return ports
}

// sharingPaths are the paths of files, to be made independent of where this one lies.
func (c *Config) sharingPaths() []*string {
	t := &c.TLSD
	paths := []*string{&t.CA, &t.Cert, &t.Key, &t.UnlockFile}
	for i := range c.TLSSessions {
		paths = append(paths, &c.TLSSessions[i].CA)
	}
	return paths
}

func (c *Config) checkTLSD() (faults []fault) {
	t := &c.TLSD
	add := func(broken bool, text string, keys ...string) {
		if broken {
			faults = append(faults, fault{text, keys})
		}
	}
	if t.Socket != "" {
		text := checkPath(t.Socket)
		for _, path := range c.Listen.Unix {
			if absolute(path) == absolute(t.Socket) {
				text = show(t.Socket) + " is a socket for clients, too"
			}
		}
		add(text != "", text, "tlsd.socket")
	}
	add(len(t.Ports) == 0, "there is none", "tlsd.ports")
	add(len(t.Ports) > privsep.MaxTLSPorts, fmt.Sprintf("are more than %d", privsep.MaxTLSPorts), "tlsd.ports")
	for _, n := range t.Ports {
		add(n < 1 || n > math.MaxUint16, fmt.Sprintf("%d is no port", n), "tlsd.ports")
	}
	add(t.Cert != "" && t.Key == "", "needs tlsd.key, its private key", "tlsd.cert")
	add(t.Key != "" && t.Cert == "", "means nothing without tlsd.cert", "tlsd.key")
	add(t.Key != "" && t.UnlockFile == "", "needs tlsd.unlock_file, whose first line decrypts it", "tlsd.key")
	add(len(c.TLSSessions) > privsep.MaxTLSPolicies, fmt.Sprintf("there are more than %d", privsep.MaxTLSPolicies),
		tableName("tls_session", privsep.MaxTLSPolicies))
	seen := map[string]bool{}
	for i := range c.TLSSessions {
		s, section := &c.TLSSessions[i], tableName("tls_session", i)
		fault := func(key, text string) { add(text != "", text, section+"."+key, section) }
		fault("name", checkSessionName(s.Name))
		if seen[s.Name] {
			fault("name", show(s.Name)+" is there twice")
		}
		seen[s.Name] = true
		c.checkTLSSession(s, fault)
	}
	return faults
}

func (c *Config) checkTLSSession(s *TLSSessionConfig, add func(key, text string)) {
	add("remote", c.checkRemote(s))
	add("addresses", checkList(s.Addresses, checkAddress))
	if n := len(s.Addresses); n > privsep.MaxTLSAddresses {
		add("addresses", fmt.Sprintf("are more than %d", privsep.MaxTLSAddresses))
	}
	add("alpn", checkList(s.ALPN, checkProtocol))
	if n := len(s.ALPN); n > privsep.MaxTLSProtocols {
		add("alpn", fmt.Sprintf("are more than %d", privsep.MaxTLSProtocols))
	}
	switch {
	case s.Version != "1.2" && s.Version != "1.3":
		add("min_version", show(s.Version)+" is not one of 1.2, 1.3")
	case s.Show && c.TLSD.Cert == "":
		add("client_certificate", "needs tlsd.cert, the certificate to show")
	case s.Show && s.Version != "1.3":
		add("client_certificate", `needs min_version = "1.3": the parent signs handshakes of TLS 1.3 only, which show it what they are`)
	}
	if len(s.Open) == 0 {
		add("open", "nobody may make such a session")
	}
	for key, list := range map[string][]string{"open": s.Open, "read": s.Read, "write": s.Write, "admin": s.Admin} {
		add(key, checkList(list, func(g string) string {
			if _, err := grantOf(g); err != nil {
				return err.Error()
			}
			return ""
		}))
		if len(list) > privsep.MaxTLSGrants {
			add(key, fmt.Sprintf("are more than %d", privsep.MaxTLSGrants))
		}
	}
	if s.IdleTimeout < time.Second || s.IdleTimeout > 30*24*time.Hour {
		add("idle_timeout", fmt.Sprintf("%v is not between 1s and 720h0m0s", s.IdleTimeout))
	}
	if s.Revalidate != 0 && s.Revalidate < time.Second || s.Revalidate > 30*24*time.Hour {
		add("revalidate", fmt.Sprintf("%v is neither 0s nor between 1s and 720h0m0s", s.Revalidate))
	}
	if s.MaxFrame < 1 || s.MaxFrame > privsep.MaxTLSFrame {
		add("max_frame", fmt.Sprintf("%v is not between 1 and %v", s.MaxFrame, Size(privsep.MaxTLSFrame)))
	}
	if n := len(s.policy().Append(nil)); n > privsep.MaxTLSPolicy {
		add("name", fmt.Sprintf("with all that belongs to it takes %d bytes, more than %d", n, privsep.MaxTLSPolicy))
	}
}

// checkSessionName allows what a caller can ask for, and a * at the end.
func checkSessionName(s string) string {
	name := strings.TrimSuffix(s, "*")
	switch {
	case s == "":
		return "is empty"
	case len(s) > privsep.MaxSettingsText:
		return fmt.Sprintf("is longer than %d bytes", privsep.MaxSettingsText)
	case strings.ContainsFunc(name, func(r rune) bool { return r == '*' || r <= ' ' || r > unicode.MaxASCII-1 }):
		return show(s) + " has something in it that no name of a session has: printable ASCII without blanks, and a * at the end for all that begin so"
	}
	return ""
}

// remote gives the two parts of Remote.
func (s *TLSSessionConfig) remote() (host string, port uint16, err error) {
	host, number, err := net.SplitHostPort(s.Remote)
	if err != nil {
		return "", 0, fmt.Errorf("%s is not HOST:PORT", show(s.Remote))
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%s has no port between 1 and 65535", show(s.Remote))
	}
	return host, uint16(n), nil
}

func (c *Config) checkRemote(s *TLSSessionConfig) string {
	host, port, err := s.remote()
	if err != nil {
		return err.Error()
	}
	_, err = netip.ParseAddr(host)
	switch {
	case host == "" || len(host) > privsep.MaxTLSHost || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII }):
		return show(s.Remote) + " has no host"
	case err != nil && len(s.Addresses) == 0:
		return show(host) + " is a name: its addresses belong under addresses, since tlsd asks no name server"
	case err == nil && len(s.Addresses) > 0:
		return show(host) + " is an address: there are no others"
	case !slices.Contains(c.TLSD.Ports, int(port)):
		return fmt.Sprintf("port %d is not one of tlsd.ports", port)
	}
	return ""
}

func checkAddress(s string) string {
	if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
		return show(s) + " is not an address"
	}
	return ""
}

func checkProtocol(s string) string {
	if s == "" || len(s) > math.MaxUint8 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII || r == ',' }) {
		return show(s) + " is not the name of a protocol"
	}
	return ""
}

// grantOf reads one entry of a list of who may: the name or number of a user, that of
// a group behind %, or * for everybody. Behind a colon may stand the path of what a user
// or a group must run. Names are looked up when the configuration is read.
func grantOf(s string) (g privsep.TLSGrant, err error) {
	who, path, by := strings.Cut(s, ":")
	switch {
	case s == "*":
		return privsep.TLSGrant{To: privsep.GrantAll}, nil
	case by && who == "*":
		return g, fmt.Errorf("%s needs a user or a group before the colon: whoever may run a program can make it do what he likes", show(s))
	case by:
		if checkExecutable(path) != nil {
			return g, fmt.Errorf("%s has behind its colon no whole path, from / on, without detours, of at most %d bytes", show(s), privsep.MaxExecutable)
		}
		g.Executable = path
	}
	name, group := strings.CutPrefix(who, "%")
	g.To = privsep.GrantUID
	if group {
		g.To = privsep.GrantGID
	}
	if name == "" {
		return g, fmt.Errorf("%s is nobody", show(s))
	}
	id := name
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		if id, err = idOf(name, group); err != nil {
			return g, fmt.Errorf("%s is neither a user, nor a group behind %%, nor *", show(s))
		}
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return g, fmt.Errorf("%s is nobody", show(s))
	}
	g.ID = uint32(n)
	return g, nil
}

func idOf(name string, group bool) (string, error) {
	if group {
		g, err := users.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	}
	u, err := users.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

// policy is the session as tlsd gets it, but for the certificates.
func (s *TLSSessionConfig) policy() *privsep.TLSPolicy {
	host, port, _ := s.remote()
	p := &privsep.TLSPolicy{Name: s.Name, Host: host, Port: port, Addresses: s.Addresses, ALPN: s.ALPN, MinTLS: 0x0303,
		Keep: s.Keep, IdleTimeout: s.IdleTimeout, Revalidate: s.Revalidate, MaxFrame: int(s.MaxFrame)}
	if len(p.Addresses) == 0 {
		p.Addresses = []string{host}
	}
	if s.Version == "1.3" {
		p.MinTLS = 0x0304
	}
	for _, l := range []struct {
		from []string
		to   *[]privsep.TLSGrant
	}{{s.Open, &p.Open}, {s.Read, &p.Read}, {s.Write, &p.Write}, {s.Admin, &p.Admin}} {
		for _, entry := range l.from {
			if g, err := grantOf(entry); err == nil {
				*l.to = append(*l.to, g)
			}
		}
	}
	return p
}
