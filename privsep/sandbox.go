package privsep

import "strings"

// Sandbox is what a role reports of the walls around it, beside those that the
// parent sees for itself in /proc.
type Sandbox struct {
	Landlock uint8   // ABI in force, 0: none
	Missing  Missing // what this kernel does not have
}

// Missing is a set of walls that could not be put up.
type Missing uint16

// The bits of Missing. Values are frozen: they travel in SETUP_DONE.
const (
	MissingLandlock Missing = 1 << iota
	MissingMDWE
	MissingLimits
	MissingPorts         // bounds to the ports that it may connect to
	allMissing   Missing = 1<<iota - 1
)

var missingNames = [...]string{"landlock", "mdwe", "rlimits", "landlock-ports"}

// Names lists what is missing, for status and logs.
func (m Missing) Names() []string {
	names := []string{}
	for i, name := range missingNames {
		if m&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String gives the names with commas.
func (m Missing) String() string { return strings.Join(m.Names(), ",") }

// needsNetwork: these roles make connections of their own. All others run in
// an empty network namespace: the sockets that they are handed work there too.
const needsNetwork = tlsd

// Isolated reports whether a role runs in network and IPC namespaces of its
// own, where the parent may make some.
func (r Role) Isolated() bool { return r.child() && !needsNetwork.has(r) }
