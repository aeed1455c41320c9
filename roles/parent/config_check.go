package parent

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gatehouse/privsep"
	"gatehouse/store"
)

// MaxCMs is the largest number of connection managers: each has two places.
const MaxCMs = store.MaxCMs / 2

// maxConnectLine is the bound of a CONNECT line, in bytes. It travels as one
// ring record, and a record may take a quarter of its ring.
const maxConnectLine = 64 << 10

// uidsUsed is how many uids from uid_base on the components may take.
const uidsUsed = 84

// maxUnixPath is what sun_path holds without its closing zero byte.
const maxUnixPath = 107

// bounds of every number, both ends allowed.
var bounds = []struct {
	section, key string
	least, most  int64
}{
	{"tls", "sign_rate", 10, 10000},
	{"privsep", "uid_base", 1, math.MaxInt32 - uidsUsed},
	{"cm", "count", 0, MaxCMs},
	{"store", "arena", 64 << 10, 2 << 30},
	{"store", "ring", 8 * maxConnectLine, 1 << 30},
	{"store", "journal", 16 << 20, 64 << 30},
	{"limits", "max_payload", 1, 512 << 20},
	{"limits", "max_control_line", 64, maxConnectLine},
	{"limits", "max_connections", 1, 1 << 20},
	{"limits", "max_subscriptions", 0, math.MaxInt32},
	{"limits", "max_pending", 1 << 10, 1 << 40},
	{"limits", "auth_timeout", int64(time.Millisecond), int64(time.Hour)},
	{"limits", "ping_interval", int64(time.Millisecond), int64(24 * time.Hour)},
	{"limits", "ping_max", 1, 1000},
	{"limits", "write_deadline", int64(time.Millisecond), int64(time.Hour)},
	{"limits", "stall_timeout", int64(100 * time.Millisecond), int64(time.Hour)},
	{"limits", "drain_timeout", 0, int64(24 * time.Hour)},
	{"limits", "orphan_grace", 0, int64(24 * time.Hour)},
	{"limits", "connect_rate", 0, 1 << 20},
	{"limits", "connect_burst", 0, 1 << 20},
	{"limits", "address_connections", 0, 1 << 20},
	{"modes", "request_timeout", int64(time.Millisecond), int64(24 * time.Hour)},
	{"auth", "hashes", 0, 1 << 10},
	{"auth", "memory", 1 << 20, 64 << 30},
	{"auth", "failure_rate", 1, 1 << 20},
	{"auth", "failure_burst", 1, 1 << 20},
	{"auth", "backoff", int64(time.Second), int64(time.Hour)},
	{"transfer", "rate", 1, 1000},
	{"ldap", "timeout", int64(10 * time.Millisecond), int64(time.Hour)},
	{"ldap", "connections", 1, privsep.MaxDirectoryLinks},
	{"tlsd", "shards", 1, privsep.MaxTLSShards},
	{"tlsd", "max_sessions", 1, 1 << 16},
	{"tlsd", "max_callers", 1, 1 << 16},
	{"tlsd", "uid_sessions", 1, 1 << 16},
	{"tlsd", "uid_callers", 1, 1 << 16},
	{"tlsd", "uid_memory", 64 << 10, 64 << 30},
	{"modes", "session_idle", int64(time.Millisecond), int64(30 * 24 * time.Hour)},
}

// words are the options that take one of a few values.
var words = []struct {
	section, key string
	allowed      []string
}{
	{"listen", "anonymous", []string{AnonymousLoopback, AnonymousAny}},
	{"tls", "key_use", []string{KeyUseSign, KeyUseRelease}},
	{"tls", "min_version", []string{"1.3", "1.2"}},
	{"tls", "client_auth", []string{"none", "request", "require"}},
	{"privsep", "seccomp", []string{SeccompKill, SeccompTrap}},
	{"modes", "duplicate_instance", []string{DuplicateRefuse, DuplicateReplace}},
	{"log", "level", []string{"debug", "info", "warn", "error"}},
	{"log", "format", []string{"auto", "text", "json"}},
}

// fault is a broken rule and the options that it ties together, the likeliest
// culprit first.
type fault struct {
	text string
	keys []string
}

// Validate checks every value and the relations between them; Load has done
// so. The error is a *ConfigError.
func (c *Config) Validate() error { return c.check(nil) }

// check names the key that was written, since that is the one somebody wrote,
// and among several faults the one that comes first in the file.
func (c *Config) check(keys *written) error {
	var first *ConfigError
	for _, f := range slices.Concat(c.checkBounds(), c.checkWords(), c.checkNames(), c.checkListen(), c.checkTLS(), c.checkRelations(), c.checkProfiles(), c.checkUsers(), c.checkApproval(), c.checkTransfer(), c.checkLDAP(), c.checkTLSD(), c.checkConsole(), c.checkLog()) {
		e := &ConfigError{Key: shown(f.keys[0]), Text: f.text}
		for _, key := range f.keys {
			if line := keys.line(key); line > 0 {
				e.Key, e.Line = shown(key), line
				break
			}
		}
		if first == nil || e.Line > 0 && (first.Line == 0 || e.Line < first.Line) {
			first = e
		}
	}
	if first == nil {
		return nil
	}
	return first
}

func (c *Config) checkBounds() (faults []fault) {
	options := c.options()
	for _, b := range bounds {
		if text := outside(options[b.section][b.key], b.least, b.most); text != "" {
			faults = append(faults, fault{text, []string{b.section + "." + b.key}})
		}
	}
	return faults
}

// outside says that a number is, "" if it is not.
func outside(v reflect.Value, least, most int64) string {
	if n := v.Int(); n >= least && n <= most {
		return ""
	}
	return fmt.Sprintf("%v is not between %v and %v", v, like(v, least), like(v, most))
}

// like gives n the type of v, so that it prints as v does.
func like(v reflect.Value, n int64) any {
	return reflect.ValueOf(n).Convert(v.Type()).Interface()
}

func (c *Config) checkWords() (faults []fault) {
	options := c.options()
	for _, w := range words {
		if v := options[w.section][w.key].String(); !slices.Contains(w.allowed, v) {
			text := fmt.Sprintf("%s is not one of %s", show(v), strings.Join(w.allowed, ", "))
			faults = append(faults, fault{text, []string{w.section + "." + w.key}})
		}
	}
	return faults
}

func (c *Config) checkNames() (faults []fault) {
	if text := checkName(c.Environment.Name); text != "" {
		faults = append(faults, fault{text, []string{"environment.name"}})
	}
	if b := c.Environment.Broker; b != "" {
		if text := checkName(b); text != "" {
			faults = append(faults, fault{text, []string{"environment.broker"}})
		}
	}
	if dir := c.Privsep.RuntimeDir; dir != "" {
		if text := checkPath(filepath.Join(dir, longestDoor)); text != "" {
			faults = append(faults, fault{text, []string{"privsep.runtime_dir"}})
		}
	}
	return faults
}

// checkName allows what fits in INFO, a log line and a signed statement.
func checkName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > 128:
		return "is longer than 128 bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }):
		return show(s) + " has a space or a character that cannot be printed"
	}
	return ""
}

func checkPath(s string) string {
	switch {
	case s == "":
		return "is empty"
	case strings.HasPrefix(s, "@"):
		return show(s) + " is an abstract socket, which no file mode protects: write a path"
	case strings.ContainsFunc(s, unicode.IsControl):
		return show(s) + " has a control character"
	case len(absolute(s)) > maxUnixPath:
		return fmt.Sprintf("%s is longer than the %d bytes of a socket's path", show(s), maxUnixPath)
	}
	return ""
}

// ParseListen reads an address of listen.tcp: IP:PORT, [IPv6]:PORT,
// localhost:PORT (127.0.0.1), or :PORT (every address). Names are refused: what
// is listened on must not depend on a name server.
func ParseListen(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not IP:PORT", show(addr))
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "::"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not IP:PORT (write an address, not a name)", show(addr))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s has no port between 0 and 65535", show(addr))
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

func (c *Config) checkListen() (faults []fault) {
	seen := map[string]bool{}
	add := func(key, text string) { faults = append(faults, fault{text, []string{key, "listen.anonymous"}}) }
	open := c.Listen.Anonymous == AnonymousAny || c.credentials() != 0
	addresses := func(key string, addrs []string, open bool) {
		for _, addr := range addrs {
			ap, err := ParseListen(addr)
			switch {
			case err != nil:
				add(key, err.Error())
			case ap.Port() != 0 && seen[ap.String()]:
				add(key, show(addr)+" is there twice")
			case !open && !ap.Addr().Unmap().IsLoopback():
				add(key, show(addr)+` is not a loopback address and clients need no credentials: listen on 127.0.0.1, or allow it with listen.anonymous = "any"`)
			}
			seen[ap.String()] = true
		}
	}
	addresses("listen.tcp", c.Listen.TCP, open)
	// A client certificate is a credential.
	addresses("listen.tls", c.Listen.TLS, open || c.TLS.ClientAuth == "require")
	for _, path := range c.Listen.Unix {
		text := checkPath(path)
		if text == "" && seen[absolute(path)] {
			text = show(path) + " is there twice"
		}
		if text != "" {
			add("listen.unix", text)
		}
		seen[absolute(path)] = true
	}
	if !c.listens() && c.TLSD.Socket == "" {
		faults = append(faults, fault{"there is no address to listen on", []string{"listen.tcp", "listen.unix"}})
	}
	return faults
}

func (c *Config) checkLog() []fault {
	text, to := "", c.Log.Audit
	switch {
	case to == "" || to == AuditStderr:
	case !filepath.IsAbs(to):
		text = fmt.Sprintf("%s is neither %q nor a path from / on", show(to), AuditStderr)
	case strings.ContainsFunc(to, unicode.IsControl):
		text = show(to) + " has a control character"
	}
	if text == "" {
		return nil
	}
	return []fault{{text, []string{"log.audit"}}}
}

// checkTLS says what belongs together; the files are read at the start.
func (c *Config) checkTLS() (faults []fault) {
	t := &c.TLS
	add := func(broken bool, text string, keys ...string) {
		if broken {
			faults = append(faults, fault{text, keys})
		}
	}
	if len(c.Listen.TLS) > 0 {
		add(t.Cert == "", "needs tls.cert, the certificate to show", "listen.tls")
		add(t.Key == "", "needs tls.key, the private key of tls.cert", "listen.tls")
		add(t.Key != "" && t.UnlockFile == "", "needs tls.unlock_file, whose first line decrypts it", "tls.key")
	}
	add(t.ClientAuth != "none" && t.ClientCA == "", "needs tls.client_ca, which signs the certificates of clients", "tls.client_auth")
	add(t.MinVersion == "1.2" && t.KeyUse != KeyUseRelease,
		`tls.min_version = "1.2" needs tls.key_use = "release": the parent signs handshakes of TLS 1.3 only, which show it what they are`,
		"tls.min_version", "tls.key_use")
	return faults
}

// foreignUIDs are nobody and the uid that old interfaces take for "none": no
// component may be one of them.
var foreignUIDs = []int{65534, 65535}

// sessionState is what the journal must have for each connection, in bytes.
const sessionState = 1 << 10

func (c *Config) checkRelations() (faults []fault) {
	l, s := &c.Limits, &c.Store
	add := func(broken bool, text string, keys ...string) {
		if broken {
			faults = append(faults, fault{text, keys})
		}
	}
	add(s.Arena < 4*l.MaxPayload,
		fmt.Sprintf("store.arena (%v) must be at least 4 times limits.max_payload (%v)", s.Arena, l.MaxPayload),
		"store.arena", "limits.max_payload")
	// A message to one subscriber takes two control lines and some, and a record
	// may take a quarter of its ring.
	add(s.Ring < 16*l.MaxControlLine,
		fmt.Sprintf("store.ring (%v) must be at least 16 times limits.max_control_line (%v)", s.Ring, l.MaxControlLine),
		"store.ring", "limits.max_control_line")
	// The state of the sessions is at most a sixth of the journal, and half of that
	// is for subscriptions.
	add(int64(s.Journal) < sessionState*int64(l.MaxConnections),
		fmt.Sprintf("store.journal (%v) must be at least %v for each of limits.max_connections (%d)", s.Journal, Size(sessionState), l.MaxConnections),
		"store.journal", "limits.max_connections")
	add(l.MaxPending < l.MaxPayload,
		fmt.Sprintf("limits.max_pending (%v) must be at least limits.max_payload (%v)", l.MaxPending, l.MaxPayload),
		"limits.max_pending", "limits.max_payload")
	add(l.ConnectBurst > 0 && l.ConnectRate == 0,
		"limits.connect_burst means nothing without limits.connect_rate",
		"limits.connect_burst")
	for _, uid := range foreignUIDs {
		base := c.Privsep.UIDBase
		add(base <= uid && uid < base+uidsUsed,
			fmt.Sprintf("the %d uids from %d on include %d, which is nobody's", uidsUsed, base, uid),
			"privsep.uid_base")
	}
	return faults
}
