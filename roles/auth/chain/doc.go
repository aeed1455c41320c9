// Package chain finds out whether somebody vouches for a client's certificate: link by
// link to a public key that the configuration approves, which may be any key of the
// chain and need not be a root's.
//
//	leaf <--signed by-- intermediate <--signed by-- approved --not looked at-- root
//	  |                      |                         |
//	  |                      |              a certificate: as far as it goes itself,
//	  |                      |              its dates and constraints; or a bare key:
//	  |                      |              whatever it has signed
//	  |                revocation list
//	revocation list, usages
//
// Dates (at our clock), basic, path and name constraints, and critical extensions are
// crypto/x509's to check, on the very path to the approved key. Beyond that the leaf
// must say that it is for signing (keyUsage digitalSignature) and for clients
// (extKeyUsage clientAuth), every key must be one that package cms accepts, and where
// there are revocation lists each certificate below the approved key needs one of its
// issuer that is valid now: a list that has expired or is not there refuses.
//
// A leaf may be approved itself. As a certificate, it is then what the operator has
// seen; by its bare key, nobody but its holder vouches for what else stands in it, so
// that a client is then known by the key alone.
package chain
