// Command bench-peers measures two brokers beside each other on one machine:
// gatehouse (a) and nats-server (b), or any two commands.
//
//	round 1..n:  for each case:  start a, measure, stop a;  start b, measure, stop b
//	             new connections:  start a and b;  measure a, b, b, a, a, b, b, a;  stop both
//
//	                    +-- one client process (this one) ---------------+
//	broker process(es)  |  publisher ==16 B==> broker ==> subscriber(s)  |
//	   ^                |  requesters <=====> broker <====> responder    |
//	   |                |  requests to groups: unequal members, fanout   |
//	   |                |  idle connections, connect loop                |
//	   |                |  a requester beside 1,000 logins a second      |
//	   |                |  streams, idle, connect loop in TLS            |
//	   +-- /proc -------+  CPU and proportional set size of the tree     |
//	                    +------------------------------------------------+
//
// What makes the comparison fair:
//   - every measurement has a broker of its own, fresh, with its defaults, and
//     both brokers go through the same client code in the same run, in turns;
//   - the client is a raw protocol one: prebuilt publishes, frames counted by
//     their known length, so that the broker is the bottleneck;
//   - a publisher never has more than a window of undelivered bytes, so that no
//     broker's slow-consumer rule is what is measured;
//   - in TLS both show the same self-signed certificate, made for the run; the
//     client does a whole handshake of TLS 1.3 each time, with X25519 alone, and
//     compares the certificate with the one that it must be, which costs it less
//     than a chain. It still takes about as much of the machine as a broker, which
//     hides half of a difference: CPU per connection is shown for that;
//   - CPU and memory are those of all processes of the broker;
//   - where clients log in, each broker has a hash as its own command makes it (argon2id,
//     bcrypt), or the cheapest that it takes, and an nkey; logins are offered at one pace
//     whatever becomes of them, and all are accounted for: accepted, refused, unanswered;
//   - a message lost, doubled or changed is an error, not a number.
//
// Short requests are another comparison, in tables of its own: 1,000 requests for a TLS
// server, each of a program that is started for it, each of a process that is forked for
// it, and each on a connection of its own of one process, by tlsd, by stunnel (Debian's,
// where it is installed) and by crypto/tls. What stands between and the server are
// processes whose CPU is shown, as is that of the callers and of starting them. Programs
// of the first two ways are one of C (caller/c; of Go without a compiler) that does next
// to nothing, whose start is nevertheless most of what they cost, and no way can do
// anything about that: it is the other tables that compare the ways. stunnel goes on
// with TLS sessions of before by their tickets; crypto/tls in a process that has just
// begun knows of none.
//
// Medians over the rounds are compared; the least and the greatest value show
// the noise. nats-server is built from the module that go.mod names. -only tls
// runs what is about TLS, -only '^[^t]' the rest, -only short the short requests.
package main
