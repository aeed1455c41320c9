package privsep

import (
	"fmt"
	"strconv"
	"strings"
)

// Role is a kind of process. Values are frozen: they travel in messages.
type Role uint8

// The roles of Gatehouse. RoleNone is nobody: no row of the rules names it.
const (
	RoleNone Role = iota
	RoleParent
	RoleDispatcher
	RoleCM
	RoleRouter
	RoleAuth
	RoleTLSD
	RoleConsole
	numRoles
)

var roleNames = [numRoles]string{
	"none", "parent", "dispatcher", "cm", "router", "auth", "tlsd", "console",
}

// String gives the name used in ps, logs and the registry.
func (r Role) String() string {
	if r < numRoles {
		return roleNames[r]
	}
	return "role(" + strconv.Itoa(int(r)) + ")"
}

// child reports whether the parent may start r.
func (r Role) child() bool { return r > RoleParent && r < numRoles }

// several reports whether there may be several components of role r. Of tlsd there is
// one, unless the configuration says otherwise.
func (r Role) several() bool { return r == RoleCM || r == RoleTLSD }

// ID names one component: its role, and which of several it is.
type ID struct {
	Role  Role
	Index int // 0 for a role of which there is one
}

// maxIndex bounds ID.Index; it is far above the 64 cms that a configuration may ask for.
const maxIndex = 1023

// String gives "cm/0", "router"; "tlsd", and "tlsd/1" for the second of several.
func (id ID) String() string {
	if id.Role == RoleCM || id.Role.several() && id.Index > 0 {
		return id.Role.String() + "/" + strconv.Itoa(id.Index)
	}
	return id.Role.String()
}

// valid reports whether String and ParseID are each other's inverse for id.
func (id ID) valid() bool {
	if id.Role == RoleNone || id.Role >= numRoles {
		return false
	}
	return id.Index == 0 || id.Role.several() && id.Index > 0 && id.Index <= maxIndex
}

// ParseID is the inverse of ID.String and takes nothing else: no "cm", no "cm/00", no "tlsd/0".
func ParseID(s string) (ID, error) {
	name, index, indexed := strings.Cut(s, "/")
	for r := RoleParent; r < numRoles; r++ {
		if roleNames[r] != name {
			continue
		}
		id := ID{Role: r}
		if indexed {
			id.Index, _ = strconv.Atoi(index)
		}
		if id.valid() && id.String() == s {
			return id, nil
		}
	}
	return ID{}, fmt.Errorf("bad role %q", s)
}
