// Package certname is how a configuration names a client's certificate: by subject, by
// an alternative name, or by key.
//
//	CN=alice,OU=Trading,O=ORGA     subject, RFC 4514 (the end of the DN comes first)
//	email:alice@orga.example       alternative name; also dns: and uri:
//	sha256:5f0c...                 hash of the public key (SubjectPublicKeyInfo)
//
// Each has one text that stands for it: Subject, SAN and Key give it for what somebody
// has written, Of for what a certificate has. Equal texts mean the same, and different
// names never have equal texts, so that nothing but texts need be compared.
//
// Attribute types may be written in any case, and blanks around separators mean nothing.
// Values count to the letter, whatever kind of string they are in the certificate. A
// name that holds anything but strings has no text.
package certname
