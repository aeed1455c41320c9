package roles

import (
	"errors"
	"fmt"
	"os"

	"gatehouse/privsep"
	"gatehouse/roles/auth"
	"gatehouse/roles/cm"
	"gatehouse/roles/console"
	"gatehouse/roles/dispatcher"
	"gatehouse/roles/router"
	"gatehouse/roles/tlsd"
)

// row is one role that a child process can be. Its uid is uid_base plus the
// role's number (privsep.Role), a cm's is uid_base + 16 plus its index; its root
// is the empty directory of the runtime directory.
type row struct {
	role  privsep.Role
	peers []privsep.Role // with whom it shares a channel or rings
	main  func() error
}

var table = []row{
	{privsep.RoleDispatcher, []privsep.Role{privsep.RoleParent, privsep.RoleCM}, dispatcher.Main},
	{privsep.RoleCM, []privsep.Role{privsep.RoleParent, privsep.RoleDispatcher, privsep.RoleRouter, privsep.RoleCM}, cm.Main},
	{privsep.RoleRouter, []privsep.Role{privsep.RoleParent, privsep.RoleCM, privsep.RoleAuth, privsep.RoleConsole}, router.Main},
	{privsep.RoleAuth, []privsep.Role{privsep.RoleParent, privsep.RoleRouter}, auth.Main},
	{privsep.RoleTLSD, []privsep.Role{privsep.RoleParent}, tlsd.Main},
	{privsep.RoleConsole, []privsep.Role{privsep.RoleParent, privsep.RoleRouter}, console.Main},
}

// Main runs the role that name ("cm/0") stands for and returns the exit code.
func Main(name string) int {
	id, err := privsep.ParseID(name)
	if err == nil {
		for _, r := range table {
			if r.role == id.Role {
				return run(r.main)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "gatehouse: bad role %q\n", name)
	return 2
}

// run turns a role's end into an exit code. What ended it goes to standard
// error, which is the parent's: the channel may be what failed.
func run(main func() error) int {
	err := main()
	switch {
	case err == nil || errors.Is(err, privsep.ErrOrphan):
		return 0
	case errors.Is(err, privsep.ErrNotChild):
		fmt.Fprintf(os.Stderr, "gatehouse: %v\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
	return 1
}
