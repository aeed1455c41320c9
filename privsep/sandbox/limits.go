package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// rlimit is one resource limit, soft and hard.
type rlimit struct {
	resource int
	most     uint64
}

// limits are those of every role, in the units of setrlimit(2).
var limits = []rlimit{
	{unix.RLIMIT_CORE, 0},
	{unix.RLIMIT_MSGQUEUE, 0},
	{unix.RLIMIT_MEMLOCK, 64 << 10}, // a 16 KiB secret mapping, with room to replace it
}

// files bounds what a role may have open; without a row it keeps the parent's
// limit, as a cm needs one for each connection. The dispatcher's also bounds
// what lies unread in its channels to the cms (unix(7), ETOOMANYREFS).
var files = map[privsep.Role]uint64{
	privsep.RoleAuth:       64,
	privsep.RoleRouter:     2048, // those of the segments of all cms among them
	privsep.RoleDispatcher: 4096,
	privsep.RoleConsole:    1024, // those of the segments of all cms among them
}

// setLimits reports whether all could be set.
func setLimits(role privsep.Role, o Options) bool {
	all := limits
	if n, ok := files[role]; ok {
		all = append(all[:len(all):len(all)], rlimit{unix.RLIMIT_NOFILE, n})
	}
	if o.OwnUID {
		all = append(all[:len(all):len(all)], rlimit{unix.RLIMIT_NPROC, threads()})
	}
	if !logsToFile() {
		all = append(all[:len(all):len(all)], rlimit{unix.RLIMIT_FSIZE, 0})
	}
	ok := true
	for _, l := range all {
		ok = l.set() == nil && ok
	}
	return ok
}

// threads is far above what the Go runtime makes: one for each processor, and
// one for each goroutine in a blocking system call, of which a role has a few.
// The kernel counts by uid, so an earlier process that is ending counts too.
func threads() uint64 { return 1024 + 8*uint64(runtime.GOMAXPROCS(0)) }

// logsToFile: FSIZE 0 would turn a role's last words into a signal.
func logsToFile() bool {
	var st unix.Stat_t
	return unix.Fstat(2, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFREG
}

func (l rlimit) set() error {
	var have unix.Rlimit
	if err := unix.Getrlimit(l.resource, &have); err != nil {
		return err
	}
	n := min(l.most, have.Max)
	return unix.Setrlimit(l.resource, &unix.Rlimit{Cur: n, Max: n})
}
