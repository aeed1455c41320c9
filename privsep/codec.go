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

// Adopt is the first message of a new parent to a child that has lost its own.
type Adopt struct {
	ID         ID     // of the child that is meant
	Key        Key    // of the channel that this came in on
	Generation uint64 // of the child's process
}

func (p *Adopt) fields(c *coder) {
	c.id(&p.ID)
	c.fixed(p.Key[:])
	c.u64(&p.Generation)
}

// MaxPeers bounds Adopted.Peers.
const MaxPeers = 200

// Adopted answers an Adopt with what a new parent must know. What does not
// concern a role is zero.
type Adopted struct {
	Version     uint32 // of the role protocol; first, whatever follows
	Layout      uint32 // of the shared memory
	Generation  uint64
	Sandbox     Sandbox
	Leaving     bool          // it has begun to finish: there is no way back
	Handoff     Key           // dispatcher: checks its tickets, so that those under way stay good
	Certificate uint32        // cm: number of the one in use
	Heir        int           // cm: 1 + index of the one to which its connections move, 0: they do not
	Drain       time.Duration // how long those that stay have then
	Peers       []uint64      // dispatcher, router: generation of each cm's process that it works with, 0: none; at most MaxPeers
}

func (p *Adopted) fields(c *coder) {
	c.u32(&p.Version)
	c.u32(&p.Layout)
	c.u64(&p.Generation)
	c.u8(&p.Sandbox.Landlock)
	c.u16((*uint16)(&p.Sandbox.Missing))
	c.check(p.Sandbox.Missing <= allMissing)
	c.flag(&p.Leaving)
	c.fixed(p.Handoff[:])
	c.u32(&p.Certificate)
	c.index(&p.Heir)
	c.milliseconds(&p.Drain)
	c.words(&p.Peers, MaxPeers)
}

// noID is the uid or gid that stands for none in system calls.
const noID = 1<<32 - 1

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
	SegState
	SegSessions
	numSegmentKinds
)

var segmentNames = [numSegmentKinds]string{
	"none", "ring_up_data", "ring_up_head", "ring_down_data", "ring_down_head",
	"arena", "returns", "conn_table", "conn_columns", "named", "router_state", "sessions",
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
	Index    int    // of the cm that it belongs to; 0 for SegConnTable, SegState and SegSessions
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
	NetTLSD    // not for clients: a Unix socket for those who share TLS sessions
	NetConsole // not for clients: TCP for those who watch, as the next
	NetConsoleUnix
	numNetworks
)

var networkNames = [numNetworks]string{"none", "tcp", "unix", "tls", "tlsd", "console", "console_unix"}

// Local tells whether a listener's address is the path of a Unix socket.
func (n Network) Local() bool { return n == NetUnix || n == NetTLSD || n == NetConsoleUnix }

// String gives the key of [listen] in the configuration, for others the section.
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

// ListenerGone names a listener that no more connections are taken from. Its
// number is not given to another.
type ListenerGone struct {
	Number uint16
}

func (p *ListenerGone) fields(c *coder) { c.u16(&p.Number) }

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
	Generation uint64 // of the cm's process
}

func (p *DoorbellEnd) fields(c *coder) {
	c.index(&p.CM)
	c.u64(&p.Generation)
}

// SetupDone says that the child is jailed and ready.
type SetupDone struct {
	Version uint32 // of the role protocol
	Sandbox Sandbox
}

func (p *SetupDone) fields(c *coder) {
	c.u32(&p.Version)
	c.u8(&p.Sandbox.Landlock)
	c.u16((*uint16)(&p.Sandbox.Missing))
	c.check(p.Sandbox.Missing <= allMissing)
}

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
	c.words(&p.Values, MaxStats)
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

// Fault is what a peer holds against a cm.
type Fault uint8

// The faults.
const (
	FaultNone     Fault = iota
	FaultStalled        // does not drain its ring
	FaultCorrupt        // writes nonsense into its ring
	FaultProtocol       // breaks the rules on its channel to the dispatcher
	numFaults
)

var faultNames = [numFaults]string{"none", "stalled", "corrupt", "protocol"}

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
	TLS      bool
	System   bool     // the console's
	Issued   uint64   // Uptime of the ticket
	Ticket   [32]byte // handoff ticket of package tickets
}

func (p *ConnHandoff) fields(c *coder) {
	c.u64(&p.UID)
	c.u32(&p.Slot)
	c.u16(&p.Listener)
	c.fixed(p.Addr[:])
	c.u16(&p.Port)
	c.flag(&p.Unix)
	c.flag(&p.TLS)
	c.flag(&p.System)
	c.u64(&p.Issued)
	c.fixed(p.Ticket[:])
}

// Shutdown tells a role to finish.
type Shutdown struct {
	Drain time.Duration // whole milliseconds; how long it may take
}

func (p *Shutdown) fields(c *coder) { c.milliseconds(&p.Drain) }
