// Package cms reads the one form of CMS SignedData (RFC 5652) by which a client proves
// that it has the key of a certificate: detached, with signed attributes, by one
// signer, with the certificates inside.
//
//	ContentInfo signedData
//	  SignedData
//	    digestAlgorithms   one
//	    encapContentInfo   id-data, without content
//	    certificates       plain ones, the signer's among them, none twice
//	    crls               none
//	    signerInfos        one:
//	      sid                issuer and serial number, or subject key identifier
//	      signedAttrs        content-type id-data, message-digest, others ignored
//	      signature          over the DER of signedAttrs
//	      unsignedAttrs      none
//
//	der --Parse--> Message --Verify(content)--> the signer's key has signed it
//
// What other libraries let through is refused here: a signature over the bare content,
// which can be made out of one over attributes (draft-ietf-lamps-cms-euf-cma-signeddata),
// BER, bytes after the end, SHA-1, a second signer. A form that no signer makes is an
// error even where it would do no harm. Only the order of the certificates is free,
// since signers differ in it and nothing depends on it.
//
// The digests are SHA-256, 384 and 512; the keys RSA from 2048 bits (PKCS #1 v1.5, or
// PSS with a salt as long as the digest), P-256, P-384, P-521, and Ed25519 (RFC 8419).
// Certificates are crypto/x509's to parse and signatures its to verify.
//
// Whether anybody vouches for the signer's certificate is not asked here: package
// chain does that. Nothing in an error was chosen by the sender.
package cms
