package privsep

import "time"

// Settings is what of the configuration a role may know, the payload of CONFIG.
// What can change while the role runs is in Live.
type Settings struct {
	Live
	MaxControlLine int // bytes, as the sizes below
	MaxConnections int
	CMs            int // places for connection managers
	Serving        int // how many of them take connections at a time
	Arena          int
	Ring           int
	Journal        int
	Environment    string // this and the following: at most MaxSettingsText
	Broker         string
	Version        string
	ServerID       string
	Root           string   // directory to be confined to, "" without root
	TLSPorts       []uint16 // that tlsd may connect to
	Release        bool     // a cm's private key comes by KEY; otherwise the parent signs
	Trap           bool     // a forbidden system call ends the role with a trace
}

// The console's connections are beyond MaxConnections, since it is no client: one, and
// for a while those before it. They are of no listener.
const (
	SystemPlaces   = 4
	SystemListener = 1<<16 - 1
)

// Places is how many rows the connection table has.
func (p *Settings) Places() int { return p.MaxConnections + SystemPlaces }

func (p *Settings) fields(c *coder) {
	p.Live.fields(c)
	c.number(&p.MaxControlLine)
	c.number(&p.MaxConnections)
	c.number(&p.CMs)
	c.number(&p.Serving)
	c.number(&p.Arena)
	c.number(&p.Ring)
	c.number(&p.Journal)
	c.text(&p.Environment, MaxSettingsText)
	c.text(&p.Broker, MaxSettingsText)
	c.text(&p.Version, MaxSettingsText)
	c.text(&p.ServerID, MaxSettingsText)
	c.text(&p.Root, MaxAddressText)
	c.ports(&p.TLSPorts)
	c.flag(&p.Release)
	c.flag(&p.Trap)
}

// Live is what a role takes over in the middle of its work, the payload of
// SETTINGS. Sizes are in bytes; 0 means no limit where the configuration says so.
type Live struct {
	MaxPayload       int
	MaxPending       int
	MaxSubscriptions int
	AuthTimeout      time.Duration
	PingInterval     time.Duration
	PingMax          int
	WriteDeadline    time.Duration
	StallTimeout     time.Duration
	OrphanGrace      time.Duration // how long to go on without a parent
	DrainTimeout     time.Duration // how long to finish, after that
	ConnectRate      int           // connections per second and address
	ConnectBurst     int
	AddressConns     int    // connections at a time from one address
	LogLevel         Level  // lines below it need not be sent
	Host             string // that clients are told, with Port; at most MaxSettingsText
	Port             int
	TLS              TLSSettings
	// MostPayload is the largest MaxPayload since the broker started: what a ring
	// still holds may come from then.
	MostPayload int
	// What follows is for the modes and for who a client is.
	RequestTimeout   time.Duration // an outstanding request counts as lost then
	SessionIdle      time.Duration // an unused session affinity ends then
	ReplaceInstance  bool          // a second instance of a name ends the first one; otherwise it is refused
	Auth             bool          // clients must log in
	AnonymousProfile string        // of those who need not, "": everything is allowed; at most MaxSettingsText
	Login            LoginSettings
	TLSD             TLSDSettings
	ConsoleNames     []string // hosts that the console answers for, at most MaxConsoleNames of MaxConsoleName
	System           bool     // some clients may ask for the state of the broker
	Audit            bool     // somebody wants to hear of logins, and of what is not permitted (AUDIT)
}

// Bounds of ConsoleNames.
const (
	MaxConsoleNames = 8
	MaxConsoleName  = 255
)

func (p *Live) fields(c *coder) {
	c.number(&p.MaxPayload)
	c.number(&p.MaxPending)
	c.number(&p.MaxSubscriptions)
	c.duration(&p.AuthTimeout)
	c.duration(&p.PingInterval)
	c.number(&p.PingMax)
	c.duration(&p.WriteDeadline)
	c.duration(&p.StallTimeout)
	c.duration(&p.OrphanGrace)
	c.duration(&p.DrainTimeout)
	c.number(&p.ConnectRate)
	c.number(&p.ConnectBurst)
	c.number(&p.AddressConns)
	c.u8((*uint8)(&p.LogLevel))
	c.check(p.LogLevel < numLevels)
	c.text(&p.Host, MaxSettingsText)
	c.number(&p.Port)
	p.TLS.fields(c)
	c.number(&p.MostPayload)
	c.duration(&p.RequestTimeout)
	c.duration(&p.SessionIdle)
	c.flag(&p.ReplaceInstance)
	c.flag(&p.Auth)
	c.text(&p.AnonymousProfile, MaxSettingsText)
	p.Login.fields(c)
	p.TLSD.fields(c)
	c.texts(&p.ConsoleNames, MaxConsoleNames, MaxConsoleName)
	c.flag(&p.System)
	c.flag(&p.Audit)
}

// TLSSettings is what a cm needs for its TLS listeners beside certificate and
// key.
type TLSSettings struct {
	HandshakeFirst bool       // before INFO
	Min            uint16     // TLS version: 0x0303 or 0x0304
	Client         ClientAuth // certificates of clients
	SignRate       int        // signatures a second that this cm may ask for
}

func (p *TLSSettings) fields(c *coder) {
	c.flag(&p.HandshakeFirst)
	c.u16(&p.Min)
	c.u8((*uint8)(&p.Client))
	c.check(p.Client < numClientAuths)
	c.number(&p.SignRate)
}

// ClientAuth says whether clients are asked for a certificate.
type ClientAuth uint8

// What is asked of clients. A certificate that is given is verified in any case.
const (
	ClientAuthNone ClientAuth = iota
	ClientAuthRequest
	ClientAuthRequire
	numClientAuths
)
