package parent

import "time"

// Status is what `gatehouse status` shows: the process tree as the parent sees
// it, with each role's own counters. It travels as JSON over the control socket.
type Status struct {
	Version     string     `json:"version"`
	Environment string     `json:"environment"`
	Broker      string     `json:"broker"`
	ServerID    string     `json:"server_id"`
	Started     time.Time  `json:"started"`
	PID         int        `json:"pid"`
	Root        bool       `json:"root"`
	Warnings    []string   `json:"warnings"`
	Listeners   []string   `json:"listeners"`
	Console     []string   `json:"console"` // where it listens
	Processes   []Process  `json:"processes"`
	Arenas      []Arena    `json:"arenas"`
	Offences    []Offence  `json:"offences"`
	Key         *Key       `json:"key"`        // of the TLS listeners; null without one
	Transfer    *Transfer  `json:"transfer"`   // the key for tickets to other environments; null without one
	Directory   *Directory `json:"directory"`  // LDAP; null without one
	Identity    *Identity  `json:"identity"`   // that tlsd shows to servers; null without one
	Audit       *Audit     `json:"audit"`      // the audit log; null without one
	NextStart   []Held     `json:"next_start"` // options that the file had otherwise at the last reload
}

// Held is an option that cannot change while the broker runs.
type Held struct {
	Key     string `json:"key"`
	Running string `json:"running"`
	File    string `json:"file"`
}

// Key is the private key of the TLS listeners and what was done with it. It
// says nothing of the key itself.
type Key struct {
	Use        string    `json:"use"`    // "sign" or "release"
	Memory     string    `json:"memory"` // "memfd_secret", or "mlock" where the kernel has none
	Erased     bool      `json:"erased"` // what signing leaves in memory
	Number     uint32    `json:"number"` // 1, and one more with each reload
	Algorithm  string    `json:"algorithm"`
	Subject    string    `json:"subject"`
	NotAfter   time.Time `json:"not_after"`
	Signatures uint64    `json:"signatures"`
	Refused    uint64    `json:"refused"` // asked for too late, or of a key that was replaced
}

// Transfer is the private key that signs transfer tickets, and what was done with it.
type Transfer struct {
	Algorithm string `json:"algorithm"` // "EdDSA" or "ES256"
	Memory    string `json:"memory"`    // as a Key's
	Erased    bool   `json:"erased"`
	Signed    uint64 `json:"signed"`
	Refused   uint64 `json:"refused"` // too many, or where no profile may transfer to
}

// Directory is how the directory is, as auth has found it.
type Directory struct {
	URLs      []string  `json:"urls"`
	State     string    `json:"state"` // "up", "down" (no server answers), "unknown" (none has been asked yet)
	Since     time.Time `json:"since"`
	LastError string    `json:"last_error"` // reason as in the log; "": there was none
	Asked     uint64    `json:"asked"`      // about how many logins
	Failed    uint64    `json:"failed"`     // of them, for want of an answer
}

// Identity is the certificate that tlsd shows to servers, and what was done with its
// key.
type Identity struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	Memory   string    `json:"memory"` // as a Key's
	Erased   bool      `json:"erased"`
	Signed   uint64    `json:"signed"`
}

// Audit is the audit log, and what this parent has written to it.
type Audit struct {
	To      string `json:"to"` // a path, or "stderr"
	Written uint64 `json:"written"`
	Lost    uint64 `json:"lost"`  // lines: no disk was fast enough, or none took them
	Error   string `json:"error"` // why the last line was not written; "": it was
}

// Offence counts one way in which a component broke the role protocol, and was
// ended for it.
type Offence struct {
	Role   string `json:"role"`
	Kind   string `json:"kind"`   // of the message; "" when it could not be read
	Reason string `json:"reason"` // "impostor", "forged", "phase", ...
	Count  uint64 `json:"count"`
}

// Process is one component. Counters are zero where the role has none. State is
// one of starting, running, backoff, stalled (did not answer in time), standby
// (waits for its predecessor's end), retiring (its connections move to its
// successor).
type Process struct {
	Role          string    `json:"role"` // "parent", "cm/0"
	PID           int       `json:"pid"`
	UID           int       `json:"uid"`
	Started       time.Time `json:"started"`
	Restarts      int       `json:"restarts"`
	Adopted       bool      `json:"adopted"` // an earlier parent started it
	State         string    `json:"state"`
	Connections   uint64    `json:"connections"`
	Subscriptions uint64    `json:"subscriptions"`
	InMsgs        uint64    `json:"in_msgs"`
	OutMsgs       uint64    `json:"out_msgs"`
	InBytes       uint64    `json:"in_bytes"`
	OutBytes      uint64    `json:"out_bytes"`
	SlowConsumers uint64    `json:"slow_consumers"`
	Signatures    uint64    `json:"signatures"` // that the parent made for it
	Handshakes    uint64    `json:"handshakes"` // of TLS that succeeded
	NoHandshakes  uint64    `json:"handshakes_failed"`
	Logins        uint64    `json:"logins"` // that succeeded
	NoLogins      uint64    `json:"logins_refused"`
	LoginsWait    uint64    `json:"logins_waiting"`
	Sessions      uint64    `json:"sessions"` // of TLS to others
	Requests      uint64    `json:"requests"` // by HTTP
	NoRequests    uint64    `json:"requests_refused"`
	Memory        uint64    `json:"memory"` // proportional set size, bytes
	Threads       int       `json:"threads"`
	CPU           float64   `json:"cpu_seconds"`
	NoNewPrivs    bool      `json:"no_new_privs"` // on every thread
	NoCaps        bool      `json:"no_caps"`      // no capability in any set of any thread
	Seccomp       int       `json:"seccomp"`      // /proc Seccomp value of every thread; -1 when they differ
	Landlock      int       `json:"landlock"`     // ABI of its rule set, 0: none
	OwnNetwork    bool      `json:"own_network"`  // an empty network namespace of its own
	Missing       []string  `json:"missing"`      // what this kernel does not give its sandbox
	Capabilities  []string  `json:"capabilities"` // that it has or could get
	Record        *Record   `json:"record"`       // nil: it has no process now

	// While it retires.
	Successor string     `json:"successor,omitempty"`
	Until     *time.Time `json:"until,omitempty"` // then those that have stayed are closed
	Moved     uint64     `json:"moved,omitempty"` // connections
	Left      uint64     `json:"left,omitempty"`  // that will move or are about to end
	Stay      uint64     `json:"stay,omitempty"`  // by TLS
}

// Record is what a process is known by, beside pid and uid (the registry has it, too).
type Record struct {
	StartTime uint64 `json:"start_time"`  // clock ticks since boot, /proc/PID/stat field 22
	PidInode  uint64 `json:"pidfd_inode"` // 0: not known
	Device    uint64 `json:"exe_device"`  // of the executable
	Inode     uint64 `json:"exe_inode"`   // likewise
	SHA256    string `json:"exe_sha256"`  // "": not read yet
}

// Arena is the use of one connection manager's body memory, in bytes.
type Arena struct {
	CM     int    `json:"cm"`
	Size   uint64 `json:"size"`
	Used   uint64 `json:"used"`
	Bodies uint64 `json:"bodies"`
}
