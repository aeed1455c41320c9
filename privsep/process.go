package privsep

// This file has what is said of processes that connect to a Unix socket: which one it
// is (Process, in LOGIN), how it is asked about (INSPECT, INSPECTED) and whose it is
// (ProcessRule, in USER). Callers of tlsd are asked about in the same way, which knows
// them by itself.
//
// The kernel tells the dispatcher which process has connected, and the dispatcher
// writes that into the connection table, which nobody else writes. The router reads it
// there, for connections that the dispatcher has handed to the cm that speaks of them.
// A cm that was taken over can therefore log in for what was handed to it, and in the
// name of no other process: that takes the dispatcher, or who decides anyway.

// Process is who has connected to a Unix socket, as the kernel says of the moment of
// connecting. The zero value stands for one of whom it says nothing.
type Process struct {
	PID, UID, GID uint32
	PidIno        uint64 // inode of its pidfd; 0: not known
}

func (p *Process) fields(c *coder) {
	c.u32(&p.PID)
	c.u32(&p.UID)
	c.u32(&p.GID)
	c.u64(&p.PidIno)
}

// Inspect asks the parent what a process is now.
type Inspect struct {
	ID   uint64 // of who asks, comes back
	File bool   // with its executable, where a rule asks for the digest of that
	Process
}

func (p *Inspect) fields(c *coder) {
	c.u64(&p.ID)
	c.flag(&p.File)
	p.Process.fields(c)
}

// Bounds of what is said of executables.
const (
	MaxExecutable  = 512 // bytes of a path
	MaxExecutables = 8   // names of one file
)

// Inspected is the payload of INSPECTED and of INSPECTED_FILE, which comes with the
// executable to be read. Its reason is ReasonNone for a process that is alive, with the
// uid and gid that it connected with and no others; all but the ID is zero otherwise.
type Inspected struct {
	ID     uint64
	Reason Reason
	Sight
}

// Sight is what there is to be seen of a process.
type Sight struct {
	Start       uint64 // clock ticks since boot
	Dev, Ino    uint64 // of its executable; 0: there is no rule that asks for it
	Link        string // path of that as the kernel has it, cut at MaxExecutable: for logs
	Executables []string
}

func (p *Inspected) fields(c *coder) {
	c.u64(&p.ID)
	c.u8((*uint8)(&p.Reason))
	c.u64(&p.Start)
	c.u64(&p.Dev)
	c.u64(&p.Ino)
	c.text(&p.Link, MaxExecutable)
	c.texts(&p.Executables, MaxExecutables, MaxExecutable)
	c.check(p.Reason < numReasons)
	c.check(p.Reason == ReasonNone || p.Start|p.Dev|p.Ino == 0 && p.Link == "" && len(p.Executables) == 0)
}

// ProcessRule is what a process must be, to be a user's. What is not asked for may be
// anything.
type ProcessRule struct {
	ByUID, ByGID, BySum bool
	UID, GID            uint32
	Executable          string   // path, "": any; at most MaxExecutable
	SHA256              [32]byte // of what is in it
}

func (p *ProcessRule) fields(c *coder) {
	c.flag(&p.ByUID)
	c.flag(&p.ByGID)
	c.flag(&p.BySum)
	c.u32(&p.UID)
	c.u32(&p.GID)
	c.text(&p.Executable, MaxExecutable)
	c.fixed(p.SHA256[:])
	c.check((p.ByUID || p.UID == 0) && (p.ByGID || p.GID == 0) && (p.BySum || p.SHA256 == [32]byte{}))
	c.check(p.ByUID || p.ByGID || *p == ProcessRule{})
}

// Given tells whether a process can be this user's at all.
func (p *ProcessRule) Given() bool { return p.ByUID || p.ByGID }

// Looks tells whether the rule asks for more than who the process runs as.
func (p *ProcessRule) Looks() bool { return p.Executable != "" || p.BySum }

// OwnsIn is Owns of a process that has other groups beside its own, each of which counts
// as that.
func (p *ProcessRule) OwnsIn(who *Process, groups []uint32) bool {
	for _, g := range groups {
		if in := (Process{UID: who.UID, GID: g}); p.Owns(&in) {
			return true
		}
	}
	return p.Owns(who)
}

// Owns tells whether the process runs as whom the rule asks for.
func (p *ProcessRule) Owns(who *Process) bool {
	return p.Given() && (!p.ByUID || p.UID == who.UID) && (!p.ByGID || p.GID == who.GID)
}

// Covers tells whether the rule asks for all that another one asks for. Both must fit
// the same process.
func (p *ProcessRule) Covers(o *ProcessRule) bool {
	return (p.ByUID || !o.ByUID) && (p.ByGID || !o.ByGID) && (p.BySum || !o.BySum) && (p.Executable != "" || o.Executable == "")
}

// Append encodes p.
func (p *Inspect) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Inspect) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Inspected) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Inspected) Parse(b []byte) error { return decode(p, b) }
