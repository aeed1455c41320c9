package privsep

import (
	"fmt"
	"os"
	"syscall"
)

// TakeTitle makes ps show this process as component id: argv can only be
// changed by an exec, so it executes itself again under the new name, with the
// same pid. It returns in the process that has the name.
func TakeTitle(id ID) error {
	if os.Args[0] == id.Title() {
		nameThreads() // "exe", after the link that was executed
		return nil
	}
	err := syscall.Exec("/proc/self/exe", append([]string{id.Title()}, os.Args[1:]...), os.Environ())
	return fmt.Errorf("exec /proc/self/exe: %w", err)
}
