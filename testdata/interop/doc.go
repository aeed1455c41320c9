// Package interop holds tests of the gatehouse binary with clients that others
// wrote: nats.go, nats.js, and nats.go's own test suite.
//
//	go test ./...   nats.go against the binary; js/*.mjs under node, if there is one
//	js/modes/       the messaging modes with nats.js; modes.js is for applications to copy
//	process/        the binary as a tree of real processes, as root
//	torture/        the same under load while somebody kills them; counts what is lost
//	../tree/        what those two see of a broker from outside
//	certs/          an authority, certificates and encrypted keys for tests of TLS
//	./run.sh        nats.go's own tests, if the shared runner is beside the checkout
//	adapter/        turns the broker that such a test asks for into a broker.toml
//
// The binary is $GATEHOUSE, or the one in the root of the checkout. Another
// broker can stand in for it, which shows what a failure is worth:
//
//	INTEROP_BROKER='nats-server -c {natsconf}' go test .
//
// In TLS every test with a counterpart in nats-server's configuration passes
// against it too.
//
// Every test starts a broker of its own, on a free port, in a folder of its own.
package interop
