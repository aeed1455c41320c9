// Package hostile holds tests in which a role has been taken over: real
// brokers, as root, in which one child after the other is a villain.
//
//	test --plan, kill--> broker: parent --- villain        one offence each
//	                        |   \------ dispatcher, router, cm/N: sound
//	     --exchange-------> cm/N    well-behaved clients, undisturbed
//	     <--log, status, pids, /proc-- what is to be seen from outside
//
// The test binary is the broker too: started as `serve` it is the product's own
// parent, and as a child it is the product's own role, unless a plan for its
// component lies beside the executable. Then it is a villain: it inherits its
// channel and is jailed like the role, has every secret of the role, and uses
// them. Frames are written by a second implementation of the format, since the
// first one refuses to write what is wrong.
//
// Every offence is a job: who commits it, at what stage of life, how it must be
// refused. A campaign spreads jobs over brokers, several at a time in each, and
// holds each broker to what may happen and nothing else: the offender is
// refused, counted, logged with its pid, killed, and replaced; parent, the other
// roles and their clients go on as if nothing had been.
//
// Files: main_test.go (who this process is), villain_test.go (the life of one),
// frame_test.go (the second implementation), campaign_test.go, broker_test.go and
// calm_test.go (the outside, with package tree), and a file for each group of
// offences.
package hostile
