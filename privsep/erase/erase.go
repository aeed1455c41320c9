// Package erase runs code whose traces in registers, stack and heap are erased:
// runtime/secret where that is compiled in (GOEXPERIMENT=runtimesecret, Linux on
// amd64 or arm64), and nothing of the kind elsewhere; Works tells which.
//
// What Do's function allocates is erased by the garbage collection that finds
// it unreachable, not before; each allocation costs about 0.3 us more. It must
// start no goroutine and put nothing secret into a variable that outlives it.
package erase

import "runtime"

// Works reports whether Do erases.
func Works() bool {
	return compiledIn && runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
}
