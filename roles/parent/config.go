package parent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/BurntSushi/toml"
)

// DefaultPath is the configuration that is read when none is named.
const DefaultPath = "/etc/gatehouse/broker.toml"

// BuiltIn is the source that Find names when there is no configuration file.
const BuiltIn = "built-in defaults"

// Config is a broker's configuration as it stands in the file, with defaults
// for what the file leaves out. broker.toml.example explains each option.
// Effective fills in what depends on the host.
type Config struct {
	Environment EnvironmentConfig `toml:"environment"`
	Listen      ListenConfig      `toml:"listen"`
	TLS         TLSConfig         `toml:"tls"`
	Privsep     PrivsepConfig     `toml:"privsep"`
	CM          CMConfig          `toml:"cm"`
	Store       StoreConfig       `toml:"store"`
	Limits      LimitsConfig      `toml:"limits"`
	Modes       ModesConfig       `toml:"modes"`
	Auth        AuthConfig        `toml:"auth"`
	Transfer    TransferConfig    `toml:"transfer"`
	LDAP        LDAPConfig        `toml:"ldap"`
	TLSD        TLSDConfig        `toml:"tlsd"`
	Console     ConsoleConfig     `toml:"console"`
	Log         LogConfig         `toml:"log"`
	Profiles    []ProfileConfig   `toml:"profile,omitempty"`
	Users       []UserConfig      `toml:"user,omitempty"`
	Issuers     []IssuerConfig    `toml:"transfer_issuer,omitempty"`

	LDAPProfiles []LDAPProfileConfig `toml:"ldap_profile,omitempty"`
	TLSSessions  []TLSSessionConfig  `toml:"tls_session,omitempty"`
}

// EnvironmentConfig names this broker and the organisation's set that it is in.
type EnvironmentConfig struct {
	Name   string `toml:"name"`
	Broker string `toml:"broker"` // empty: the host's name
}

// ListenConfig says where clients connect. Anonymous is AnonymousLoopback or
// AnonymousAny; Profile is what those without credentials have, "": everything is
// allowed.
type ListenConfig struct {
	TCP            []string `toml:"tcp"` // ParseListen reads them
	TLS            []string `toml:"tls"` // the same
	HandshakeFirst bool     `toml:"handshake_first"`
	Unix           []string `toml:"unix"` // paths
	Anonymous      string   `toml:"anonymous"`
	Profile        string   `toml:"profile"`
}

// TLSConfig is the certificate that TLS listeners show, and what guards its
// key. Paths of a file are relative to the file's folder.
type TLSConfig struct {
	Cert       string `toml:"cert"`        // PEM, the server's own first
	Key        string `toml:"key"`         // encrypted PKCS#8
	UnlockFile string `toml:"unlock_file"` // its first line decrypts the key
	UnlockUser string `toml:"unlock_user"` // who reads it; empty: we
	KeyUse     string `toml:"key_use"`     // KeyUseSign or KeyUseRelease
	MinVersion string `toml:"min_version"` // "1.3" or "1.2"
	ClientAuth string `toml:"client_auth"` // "none", "request" or "require"
	ClientCA   string `toml:"client_ca"`   // PEM
	SignRate   int    `toml:"sign_rate"`   // per second and cm
}

// Where the private key is used.
const (
	KeyUseSign    = "sign"
	KeyUseRelease = "release"
)

// Who may connect where there are no credentials.
const (
	AnonymousLoopback = "loopback"
	AnonymousAny      = "any"
)

// PrivsepConfig says where the parent keeps its files and which uids the
// components get: UIDBase and those that follow it.
type PrivsepConfig struct {
	RuntimeDir string `toml:"runtime_dir"` // empty: /run/gatehouse as root, ./run otherwise
	UIDBase    int    `toml:"uid_base"`
	Seccomp    string `toml:"seccomp"` // SeccompKill or SeccompTrap
}

// CMConfig sets up the connection managers.
type CMConfig struct {
	Count int `toml:"count"` // 0: one per two processors
}

// StoreConfig sizes the shared memory.
type StoreConfig struct {
	Arena   Size `toml:"arena"`   // message bodies of each connection manager
	Ring    Size `toml:"ring"`    // each of the two rings between it and the router
	Journal Size `toml:"journal"` // the router's state, of which it uses half at a time
}

// LimitsConfig bounds what clients can use. Zero means no limit for
// MaxSubscriptions, ConnectRate and AddressConns; ConnectBurst zero means ConnectRate.
type LimitsConfig struct {
	MaxPayload       Size          `toml:"max_payload"`
	MaxControlLine   Size          `toml:"max_control_line"`
	MaxConnections   int           `toml:"max_connections"`
	MaxSubscriptions int           `toml:"max_subscriptions"` // per connection
	MaxPending       Size          `toml:"max_pending"`       // per connection
	AuthTimeout      time.Duration `toml:"auth_timeout"`
	PingInterval     time.Duration `toml:"ping_interval"`
	PingMax          int           `toml:"ping_max"`
	WriteDeadline    time.Duration `toml:"write_deadline"`
	StallTimeout     time.Duration `toml:"stall_timeout"`
	DrainTimeout     time.Duration `toml:"drain_timeout"`
	OrphanGrace      time.Duration `toml:"orphan_grace"`
	ConnectRate      int           `toml:"connect_rate"` // per second and address
	ConnectBurst     int           `toml:"connect_burst"`
	AddressConns     int           `toml:"address_connections"` // at a time
}

// LogConfig chooses what is logged and how: level debug, info, warn or error;
// format auto, text or json; audit AuditStderr, a path, or "": no audit log.
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
	Audit  string `toml:"audit"`
}

// builtIn is the configuration of a broker that has no file: the defaults, and
// a TLS listener with a certificate for development, and a console for a browser.
func builtIn() *Config {
	cfg := Defaults()
	cfg.Listen.TLS = []string{"127.0.0.1:4443"}
	cfg.Console.TCP = []string{"127.0.0.1:8222"}
	return cfg
}

// Defaults is what a configuration file leaves out.
func Defaults() *Config {
	return &Config{
		Environment: EnvironmentConfig{Name: "local"},
		Listen:      ListenConfig{TCP: []string{"127.0.0.1:4222"}, TLS: []string{}, Unix: []string{}, Anonymous: AnonymousLoopback},
		TLS:         TLSConfig{KeyUse: KeyUseSign, MinVersion: "1.3", ClientAuth: "none", SignRate: 5000},
		Privsep:     PrivsepConfig{UIDBase: 61100, Seccomp: SeccompKill},
		Store:       StoreConfig{Arena: 64 << 20, Ring: 4 << 20, Journal: 1 << 30},
		Limits: LimitsConfig{
			MaxPayload:     1 << 20,
			MaxControlLine: 4 << 10,
			MaxConnections: 65536,
			MaxPending:     64 << 20,
			AuthTimeout:    2 * time.Second,
			PingInterval:   2 * time.Minute,
			PingMax:        2,
			WriteDeadline:  10 * time.Second,
			StallTimeout:   10 * time.Second,
			DrainTimeout:   30 * time.Second,
			OrphanGrace:    time.Minute,
		},
		Modes:    ModesConfig{RequestTimeout: 30 * time.Second, SessionIdle: 5 * time.Minute, DuplicateInstance: DuplicateRefuse},
		Auth:     AuthConfig{X509Approved: []string{}, X509CRL: []string{}, Memory: 256 << 20, FailureRate: 2, FailureBurst: 10, Backoff: time.Minute},
		Transfer: TransferConfig{Rate: 100},
		LDAP:     LDAPConfig{URLs: []string{}, Organisations: []string{}, Timeout: time.Second, Connections: 4},
		TLSD:     TLSDConfig{Shards: 1, Ports: []int{443}, MaxSessions: 1024, MaxCallers: 4096, UIDSessions: 256, UIDCallers: 1024, UIDMemory: 64 << 20},
		Console:  ConsoleConfig{Unix: consoleSocket, TCP: []string{}, Names: []string{}},
		Log:      LogConfig{Level: "info", Format: "auto"},
	}
}

// Find loads the configuration at explicit or, when that is empty, the one at
// DefaultPath; where that is missing too it gives the built-in one. source is the path
// or BuiltIn.
func Find(explicit string) (cfg *Config, source string, err error) {
	return find(explicit, DefaultPath)
}

func find(explicit, standard string) (*Config, string, error) {
	if explicit != "" {
		cfg, err := Load(explicit)
		return cfg, explicit, err
	}
	cfg, err := Load(standard)
	if errors.Is(err, fs.ErrNotExist) {
		return builtIn(), BuiltIn, nil
	}
	return cfg, standard, err
}

// Effective returns a copy with everything filled in that the file leaves to
// the host: names, paths made absolute, counts, and sizes rounded up to the
// powers of two that shared memory needs. c must be valid.
func (c *Config) Effective() *Config {
	e := *c
	if e.Environment.Broker == "" {
		e.Environment.Broker = hostName()
	}
	e.Listen.TCP, e.Listen.TLS = canonical(c.Listen.TCP), canonical(c.Listen.TLS)
	e.Listen.Unix = slices.Clone(c.Listen.Unix)
	for i, path := range e.Listen.Unix {
		e.Listen.Unix[i] = absolute(path)
	}
	e.Privsep.RuntimeDir = absolute(runtimeDir(c.Privsep.RuntimeDir, os.Geteuid()))
	if e.CM.Count == 0 {
		e.CM.Count = min(max(1, runtime.NumCPU()/2), MaxCMs)
	}
	e.Store.Arena = e.Store.Arena.powerOfTwo()
	e.Store.Ring = e.Store.Ring.powerOfTwo()
	e.Store.Journal = e.Store.Journal.powerOfTwo()
	if e.Limits.ConnectBurst == 0 {
		e.Limits.ConnectBurst = e.Limits.ConnectRate
	}
	if e.Auth.Hashes == 0 {
		e.Auth.Hashes = max(1, runtime.NumCPU()/2)
	}
	e.Auth.X509Approved, e.Auth.X509CRL = slices.Clone(c.Auth.X509Approved), slices.Clone(c.Auth.X509CRL)
	e.LDAP.URLs, e.LDAP.Organisations = slices.Clone(c.LDAP.URLs), slices.Clone(c.LDAP.Organisations)
	e.Users, e.Issuers, e.LDAPProfiles = slices.Clone(c.Users), slices.Clone(c.Issuers), slices.Clone(c.LDAPProfiles)
	if c.TLSD.Socket != "" {
		e.TLSD.Socket = absolute(c.TLSD.Socket)
	}
	e.TLSD.Ports, e.TLSSessions = slices.Clone(c.TLSD.Ports), slices.Clone(c.TLSSessions)
	e.Console = c.Console.effective(e.Privsep.RuntimeDir)
	e.Profiles = slices.Clone(c.Profiles)
	for i, p := range e.Profiles {
		e.Profiles[i] = p.effective()
	}
	return &e
}

func canonical(addrs []string) []string {
	out := slices.Clone(addrs)
	for i, addr := range out {
		if ap, err := ParseListen(addr); err == nil {
			out[i] = ap.String()
		}
	}
	return out
}

// TOML writes the configuration so that Load gives an equal one.
func (c *Config) TOML() ([]byte, error) {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return b.Bytes(), nil
}

// hostName falls back to a fixed word: a name that is too odd for INFO must
// not keep the broker from starting.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || checkName(name) != "" {
		return "gatehouse"
	}
	return name
}

func runtimeDir(configured string, euid int) string {
	switch {
	case configured != "":
		return configured
	case euid == 0:
		return "/run/gatehouse"
	default:
		return "run"
	}
}

// absolute makes a path independent of later changes of folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
