// Package tree looks at a running broker from outside: what it is built from,
// which processes it consists of and what each has open, what it says of itself
// and what it writes to standard error. It is shared by all tests that run the
// broker as a tree of real processes: hostile, and interop's process and torture.
//
//	build.go   the binary under test
//	proc.go    /proc: processes by role, descriptors and mappings by kind
//	status.go  gatehouse status --json
//	log.go     standard error, line by line
package tree
