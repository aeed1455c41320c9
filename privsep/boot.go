package privsep

import (
	"errors"
	"time"
)

// ErrNotChild: this process was not started by a parent.
var ErrNotChild = errors.New("privsep: no channel inherited: roles are started by gatehouse serve")

// bootWait bounds a child's wait for BOOT, which the parent sends at once.
const bootWait = 10 * time.Second

// ChildFlag is the argument before the ID in a child's argv.
const ChildFlag = "-x"

// Title gives a child's argv[0], which ps shows.
func (id ID) Title() string { return "gatehouse: " + id.String() }

// childArgs gives a child's argv; childID is the inverse.
func childArgs(id ID) []string { return []string{id.Title(), ChildFlag, id.String()} }

func childID(args []string) (ID, error) {
	if len(args) != 3 || args[1] != ChildFlag {
		return ID{}, ErrNotChild
	}
	id, err := ParseID(args[2])
	if err != nil || !id.Role.child() {
		return ID{}, ErrNotChild
	}
	return id, nil
}

// bootstrap takes the first packet of a child's channel. The key that verifies
// it is inside, so here alone the payload is decoded before the MAC is checked,
// but after the rules. self is what argv said; BOOT must say the same.
func bootstrap(b []byte, nfds int, self ID) (*Boot, direction, error) {
	var f frame
	if err := f.parse(b); err != nil {
		return nil, direction{}, err
	}
	err := Permit(f.kind, RoleParent, self.Role, PhaseBoot, len(f.payload), nfds)
	if err != nil {
		return nil, direction{}, err
	}
	boot := new(Boot)
	if f.kind != KindBoot || boot.Parse(f.payload) != nil || boot.ID != self {
		return nil, direction{}, ErrShape
	}
	in := newDirection(boot.Key, RoleParent, self.Role)
	if _, _, err := in.open(b, PhaseBoot, nfds); err != nil {
		return nil, direction{}, err
	}
	return boot, in, nil
}

// adoption takes the first packet of a new parent, as bootstrap does that of the
// first one. It must mean this very process.
func adoption(b []byte, nfds int, self ID, generation uint64) (*Adopt, direction, error) {
	var f frame
	if err := f.parse(b); err != nil {
		return nil, direction{}, err
	}
	if err := Permit(f.kind, RoleParent, self.Role, PhaseBoot, len(f.payload), nfds); err != nil {
		return nil, direction{}, err
	}
	a := new(Adopt)
	if f.kind != KindAdopt || a.Parse(f.payload) != nil || a.ID != self || a.Generation != generation {
		return nil, direction{}, ErrShape
	}
	in := newDirection(a.Key, RoleParent, self.Role)
	if _, _, err := in.open(b, PhaseBoot, nfds); err != nil {
		return nil, direction{}, err
	}
	return a, in, nil
}
