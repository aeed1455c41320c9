package parent

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gatehouse/privsep"
)

// when says from when on a changed option holds.
type when bool

const (
	atStart when = false // shared memory, processes and names are made from it
	atOnce  when = true  // SIGHUP; broker.toml.example marks those of the other kind
)

// liveness says of every option of the configuration, and of every list of tables
// as a whole, when a new value of it takes effect. What holds at the start only is
// what a running role cannot be told any more: whoever takes over running roles must
// have the same.
var liveness = []struct {
	section, key string
	from         when
}{
	{"environment", "name", atStart},
	{"environment", "broker", atStart},
	{"listen", "tcp", atOnce},
	{"listen", "tls", atOnce},
	{"listen", "handshake_first", atOnce},
	{"listen", "unix", atOnce},
	{"listen", "anonymous", atOnce},
	{"listen", "profile", atOnce},
	{"tls", "cert", atOnce},
	{"tls", "key", atOnce},
	{"tls", "unlock_file", atOnce},
	{"tls", "unlock_user", atOnce},
	{"tls", "key_use", atStart}, // where keys are is never changed behind anybody's back
	{"tls", "min_version", atOnce},
	{"tls", "client_auth", atOnce},
	{"tls", "client_ca", atOnce},
	{"tls", "sign_rate", atOnce},
	{"privsep", "runtime_dir", atStart},
	{"privsep", "uid_base", atStart},
	{"privsep", "seccomp", atStart},
	{"cm", "count", atStart},
	{"store", "arena", atStart},
	{"store", "ring", atStart},
	{"store", "journal", atStart},
	{"limits", "max_payload", atOnce},
	{"limits", "max_control_line", atStart}, // the router's room for answers, and its state's for subscriptions
	{"limits", "max_connections", atStart},  // rows of the connection table
	{"limits", "max_subscriptions", atOnce},
	{"limits", "max_pending", atOnce},
	{"limits", "auth_timeout", atOnce},
	{"limits", "ping_interval", atOnce},
	{"limits", "ping_max", atOnce},
	{"limits", "write_deadline", atOnce},
	{"limits", "stall_timeout", atOnce},
	{"limits", "orphan_grace", atOnce},
	{"limits", "drain_timeout", atOnce},
	{"limits", "connect_rate", atOnce},
	{"limits", "connect_burst", atOnce},
	{"limits", "address_connections", atOnce},
	{"modes", "request_timeout", atOnce},
	{"modes", "session_idle", atOnce},
	{"modes", "duplicate_instance", atOnce},
	{"auth", "token", atOnce},
	{"auth", "token_profile", atOnce},
	{"auth", "x509_approved", atOnce},
	{"auth", "x509_crl", atOnce},
	{"auth", "hashes", atOnce},
	{"auth", "memory", atOnce},
	{"auth", "failure_rate", atOnce},
	{"auth", "failure_burst", atOnce},
	{"auth", "backoff", atOnce},
	{"transfer", "key", atOnce},
	{"transfer", "unlock_file", atOnce},
	{"transfer", "unlock_user", atOnce},
	{"transfer", "rate", atOnce},
	{"ldap", "urls", atOnce},
	{"ldap", "ca", atOnce},
	{"ldap", "server_name", atOnce},
	{"ldap", "user_dn", atOnce},
	{"ldap", "base", atOnce},
	{"ldap", "filter", atOnce},
	{"ldap", "bind_dn", atOnce},
	{"ldap", "bind_password_file", atOnce},
	{"ldap", "bind_password_user", atOnce},
	{"ldap", "organisation_attribute", atOnce},
	{"ldap", "organisations", atOnce},
	{"ldap", "profile_attribute", atOnce},
	{"ldap", "profile", atOnce},
	{"ldap", "timeout", atOnce},
	{"ldap", "connections", atOnce},
	{"tlsd", "socket", atStart},
	{"tlsd", "shards", atStart},
	{"tlsd", "ports", atStart}, // its walls are made by them
	{"tlsd", "ca", atOnce},
	{"tlsd", "cert", atOnce},
	{"tlsd", "key", atOnce},
	{"tlsd", "unlock_file", atOnce},
	{"tlsd", "unlock_user", atOnce},
	{"tlsd", "max_sessions", atOnce},
	{"tlsd", "max_callers", atOnce},
	{"tlsd", "uid_sessions", atOnce},
	{"tlsd", "uid_callers", atOnce},
	{"tlsd", "uid_memory", atOnce},
	{"console", "unix", atOnce},
	{"console", "tcp", atOnce},
	{"console", "remote", atOnce},
	{"console", "names", atOnce},
	{"log", "level", atOnce},
	{"log", "format", atOnce},
	{"log", "audit", atOnce},
	{"profile", "", atOnce}, // a list of tables has no key
	{"user", "", atOnce},
	{"transfer_issuer", "", atOnce},
	{"ldap_profile", "", atOnce},
	{"tls_session", "", atOnce},
}

// difference is an option whose value in the file is not the one that runs.
type difference struct {
	key           string
	running, file string
}

// differences compares two effective configurations: what can be changed while
// they run, and what cannot.
func differences(running, file *Config) (live, held []difference) {
	have, want := running.options(), file.options()
	for _, o := range liveness {
		a, b := have[o.section][o.key], want[o.section][o.key]
		var changed []difference
		switch {
		case o.key == "":
			changed = changedTables(o.section, a, b)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			changed = []difference{{o.section + "." + o.key, valueText(a), valueText(b)}}
		}
		if o.from == atOnce {
			live = append(live, changed...)
		} else {
			held = append(held, changed...)
		}
	}
	return live, held
}

// takeLive gives a copy of c with the options of file that can change while it
// runs.
func (c *Config) takeLive(file *Config) *Config {
	e := *c
	have, want := e.options(), file.options()
	for _, o := range liveness {
		if o.from == atOnce {
			have[o.section][o.key].Set(want[o.section][o.key])
		}
	}
	return &e
}

// frozen lists the options that hold from the start on, "key = value": what two
// parents must agree in if one is to take over the roles of the other.
func (c *Config) frozen() []string {
	var lines []string
	options := c.options()
	for _, o := range liveness {
		if o.from == atStart {
			lines = append(lines, o.section+"."+o.key+" = "+valueText(options[o.section][o.key]))
		}
	}
	return lines
}

// startOnly lists the same without their values: what cannot change now is not to be
// blamed for what the rest of a file does not go with.
func startOnly() (places []string) {
	for _, o := range liveness {
		if o.from == atStart {
			places = append(places, o.section+"."+o.key)
		}
	}
	return places
}

func valueText(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case string:
		return show(v)
	case []string:
		all := make([]string, len(v))
		for i, s := range v {
			all[i] = show(s)
		}
		return "[" + strings.Join(all, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

func keysOf(ds []difference) string {
	keys := make([]string, len(ds))
	for i, d := range ds {
		keys[i] = d.key
	}
	return strings.Join(keys, ",")
}

// liveSettings is what of the configuration the roles take over at any time.
func (p *parent) liveSettings(c *Config) privsep.Live {
	l := &c.Limits
	p.mostPayload = max(p.mostPayload, l.MaxPayload)
	s := privsep.Live{
		MaxPayload: int(l.MaxPayload), MaxPending: int(l.MaxPending), MaxSubscriptions: l.MaxSubscriptions,
		AuthTimeout: l.AuthTimeout, PingInterval: l.PingInterval, PingMax: l.PingMax,
		WriteDeadline: l.WriteDeadline, StallTimeout: l.StallTimeout,
		OrphanGrace: l.OrphanGrace, DrainTimeout: l.DrainTimeout,
		ConnectRate: l.ConnectRate, ConnectBurst: l.ConnectBurst, AddressConns: l.AddressConns,
		LogLevel: privsep.ParseLevel(c.Log.Level), TLS: tlsSettings(c),
		MostPayload:    int(p.mostPayload),
		RequestTimeout: c.Modes.RequestTimeout, SessionIdle: c.Modes.SessionIdle,
		ReplaceInstance: c.Modes.DuplicateInstance == DuplicateReplace, AnonymousProfile: c.Listen.Profile,
		Auth: c.credentials() != 0,
		Login: privsep.LoginSettings{Kinds: c.credentials(), Hashes: c.Auth.Hashes, Memory: int(c.Auth.Memory),
			FailureRate: c.Auth.FailureRate, FailureBurst: c.Auth.FailureBurst, Backoff: c.Auth.Backoff},
		TLSD: privsep.TLSDSettings{MaxSessions: c.TLSD.MaxSessions, MaxCallers: c.TLSD.MaxCallers,
			UIDSessions: c.TLSD.UIDSessions, UIDCallers: c.TLSD.UIDCallers, UIDMemory: int(c.TLSD.UIDMemory)},
		ConsoleNames: c.Console.Names,
		System:       slices.ContainsFunc(c.Profiles, func(f ProfileConfig) bool { return f.System }),
		Audit:        c.Log.Audit != "",
	}
	for _, b := range p.listeners {
		if b.host != "" && b.acceptor() == privsep.RoleDispatcher {
			s.Host, s.Port = b.host, b.port
			break
		}
	}
	return s
}
