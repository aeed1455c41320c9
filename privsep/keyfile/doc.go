// Package keyfile reads and writes encrypted private keys: PKCS#8
// EncryptedPrivateKeyInfo (RFC 5958) under PBES2 (RFC 8018) in a PEM file, as
// `openssl pkcs8 -topk8 -v2 aes-256-cbc` makes them.
//
//	ENCRYPTED PRIVATE KEY
//	  PBES2 ─┬─ PBKDF2  HMAC-SHA-1, 224, 256, 384, 512
//	         │  scrypt  (RFC 7914)
//	         └─ AES-CBC 128, 192, 256
//	  ciphertext ──Decrypt──> PrivateKeyInfo, into memory of the caller's
//
// What is not listed is refused by name. The file is believed to be hostile
// until the secret has opened it: DER without a byte too many, and a bound on
// its size, on the time and on the memory that it may ask for.
//
// A plaintext is written to the memory that the caller gives and nowhere else;
// what the derivation leaves in the heap, the next garbage collection erases
// (package erase). CBC has no authentication: a wrong secret and a damaged
// file look alike and have one error.
package keyfile
