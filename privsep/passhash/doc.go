// Package passhash is what is kept of a password: a hash that is slow to make, as
// text in a configuration.
//
//	$argon2id$v=19$m=65536,t=3,p=1$SALT$SUM    RFC 9106, in the PHC string format
//	$2b$11$SALT...SUM                          bcrypt, also $2a$ and $2y$
//
//	password --New--> text --Parse--> Hash --Check(password)--> yes or no
//
// What a hash costs is the one who wrote it to say, within bounds that Parse keeps:
// nobody's memory or processor is a hash's to take without one. Check compares in
// constant time, and what it leaves of a password is erased (package erase) but for
// what the threads of argon2 have in registers.
//
// An error never holds the text: whoever writes a password in the place of its hash
// does not want it in a log.
package passhash
