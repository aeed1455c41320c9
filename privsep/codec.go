package privsep

import "time"

// Limits of texts in payloads, in bytes.
const (
	MaxSettingsText = 128 // each string of Settings
	MaxAddressText  = 256 // Listener.Address
)

// Boot is the first message of a child: who it is and what it shall become.
type Boot struct {
	ID       ID
	Key      Key // of the very channel that this came in on
	UID, GID int // to drop to; both 0: not root, nothing to drop
	// Generation numbers the processes of this component, from 1.
	Generation uint64
}

func (p *Boot) fields(c *coder) {
	uid, gid := uint32(p.UID), uint32(p.GID)
	c.id(&p.ID)
	c.fixed(p.Key[:])
	c.u32(&uid)
	c.u32(&gid)
	c.u64(&p.Generation)
	// All ones means "leave as it is" to setresuid: never a uid.
	c.check((uid == 0) == (gid == 0) && uid != noID && gid != noID)
	if !c.encoding {
		p.UID, p.GID = int(uid), int(gid)
	}
}

// noID is the uid or gid that stands for none in system calls.
const noID = 1<<32 - 1

// Settings is what of the configuration a role may know. Sizes are in bytes;
// 0 means no limit where the configuration says so.
type Settings struct {
	MaxPayload       int
	MaxControlLine   int
	MaxConnections   int
	MaxPending       int
	MaxSubscriptions int
	CMs              int // how many connection managers there are
	Arena            int
	Ring             int
	AuthTimeout      time.Duration
	PingInterval     time.Duration
	PingMax          int
	WriteDeadline    time.Duration
	StallTimeout     time.Duration
	ConnectRate      int // connections per second and address
	ConnectBurst     int
	LogLevel         Level  // lines below it need not be sent
	Environment      string // this and the following: at most MaxSettingsText
	Broker           string
	Version          string
	ServerID         string
	Host             string // that clients are told, with Port
	Port             int
	Root             string // directory to be confined to, "" without root
}

func (p *Settings) fields(c *coder) {
	c.number(&p.MaxPayload)
	c.number(&p.MaxControlLine)
	c.number(&p.MaxConnections)
	c.number(&p.MaxPending)
	c.number(&p.MaxSubscriptions)
	c.number(&p.CMs)
	c.number(&p.Arena)
	c.number(&p.Ring)
	c.duration(&p.AuthTimeout)
	c.duration(&p.PingInterval)
	c.number(&p.PingMax)
	c.duration(&p.WriteDeadline)
	c.duration(&p.StallTimeout)
	c.number(&p.ConnectRate)
	c.number(&p.ConnectBurst)
	c.u8((*uint8)(&p.LogLevel))
	c.check(p.LogLevel < numLevels)
	c.text(&p.Environment, MaxSettingsText)
	c.text(&p.Broker, MaxSettingsText)
	c.text(&p.Version, MaxSettingsText)
	c.text(&p.ServerID, MaxSettingsText)
	c.text(&p.Host, MaxSettingsText)
	c.number(&p.Port)
	c.text(&p.Root, MaxAddressText)
}

// SegmentKind says what a segment of shared memory is for.
type SegmentKind uint8

// The segments. Up is from a cm to the router, down from the router to a cm; a
// ring is the producer's data and the consumer's head.
const (
	SegNone SegmentKind = iota
	SegRingUpData
	SegRingUpHead
	SegRingDownData
	SegRingDownHead
	SegArena
	SegReturns
	SegConnTable
	SegConnColumns
	SegNamed
	numSegmentKinds
)

var segmentNames = [numSegmentKinds]string{
	"none", "ring_up_data", "ring_up_head", "ring_down_data", "ring_down_head",
	"arena", "returns", "conn_table", "conn_columns", "named",
}

// String gives the segment's name for logs.
func (k SegmentKind) String() string {
	if k < numSegmentKinds {
		return segmentNames[k]
	}
	return "segment"
}

// Segment comes with the memfd of one segment.
type Segment struct {
	Kind     SegmentKind
	Index    int    // of the cm that it belongs to; 0 for SegConnTable
	Size     uint64 // bytes
	Writable bool   // whether the fd allows a writable mapping
}

func (p *Segment) fields(c *coder) {
	c.u8((*uint8)(&p.Kind))
	c.check(p.Kind > SegNone && p.Kind < numSegmentKinds)
	c.index(&p.Index)
	c.u64(&p.Size)
	c.flag(&p.Writable)
}

// Network is how clients reach a listener.
type Network uint8

// The networks.
const (
	NetNone Network = iota
	NetTCP
	NetUnix
	NetTLS
	numNetworks
)

var networkNames = [numNetworks]string{"none", "tcp", "unix", "tls"}

// String gives the key of [listen] in the configuration.
func (n Network) String() string {
	if n < numNetworks {
		return networkNames[n]
	}
	return "network"
}

// Listener comes with a listening socket.
type Listener struct {
	Number  uint16
	Network Network
	Address string // as configured or bound, at most MaxAddressText
}

func (p *Listener) fields(c *coder) {
	c.u16(&p.Number)
	c.u8((*uint8)(&p.Network))
	c.check(p.Network > NetNone && p.Network < numNetworks)
	c.text(&p.Address, MaxAddressText)
}

// Peer comes with one end of a channel to another child.
type Peer struct {
	ID         ID // who is at the other end
	Key        Key
	Generation uint64 // of the other end's process; rises with every restart
}

func (p *Peer) fields(c *coder) {
	c.id(&p.ID)
	c.fixed(p.Key[:])
	c.u64(&p.Generation)
}

// DoorbellEnd comes with one end of the doorbell between a cm and the router.
type DoorbellEnd struct {
	CM         int    // index
	Fresh      bool   // the other end is a new process
	Generation uint64 // of the cm's process
}

func (p *DoorbellEnd) fields(c *coder) {
	c.index(&p.CM)
	c.flag(&p.Fresh)
	c.u64(&p.Generation)
}

// SetupDone says that the child is jailed and ready.
type SetupDone struct {
	Version uint32 // of the role protocol
}

func (p *SetupDone) fields(c *coder) { c.u32(&p.Version) }

// StatsGet asks for a Stats with the same ID.
type StatsGet struct {
	ID uint64
}

func (p *StatsGet) fields(c *coder) { c.u64(&p.ID) }

// MaxStats bounds Stats.Values.
const MaxStats = 63

// Stats is a role's counters; what each one counts is that role's affair.
type Stats struct {
	ID     uint64
	Values []uint64 // at most MaxStats
}

func (p *Stats) fields(c *coder) {
	c.u64(&p.ID)
	if !c.encoding {
		c.check(len(c.in) <= 8*MaxStats)
		if c.bad || len(c.in) == 0 {
			return
		}
		p.Values = make([]uint64, (len(c.in)+7)/8) // a part word is bad below
	}
	for i := range p.Values {
		c.u64(&p.Values[i])
	}
}

// CMGone says that the process of a cm has ended.
type CMGone struct {
	CM         int // index
	Generation uint64
}

func (p *CMGone) fields(c *coder) {
	c.index(&p.CM)
	c.u64(&p.Generation)
}

// Fault is what the router holds against a cm.
type Fault uint8

// The faults.
const (
	FaultNone    Fault = iota
	FaultStalled       // does not drain its ring
	FaultCorrupt       // writes nonsense into its ring
	numFaults
)

var faultNames = [numFaults]string{"none", "stalled", "corrupt"}

// String gives the reason as it stands in logs.
func (f Fault) String() string {
	if f < numFaults {
		return faultNames[f]
	}
	return "fault"
}

// CMFault asks the parent to end a cm.
type CMFault struct {
	CM         int // index
	Reason     Fault
	Generation uint64 // of the cm's process that is meant
}

func (p *CMFault) fields(c *coder) {
	c.index(&p.CM)
	c.u8((*uint8)(&p.Reason))
	c.check(p.Reason > FaultNone && p.Reason < numFaults)
	c.u64(&p.Generation)
}

// ConnHandoff comes with an accepted connection.
type ConnHandoff struct {
	UID      uint64 // connection UID
	Slot     uint32 // row of the connection table
	Listener uint16
	Addr     [16]byte // IPv4-mapped for IPv4, zero for Unix
	Port     uint16
	Unix     bool
	Ticket   [32]byte // handoff ticket of package tickets
}

func (p *ConnHandoff) fields(c *coder) {
	c.u64(&p.UID)
	c.u32(&p.Slot)
	c.u16(&p.Listener)
	c.fixed(p.Addr[:])
	c.u16(&p.Port)
	c.flag(&p.Unix)
	c.fixed(p.Ticket[:])
}

// Shutdown tells a role to finish.
type Shutdown struct {
	Drain time.Duration // whole milliseconds; how long it may take
}

func (p *Shutdown) fields(c *coder) {
	ms := uint64(p.Drain / time.Millisecond)
	c.u64(&ms)
	c.check(ms <= maxDrain)
	if !c.encoding {
		p.Drain = time.Duration(ms) * time.Millisecond
	}
}

// maxDrain bounds Shutdown.Drain in milliseconds: a duration holds it.
const maxDrain = uint64(1<<63-1) / uint64(time.Millisecond)
