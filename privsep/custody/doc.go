// Package custody keeps a private key: how it gets into memory, where it lies
// there, and the one thing that is done with it.
//
//	key file ──keyfile──┐
//	                    ├─> Memory (memfd_secret) ──Sign──> signature, or ticket
//	secret, read as ────┘        │
//	the key-access user          └─Release──> fd ──Adopt──> the same in a role
//
// The laws:
//
//   - The key is in Memory and nowhere else for longer than until the next
//     garbage collection: it is parsed from there, and everything that parsing
//     and signing left is erased (package erase; Tidy says when).
//   - A key has one purpose. A Key signs what CheckServerInput lets through and
//     nothing else: the server's CertificateVerify of TLS 1.3. A TicketKey signs
//     transfer tickets that it has made itself. There is no other method that
//     uses either. A Key that was released to another process, which can do with it
//     what it likes, signs the key exchange of TLS 1.2 there as well.
//   - Whoever reads the unlocking secret is the key-access user to the file
//     system for that long, on one thread, and is proved to be itself again on
//     every thread. Where that fails the process must end: ErrIdentity.
//   - What the machine cannot give (memfd_secret, locked pages) is named.
//     Nothing is weaker in silence.
//
// This package never decides who may have a signature; it never logs.
package custody
