// Package sandbox puts up the last walls around a role: whoever takes a role
// over can make the system calls of its table here and no others.
//
//	Inherit, setup, EmptyRoot, Drop      root is gone, no_new_privs is set
//	Enter:  rlimits -> MDWE -> Landlock -> seccomp -> self-test
//	Announce                             the parent looks for itself
//
// Seccomp comes last since it forbids what the others need, and covers every
// thread at once. What of the rest a kernel does not have is reported, a
// missing filter is an error. The walls overlap on purpose: Landlock holds if a
// row of the table was too wide, the empty root and the empty network namespace
// hold without Landlock.
//
// Files: enter.go (the order, the self-test), limits.go, landlock.go, table.go
// (which role may call what: what a reviewer reads), arch_*.go (what differs
// between processors), filter.go (table to BPF).
//
// Three answers: a call of the table happens; one that confused code may try,
// and that harms nobody by failing, gets EPERM; any other ends the process, or
// with Options.Trap ends it with the Go runtime's trace. A role without a table
// does not start.
package sandbox
