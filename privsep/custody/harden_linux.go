package custody

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"gatehouse/privsep/erase"
)

// Harden keeps the memory of this process to itself: no core dump, no tracing
// or reading by its own uid, no page in swap. What the machine refuses is
// named in missing, a phrase each; err is for the one that nothing makes up
// for, PR_SET_DUMPABLE. To be called among the first things.
//
// As root all memory is locked as it comes to be used (MCL_ONFAULT), which the
// process then must not lose CAP_IPC_LOCK for: the kernel would refuse the next
// page of heap, and Go end. Without root it would do so at RLIMIT_MEMLOCK,
// therefore only Memory is locked.
func Harden() (missing []string, err error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("not dumpable: %w", err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		return nil, fmt.Errorf("not dumpable: it is %d, %v", n, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		missing = append(missing, fmt.Sprintf("core dumps are not limited: %v", err))
	}
	switch {
	case os.Geteuid() != 0:
		missing = append(missing, "memory is not locked: needs root")
	default:
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
			missing = append(missing, fmt.Sprintf("memory is not locked: %v", err))
		}
	}
	if !Erases() {
		missing = append(missing, "key traces in the heap are not erased: built without runtimesecret")
	}
	return missing, nil
}

// Erases reports whether what signing leaves in memory is erased: built with
// GOEXPERIMENT=runtimesecret for amd64 or arm64.
func Erases() bool { return erase.Works() }

// Tidy erases what signatures have left in the heap, by collecting garbage:
// the first collection finds it unreachable, which lets go of what crypto's
// caches hold for it, and so the last erases that, too. It takes a millisecond
// in a small process; call it when a burst of signatures is over.
func Tidy() {
	for range 3 {
		runtime.GC()
	}
}
