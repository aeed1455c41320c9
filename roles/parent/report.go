package parent

import (
	"encoding/hex"
	"os"

	"gatehouse/privsep"
)

// status is the process tree as it is now; ask is the round of counters that it
// rests on.
func (p *parent) status(ask uint64) *Status {
	s := &Status{
		Version: p.settings.Version, Environment: p.settings.Environment, Broker: p.settings.Broker,
		ServerID: p.settings.ServerID, Started: p.started, PID: os.Getpid(), Root: p.root,
		Warnings: p.warnings, Listeners: p.addresses(), Console: p.addressesOf(true), Offences: p.offenceList(), Key: p.keyReport(), Transfer: p.transferReport(), Directory: p.directoryReport(), Identity: p.sharingReport(), Audit: p.audit.report(), NextStart: append([]Held{}, p.held...),
	}
	if len(p.missing) > 0 {
		s.Warnings = append(s.Warnings[:len(s.Warnings):len(s.Warnings)], missingLine(p.missing))
	}
	own := Process{Role: privsep.RoleParent.String(), PID: os.Getpid(), UID: os.Geteuid(), Started: p.started, State: running.String()}
	own.look()
	own.Memory = privsep.PSS(own.PID)
	own.Record = p.ownRecord()
	s.Processes = append(s.Processes, own)
	for _, c := range p.children {
		if c.state == vacant {
			continue
		}
		s.Processes = append(s.Processes, p.process(c, ask))
		if c.id.Role == privsep.RoleCM {
			s.Arenas = append(s.Arenas, Arena{CM: c.id.Index, Size: uint64(p.settings.Arena),
				Used: c.stats.ArenaUsed, Bodies: c.stats.ArenaBodies})
		}
	}
	return s
}

func (p *parent) process(c *child, ask uint64) Process {
	t := c.stats
	r := Process{
		Role: c.id.String(), Started: c.started, Restarts: c.restarts, Adopted: c.adopted && c.alive(), State: c.state.String(),
		Connections: t.Connections, Subscriptions: t.Subscriptions, InMsgs: t.InMsgs, OutMsgs: t.OutMsgs,
		InBytes: t.InBytes, OutBytes: t.OutBytes, SlowConsumers: t.SlowConsumers, Signatures: c.signatures,
		Handshakes: t.Handshakes, NoHandshakes: t.HandshakesFailed,
		Logins: t.Logins, NoLogins: t.LoginsRefused, LoginsWait: t.LoginsWaiting, Sessions: t.Sessions, Requests: t.Requests, NoRequests: t.RequestsRefused,
	}
	switch {
	case c.state == running && c.statsID < ask:
		r.State = "stalled"
	case c.standsBy():
		r.State = "standby"
	case c.leaves() && c.state == running:
		n := c.change.progress
		r.State, r.Successor, r.Until = "retiring", c.change.new.id.String(), &c.change.by
		r.Moved, r.Left, r.Stay = n.Moved, uint64(n.Left), uint64(n.Stay)
	}
	if c.alive() {
		r.PID, r.UID = c.proc.PID, c.proc.Record.UID
		r.Record = recordOf(&c.proc.Record)
		r.Memory, r.Landlock, r.OwnNetwork = c.proc.MemoryUse(), int(c.walls.Landlock), c.proc.OwnNetwork
		if c.state != starting {
			r.Missing = c.missing(p.root)
		}
		r.look()
	}
	return r
}

// ownRecord is that of the parent itself, nil if the kernel does not say when it began.
func (p *parent) ownRecord() *Record {
	start, err := privsep.StartTime(os.Getpid())
	if err != nil {
		return nil
	}
	r := privsep.Record{StartTime: start, SHA256: p.sum}
	if id, err := privsep.Stat(int(p.exe.Fd())); err == nil {
		r.Dev, r.Ino = id.Dev, id.Ino
	}
	return recordOf(&r)
}

func recordOf(r *privsep.Record) *Record {
	s := &Record{StartTime: r.StartTime, PidInode: r.PidIno, Device: r.Dev, Inode: r.Ino}
	if r.SHA256 != [32]byte{} {
		s.SHA256 = hex.EncodeToString(r.SHA256[:])
	}
	return s
}

// look fills in what the kernel says of the process.
func (r *Process) look() {
	r.CPU = privsep.CPUTime(r.PID).Seconds()
	if o, err := privsep.ReadPosture(r.PID); err == nil {
		r.Threads, r.UID = o.Threads, int(o.UID)
		r.NoNewPrivs, r.NoCaps, r.Seccomp = o.Uniform && o.NoNewPrivs, o.Uniform && o.NoCaps(), o.Seccomp
		if !o.Uniform {
			r.Seccomp = -1
		}
		r.Capabilities = privsep.CapabilityNames(o.CapEff | o.CapPrm | o.CapBnd)
	}
}
