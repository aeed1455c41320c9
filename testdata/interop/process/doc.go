// Package process holds tests of the gatehouse binary as a tree of processes:
// real ones, as root, each role under its own uid.
//
//	test --signals, kill -9-->  gatehouse: parent
//	     --/proc------------->  gatehouse: router, dispatcher, cm/0, cm/1
//	     --bytes, nats.go---->  listeners
//	     <--standard error----  log lines, and its end: nothing of the tree is left
//
// The binary is $GATEHOUSE, or is built from the checkout. Every test starts a
// broker of its own with a folder, port and uids of its own, waits for what it
// sees happen, and at the end holds the broker to the deaths that the test
// caused, to exit code 0 and to leaving nothing behind.
//
// GATEHOUSE_SECCOMP=trap runs the roles so that a system call without a row in
// their tables is named instead of only being fatal.
//
// Random input is printed with its seed; GATEHOUSE_SEED repeats one.
//
// Files: broker_test.go (start, stop, kill), proc_test.go (its processes; what
// /proc, status and the log say is package tree's), client_test.go (raw clients),
// tls_test.go (raw clients in TLS), calm_test.go (clients that nothing may disturb),
// force_*_test.go (a role made to do what its code does not), refused_test.go and two
// beside it (every wrong login), and a file for each group of tests.
package process
