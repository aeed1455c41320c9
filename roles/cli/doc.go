// Package cli is the command line of gatehouse: what somebody types, and
// nothing that runs in a broker.
//
//	gatehouse COMMAND ──┬── serve, check        configuration ──> Env.Serve
//	                    ├── status              control socket ──> table or JSON
//	                    ├── login               configuration ──> what auth would say
//	                    ├── key                 encrypted private keys, by package keyfile
//	                    ├── pub, sub, request,  ┐
//	                    │   reply, bench        ┴ a NATS client like any other
//	                    └── dispatcher, cm,     Env.Debug
//	                        router --debug
//
// It owns the commands, their flags and help, the form of what they print and
// the exit codes: 0 when it worked, 1 when it did not, 2 when the command was
// typed wrongly. An error is one line on standard error, "gatehouse: ...".
//
// It must never run a role or speak for one: of package parent it uses the
// configuration and the form of the status, of package auth what it would make of a
// client; serve and --debug are handed over
// by main. It must never start a process other than the one that the user
// names with `reply --command`, and never show what a message holds on a
// terminal without taking out the control characters.
package cli
